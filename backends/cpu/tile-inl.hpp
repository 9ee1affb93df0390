// The small products inside attention on a processor with vector registers: a team is one thread, a lane one query row.
// Blocks of four keys (or channels) by all lanes stay in registers. Same contracts as portable/tile.hpp. Included once
// for each kind of processor, after hwy/foreach_target.h.
#include <grist/backends/attention_backward_kernel.hpp>

#include <algorithm>

#include <grist/backends/cpu/lanes-inl.hpp>

#if defined(GRIST_TILE) == defined(HWY_TARGET_TOGGLE)
#ifdef GRIST_TILE
#undef GRIST_TILE
#else
#define GRIST_TILE
#endif

HWY_BEFORE_NAMESPACE();
namespace grist::cpu::HWY_NAMESPACE {
namespace {

/// `load`, which Tile::load hides.
template <class T>
HWY_INLINE Lanes lanes_at(const T* from) {
  return load(from);
}

struct Tile {
  template <int L, class Team, class F>
  static void for_lanes(const Team&, F&& f) {
    for (int l = 0; l < L; ++l) f(l);
  }

  template <int L, class Team>
  static void clear(const Team&, float* to, Index floats) {
    std::fill(to, to + floats, 0.0F);
  }

  template <int L, class Team, class From>
  static void load_queries(const Team&, int dim, float scale, const From& from, float* q) {
    for (int l = 0; l < L; ++l) {
      const auto* elements = from(l);
      for (int c = 0; c < dim; ++c) q[c * L + l] = static_cast<float>(elements[c]) * scale;
    }
  }

  template <int L, class Team, class To>
  static void store_rows(const Team&, int count, int dim, const attention_kernel::Result& total, const To& to) {
    for (int l = 0; l < L; l += lane_count) {
      const Lanes sum = lanes_at(total.sum + l);
      for (int c = 0; c < dim; ++c) store(total.o + c * L + l, lanes_at(total.o + c * L + l) / sum);
    }
    for (int l = 0; l < count; ++l) {
      auto* elements = to(l);
      for (int c = 0; c < dim; ++c) elements[c] = std::remove_reference_t<decltype(*elements)>(total.o[c * L + l]);
    }
  }

  template <class Team, class T>
  static void load_keys(const Team& team, const T* from, Index stride, int rows, int width, int channels, float* to) {
    load(team, from, stride, rows, width, channels, to);
  }
  template <class Team, class T>
  static void load_values(const Team& team, const T* from, Index stride, int rows, int width, int channels, float* to) {
    load(team, from, stride, rows, width, channels, to);
  }

  // rows come in fours too: those after the last one are zeros, and their scores are not used.
  template <class Team, class T>
  static void load(const Team&, const T* from, Index stride, int rows, int width, int channels, float* to) {
    if (stride == channels && width == channels) {
      load_row(from, rows * width, to);
    } else {
      for (int r = 0; r < rows; ++r) {
        load_row(from + r * stride, width, to + r * channels);
        std::fill(to + r * channels + width, to + (r + 1) * channels, 0.0F);
      }
    }
    std::fill(to + rows * channels, to + (rows + 3) / 4 * 4 * channels, 0.0F);
  }

  // Pages end every few kilobytes, where a processor's own prefetching begins anew.
  template <class T>
  static void prefetch(const T* from, Index stride, int rows, int width) {
    constexpr int line = 64 / sizeof(T);
    const Index row = stride == width ? Index{rows} * width : width;
    for (Index r = 0; r < (stride == width ? 1 : rows); ++r)
      for (Index i = 0; i < row; i += line) __builtin_prefetch(from + r * stride + i);
  }

  template <int L, class Team>
  static void scores(const Team&, const float* k, int channels, int count, const float* q, int dim, float* s) {
    int j = 0;
    for (; j + rows_of<L> <= count; j += rows_of<L>)
      product<L, false, rows_of<L>>(k + j * channels, channels, 1, q, dim, s + j * L);
    for (; j < count; j += 4) product<L, false>(k + j * channels, channels, 1, q, dim, s + j * L);
  }

  // load_queries scaled q.
  template <int L, class Team>
  static void query_scores(const Team& team, const float* k, int channels, int count, const float* q, int dim, float,
                           float* s) {
    scores<L>(team, k, channels, count, q, dim, s);
  }

