// The small products and elementwise steps inside attention, in plain Kokkos nested parallelism: a lane is one query
// row, and elements are split over the threads of a team, in products by blocks that a thread keeps in registers. Each
// element is computed in one order, whatever the number of lanes; fma is spelled out where a compiler could join a
// product and a sum in one place and not in another.
#pragma once

#include <grist/backends/attention_backward_kernel.hpp>

namespace grist::portable {

struct Tile {
  template <int L, class Team, class F>
  KOKKOS_INLINE_FUNCTION static void for_lanes(const Team& team, F&& f) {
    Kokkos::parallel_for(Kokkos::TeamVectorRange(team, L), f);
    team.team_barrier();
  }

  /// `floats` zeros, a multiple of L.
  template <int L, class Team>
  KOKKOS_INLINE_FUNCTION static void clear(const Team& team, float* to, Index floats) {
    for_lanes<L>(team, [&](int l) {
      for (Index i = l; i < floats; i += L) to[i] = 0;
    });
  }

  /// f(row, lane) for `rows` rows.
  template <int L, class Team, class F>
  KOKKOS_INLINE_FUNCTION static void for_elements(const Team& team, int rows, F&& f) {
    Kokkos::parallel_for(Kokkos::TeamVectorRange(team, rows * L), [&](int i) { f(i / L, i % L); });
    team.team_barrier();
  }

  /// q [dim, L] = `scale` times the dim elements from from(lane) on.
  template <int L, class Team, class From>
  KOKKOS_INLINE_FUNCTION static void load_queries(const Team& team, int dim, float scale, const From& from, float* q) {
    for_lanes<L>(team, [&](int l) {
      const auto* elements = from(l);
      for (int c = 0; c < dim; ++c) q[c * L + l] = static_cast<float>(elements[c]) * scale;
    });
  }

  /// The dim elements from to(lane) on = o / sum, for `count` lanes.
  template <int L, class Team, class To>
  KOKKOS_INLINE_FUNCTION static void store_rows(const Team& team, int count, int dim,
                                                const attention_kernel::Result& total, const To& to) {
    for_lanes<L>(team, [&](int l) {
      if (l >= count) return;
      auto* elements = to(l);
      using X = std::remove_reference_t<decltype(*elements)>;
      for (int c = 0; c < dim; ++c) elements[c] = X(total.o[c * L + l] / total.sum[l]);
    });
  }

  template <class Team, class T>
  KOKKOS_INLINE_FUNCTION static void load_keys(const Team& team, const T* from, Index stride, int rows, int width,
                                               int channels, float* to) {
    load(team, from, stride, rows, width, channels, to);
  }
  template <class Team, class T>
  KOKKOS_INLINE_FUNCTION static void load_values(const Team& team, const T* from, Index stride, int rows, int width,
                                                 int channels, float* to) {
    load(team, from, stride, rows, width, channels, to);
  }
  /// to [rows, channels] = from [rows, stride], as floats; `width` of the channels are there, the others are zeros.
  template <class Team, class T>
  KOKKOS_INLINE_FUNCTION static void load(const Team& team, const T* from, Index stride, int rows, int width,
                                          int channels, float* to) {
    Kokkos::parallel_for(Kokkos::TeamVectorRange(team, rows * channels), [&](int i) {
      const int row = i / channels, c = i % channels;
      to[i] = c < width ? static_cast<float>(from[row * stride + c]) : 0.0F;
    });
    team.team_barrier();
  }

  /// Announces a load. Devices hide latency by their many threads.
  template <class T>
  KOKKOS_INLINE_FUNCTION static void prefetch(const T*, Index, int, int) {}

  /// s [count, L] = k [count, channels] q [dim, L].
  template <int L, class Team>
  KOKKOS_INLINE_FUNCTION static void scores(const Team& team, const float* k, int channels, int count, const float* q,
                                            int dim, float* s) {
    for_blocks<L>(team, count, [&](int j, int rows, int l) {
      Block<lanes_of<L>> dot;
      for (int c = 0; c < dim; c += 4) {
        Pack<4> of[4];
        for (int r = 0; r < 4; ++r) of[r] = pack_at<4>(k + (j + (r < rows ? r : 0)) * channels + c);
        for (int d = 0; d < 4 && c + d < dim; ++d) {
          const float factors[4] = {of[0].of[d], of[1].of[d], of[2].of[d], of[3].of[d]};
          dot.add(factors, pack_at<lanes_of<L>>(q + (c + d) * L + l));
        }
      }
      for (int r = 0; r < rows; ++r) pack_at<lanes_of<L>>(s + (j + r) * L + l) = dot.row[r];
    });
  }

  /// s = scale k q, where load_queries has scaled q.
  template <int L, class Team>
  KOKKOS_INLINE_FUNCTION static void query_scores(const Team& team, const float* k, int channels, int count,
                                                  const float* q, int dim, float, float* s) {
    scores<L>(team, k, channels, count, q, dim, s);
  }