  template <int L, class Team>
  static void scale_rows(const Team&, float* s, int count, const float* factors) {
    for (int j = 0; j < count; ++j)
      for (int l = 0; l < L; l += lane_count) store(s + j * L + l, lanes_at(s + j * L + l) * factors[j]);
  }

  template <int L, class Team>
  static void cap(const Team&, float* s, int count, float softcap) {
    const Lanes cap = broadcast(softcap);
    for (int i = 0; i < count * L; i += lane_count) store(s + i, cap * tanh(lanes_at(s + i) / cap));
  }

  template <int L, class Team>
  static void add_slope(const Team&, float* s, int count, int first_key, const float* position, const float* slope) {
    for (int l = 0; l < L; l += lane_count) {
      const Lanes from = lanes_at(position + l), factor = lanes_at(slope + l);
      for (int j = 0; j < count; ++j) {
        const Lanes distance = broadcast(static_cast<float>(first_key + j)) - from;
        store(s + j * L + l, fma(factor, distance, lanes_at(s + j * L + l)));
      }
    }
  }

  template <int L, class Team>
  static void mask(const Team&, float* s, int count, int first_key, const float* low, const float* high, float masked) {
    for (int l = 0; l < L; l += lane_count) {
      const Lanes lowest = lanes_at(low + l), highest = lanes_at(high + l);
      for (int j = 0; j < count; ++j) {
        const Lanes key = broadcast(static_cast<float>(first_key + j));
        Lanes value = lanes_at(s + j * L + l);
        value = key < lowest ? broadcast(masked) : value;
        store(s + j * L + l, key > highest ? broadcast(masked) : value);
      }
    }
  }

  template <int L, class Team>
  static void softmax(const Team&, float* s, int count, const float* factors, float* m, float* sum,
                      float* correction) {
    for (int l = 0; l < L; l += lane_count) {
      const Lanes before = lanes_at(m + l);
      Lanes highest = before;
      for (int j = 0; j < count; ++j) highest = max(highest, lanes_at(s + j * L + l));
      const Lanes corrected = exp_negative(before - highest);
      Lanes added = {};
      for (int j = 0; j < count; ++j) {
        const Lanes p = exp_negative(lanes_at(s + j * L + l) - highest);
        store(s + j * L + l, factors == nullptr ? p : p * factors[j]);
        added += p;
      }
      store(m + l, highest);
      store(correction + l, corrected);
      store(sum + l, fma(lanes_at(sum + l), corrected, added));
    }
  }

  template <int L, class Team>
  static void accumulate(const Team& team, const float* v, int channels, int count, const float* p,
                         const float* correction, float* o) {
    for (int l = 0; l < L; l += lane_count) {
      const Lanes factor = lanes_at(correction + l);
      for (int c = 0; c < channels; ++c) store(o + c * L + l, lanes_at(o + c * L + l) * factor);
    }
    add_columns<L>(team, v, channels, count, p, o);
  }

  template <int L, class Team>
  static void score_gradients(const Team&, float* s, float* dp, int count, int first_key,
                              const attention_kernel::LaneFacts& facts, float softcap) {
    if (softcap > 0)
      score_gradients<L, true>(s, dp, count, first_key, facts, softcap);
    else
      score_gradients<L, false>(s, dp, count, first_key, facts, softcap);
  }

  template <int L, class Team>
  static void transpose(const Team&, const float* from, int channels, float* to) {
    for (int c = 0; c < channels; c += 4)  // lines of the cache are read once
      for (int l = 0; l < L; ++l)
        for (int i = 0; i < 4; ++i) to[(c + i) * L + l] = from[l * channels + c + i];
  }

  template <int L, class Team>
  static void add_rows(const Team&, const float* s, int count, int rows, const float* from, int channels, float* to) {
    for (int j = 0; j < count; j += 4) {
      int c = 0;
      for (; c + 64 <= channels; c += 64)
        product<64, true>(s + j * L, L, 1, from + c, rows, to + j * channels + c, channels, channels);
      for (; c < channels; c += lane_count)
        product<lane_count, true>(s + j * L, L, 1, from + c, rows, to + j * channels + c, channels, channels);
    }
  }

  template <int L, class Team>
  static void add_columns(const Team&, const float* k, int channels, int count, const float* s, float* to) {
    int c = 0;
    for (; c + rows_of<L> <= channels; c += rows_of<L>)
      product<L, true, rows_of<L>>(k + c, 1, channels, s, count, to + c * L);
    for (; c < channels; c += 4) product<L, true>(k + c, 1, channels, s, count, to + c * L);
  }

  template <int L, class Team>
  static void merge(const Team&, const attention_kernel::Result& next, int channels,
                    const attention_kernel::Result& total) {
    for (int l = 0; l < L; l += lane_count) {
      const Lanes next_m = lanes_at(next.m + l), total_m = lanes_at(total.m + l);
      const auto grows = next_m > total_m;
      const Lanes factor = exp_negative(grows ? total_m - next_m : next_m - total_m);
      const auto merged = [&](const float* a, float* b) HWY_ATTR {
        const Lanes x = lanes_at(a), y = lanes_at(b);
        store(b, fma(grows ? y : x, factor, grows ? x : y));
      };
      for (int c = 0; c < channels; ++c) merged(next.o + c * L + l, total.o + c * L + l);
      merged(next.sum + l, total.sum + l);
      store(total.m + l, grows ? next_m : total_m);
    }
  }

private:
  template <class T>
  static void load_row(const T* from, int size, float* to) {
    int i = 0;
    for (; i + lane_count <= size; i += lane_count) store(to + i, lanes_at(from + i));
    for (; i < size; ++i) to[i] = static_cast<float>(from[i]);
  }

  template <int L, bool Capped>
  static void score_gradients(float* s, float* dp, int count, int first_key, const attention_kernel::LaneFacts& facts,
                              float softcap) {
    const Lanes none = {}, cap = broadcast(softcap);
    for (int l = 0; l < L; l += lane_count) {
      const Lanes low = lanes_at(facts.low + l), high = lanes_at(facts.high + l), lse = lanes_at(facts.lse + l);
      const Lanes position = lanes_at(facts.position + l), slope = lanes_at(facts.slope + l);
      const Lanes row_sum = lanes_at(facts.row_sum + l);
      for (int j = 0; j < count; ++j) {
        const Lanes key = broadcast(static_cast<float>(first_key + j));
        Lanes value = lanes_at(s + j * L + l), steep = broadcast(1.0F);
        if constexpr (Capped) {
          const Lanes capped = tanh(value / cap);
          value = cap * capped;
          steep = fma(-capped, capped, steep);
        }
        value = fma(slope, key - position, value) - lse;
        Lanes p = exp_negative(value > 0.0F ? none : value);  // above 0 by rounding alone
        Lanes ds = p * (lanes_at(dp + j * L + l) - row_sum) * steep;
        p = key < low ? none : p;
        ds = key < low ? none : ds;
        store(s + j * L + l, key > high ? none : p);
        store(dp + j * L + l, key > high ? none : ds);
      }
    }
  }

  /// Rows of a product whose sums fill the registers.
  template <int L>
  static constexpr int rows_of = wide && L == lane_count ? 16 : 4;

protected:
  /// out [rows, L] (+)= a [rows, inner] b [inner, L], a's element (r, i) at a[r * row_stride + i * stride]. Tile has
  /// four rows or more: what it loads is padded to four.
  template <int L, bool Add, int rows = 4>
  static void product(const float* a, int row_stride, int stride, const float* b, int inner, float* out,
                      int b_stride = L, int out_stride = L) {
    constexpr int vectors = L / lane_count;
    Lanes acc[rows][vectors];
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) acc[r][v] = Add ? lanes_at(out + r * out_stride + v * lane_count) : Lanes{};
    for (int i = 0; i < inner; ++i) {
      Lanes column[vectors];
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) column[v] = lanes_at(b + i * b_stride + v * lane_count);
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) {
        const Lanes factor = broadcast(a[r * row_stride + i * stride]);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) acc[r][v] = fma(factor, column[v], acc[r][v]);
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) store(out + r * out_stride + v * lane_count, acc[r][v]);
  }
};

}  // namespace
}  // namespace grist::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