  /// s [count, L] = s factors [count].
  template <int L, class Team>
  KOKKOS_INLINE_FUNCTION static void scale_rows(const Team& team, float* s, int count, const float* factors) {
    for_elements<L>(team, count, [&](int j, int l) { s[j * L + l] *= factors[j]; });
  }

  /// s = softcap tanh(s / softcap).
  template <int L, class Team>
  KOKKOS_INLINE_FUNCTION static void cap(const Team& team, float* s, int count, float softcap) {
    for_elements<L>(team, count, [&](int j, int l) { s[j * L + l] = softcap * Kokkos::tanh(s[j * L + l] / softcap); });
  }

  /// s += slope (key - position).
  template <int L, class Team>
  KOKKOS_INLINE_FUNCTION static void add_slope(const Team& team, float* s, int count, int first_key,
                                               const float* position, const float* slope) {
    for_elements<L>(team, count, [&](int j, int l) {
      s[j * L + l] = Kokkos::fma(slope[l], static_cast<float>(first_key + j) - position[l], s[j * L + l]);
    });
  }

  /// Keeps the scores of keys first_key + j with low <= key <= high of each lane, masks the others.
  template <int L, class Team>
  KOKKOS_INLINE_FUNCTION static void mask(const Team& team, float* s, int count, int first_key, const float* low,
                                          const float* high, float masked) {
    for_elements<L>(team, count, [&](int j, int l) {
      const float key = static_cast<float>(first_key + j);
      if (key < low[l] || key > high[l]) s[j * L + l] = masked;
    });
  }

  /// One step of the online softmax: m [L] grows to the new maximum, s becomes e^(s - m), sum and correction follow.
  /// Then s is times factors [count], if there are any.
  template <int L, class Team>
  KOKKOS_INLINE_FUNCTION static void softmax(const Team& team, float* s, int count, const float* factors, float* m,
                                             float* sum, float* correction) {
    for_lanes<L>(team, [&](int l) {
      float highest = m[l];
      for (int j = 0; j < count; ++j) highest = Kokkos::fmax(highest, s[j * L + l]);
      correction[l] = Kokkos::exp(m[l] - highest);
      float added = 0;
      for (int j = 0; j < count; ++j) {
        const float p = Kokkos::exp(s[j * L + l] - highest);
        s[j * L + l] = factors == nullptr ? p : p * factors[j];
        added += p;
      }
      m[l] = highest;
      sum[l] = Kokkos::fma(sum[l], correction[l], added);
    });
  }

  /// o [channels, L] = o * correction [L] + v [count, channels]^T p [count, L].
  template <int L, class Team>
  KOKKOS_INLINE_FUNCTION static void accumulate(const Team& team, const float* v, int channels, int count,
                                                const float* p, const float* correction, float* o) {
    add_product<L>(team, v, channels, count, p, o, [&](float value, int l) { return value * correction[l]; });
  }

  /// Of scores s and of dp = v dout, both [count, L] for the keys first_key ...: s = p = e^(s - lse), with soft cap,
  /// slopes and masks; dp = ds, the gradient of the scores before them.
  template <int L, class Team>
  KOKKOS_INLINE_FUNCTION static void score_gradients(const Team& team, float* s, float* dp, int count, int first_key,
                                                     const attention_kernel::LaneFacts& facts, float softcap) {
    for_elements<L>(team, count, [&](int j, int l) {
      const float key = static_cast<float>(first_key + j);
      const bool hidden = key < facts.low[l] || key > facts.high[l];
      float value = s[j * L + l], steep = 1;
      if (softcap > 0) {
        const float capped = Kokkos::tanh(value / softcap);
        value = softcap * capped;
        steep = Kokkos::fma(-capped, capped, 1.0F);
      }
      value = Kokkos::fma(facts.slope[l], key - facts.position[l], value) - facts.lse[l];
      const float p = Kokkos::exp(value > 0 ? 0.0F : value);  // above 0 by rounding alone
      s[j * L + l] = hidden ? 0.0F : p;
      dp[j * L + l] = hidden ? 0.0F : p * (dp[j * L + l] - facts.row_sum[l]) * steep;
    });
  }

  /// to [channels, L] = from [L, channels].
  template <int L, class Team>
  KOKKOS_INLINE_FUNCTION static void transpose(const Team& team, const float* from, int channels, float* to) {
    for_elements<L>(team, channels, [&](int c, int l) { to[c * L + l] = from[l * channels + c]; });
  }

  /// to [count, channels] += s [count, L] from [rows, channels], rows <= L.
  template <int L, class Team>
  KOKKOS_INLINE_FUNCTION static void add_rows(const Team& team, const float* s, int count, int rows, const float* from,
                                              int channels, float* to) {
    const int across = channels / 4, down = (count + 3) / 4;
    Kokkos::parallel_for(Kokkos::TeamVectorRange(team, down * across), [&](int i) {
      const int j = i / across * 4, c = i % across * 4, there = count - j < 4 ? count - j : 4;
      Block<4> sum;
      for (int r = 0; r < there; ++r) sum.row[r] = pack_at<4>(to + (j + r) * channels + c);
      for (int l = 0; l < rows; ++l) {
        float of[4];
        for (int r = 0; r < 4; ++r) of[r] = s[(j + (r < there ? r : 0)) * L + l];
        sum.add(of, pack_at<4>(from + l * channels + c));
      }
      for (int r = 0; r < there; ++r) pack_at<4>(to + (j + r) * channels + c) = sum.row[r];
    });
    team.team_barrier();
  }

  /// to [channels, L] += k [count, channels]^T s [count, L].
  template <int L, class Team>
  KOKKOS_INLINE_FUNCTION static void add_columns(const Team& team, const float* k, int channels, int count,
                                                 const float* s, float* to) {
    add_product<L>(team, k, channels, count, s, to, [](float value, int) { return value; });
  }

  /// total = both results together. The one with the smaller maximum is scaled by e^(difference), the other one kept.
  template <int L, class Team>
  KOKKOS_INLINE_FUNCTION static void merge(const Team& team, const attention_kernel::Result& next, int channels,
                                           const attention_kernel::Result& total) {
    for_elements<L>(team, channels, [&](int c, int l) {
      total.o[c * L + l] = merged(next.m[l], next.o[c * L + l], total.m[l], total.o[c * L + l]);
    });
    for_lanes<L>(team, [&](int l) {
      total.sum[l] = merged(next.m[l], next.sum[l], total.m[l], total.sum[l]);
      total.m[l] = next.m[l] > total.m[l] ? next.m[l] : total.m[l];
    });
  }

private:
  /// Neighbours that are loaded and stored at once: their place is a multiple of their size.
  template <int N>
  struct alignas(4 * N) Pack {
    float of[N];
  };
  template <int N>
  KOKKOS_INLINE_FUNCTION static const Pack<N>& pack_at(const float* from) {
    return *reinterpret_cast<const Pack<N>*>(from);
  }
  template <int N>
  KOKKOS_INLINE_FUNCTION static Pack<N>& pack_at(float* from) {
    return *reinterpret_cast<Pack<N>*>(from);
  }

  /// What a thread computes of a product: four rows of N neighbours.
  template <int N>
  struct Block {
    Pack<N> row[4] = {};
    KOKKOS_INLINE_FUNCTION void add(const float* factors, const Pack<N>& values) {
      for (int r = 0; r < 4; ++r)
        for (int n = 0; n < N; ++n) row[r].of[n] = Kokkos::fma(factors[r], values.of[n], row[r].of[n]);
    }
  };

  /// Lanes of a block: few where there are few, so that there is a block for each thread of a team.
  template <int L>
  static constexpr int lanes_of = L >= 64 ? 4 : 2;

  /// f(first row, its rows, first lane) for each block of [rows, L].
  template <int L, class Team, class F>
  KOKKOS_INLINE_FUNCTION static void for_blocks(const Team& team, int rows, F&& f) {
    constexpr int across = L / lanes_of<L>;
    Kokkos::parallel_for(Kokkos::TeamVectorRange(team, (rows + 3) / 4 * across), [&](int i) {
      const int row = i / across * 4;
      f(row, rows - row < 4 ? rows - row : 4, i % across * lanes_of<L>);
    });
    team.team_barrier();
  }

  /// to [channels, L] = first(to, lane) + k [count, channels]^T s [count, L]; channels are a multiple of 4.
  template <int L, class Team, class F>
  KOKKOS_INLINE_FUNCTION static void add_product(const Team& team, const float* k, int channels, int count,
                                                 const float* s, float* to, F&& first) {
    for_blocks<L>(team, channels, [&](int c, int, int l) {
      Block<lanes_of<L>> sum;
      for (int r = 0; r < 4; ++r) {
        const auto& before = pack_at<lanes_of<L>>(to + (c + r) * L + l);
        for (int n = 0; n < lanes_of<L>; ++n) sum.row[r].of[n] = first(before.of[n], l + n);
      }
      for (int j = 0; j < count; ++j)
        sum.add(pack_at<4>(k + j * channels + c).of, pack_at<lanes_of<L>>(s + j * L + l));
      for (int r = 0; r < 4; ++r) pack_at<lanes_of<L>>(to + (c + r) * L + l) = sum.row[r];
    });
  }

  KOKKOS_INLINE_FUNCTION static float merged(float next_m, float next, float total_m, float total) {
    const bool grows = next_m > total_m;
    const float factor = Kokkos::exp(grows ? total_m - next_m : next_m - total_m);
    return Kokkos::fma(grows ? total : next, factor, grows ? next : total);
  }
};

}  // namespace grist::portable
