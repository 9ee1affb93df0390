// The small products inside attention of few query rows: a lane is a key of the scores and a channel of the results,
// so that no lane is idle. Numbers are summed in the order of cpu::Tile, with its bits. Same contracts, of other
// layouts. Included once for each kind of processor, after hwy/foreach_target.h.
#include <utility>

#include <grist/backends/cpu/tile-inl.hpp>

#if defined(GRIST_ROW_TILE) == defined(HWY_TARGET_TOGGLE)
#ifdef GRIST_ROW_TILE
#undef GRIST_ROW_TILE
#else
#define GRIST_ROW_TILE
#endif

HWY_BEFORE_NAMESPACE();
namespace grist::cpu::HWY_NAMESPACE {
namespace {

template <int Step, int... I>
HWY_INLINE void transpose_step(Lanes (&rows)[lane_count], std::integer_sequence<int, I...>) {
#pragma GCC unroll 16
  for (int i = 0; i < lane_count; ++i) {
    if ((i & Step) != 0) continue;
    const Lanes a = rows[i], b = rows[i + Step];
    rows[i] = __builtin_shufflevector(a, b, ((I & Step) == 0 ? I : lane_count + I - Step)...);
    rows[i + Step] = __builtin_shufflevector(a, b, ((I & Step) == 0 ? I + Step : lane_count + I)...);
  }
}

/// rows[i][j] becomes rows[j][i].
HWY_INLINE void transpose_block(Lanes (&rows)[lane_count]) {
  constexpr std::make_integer_sequence<int, lane_count> all;
  transpose_step<8>(rows, all);
  transpose_step<4>(rows, all);
  transpose_step<2>(rows, all);
  transpose_step<1>(rows, all);
}

/// Of R rows; L is the number of lanes that memory has. q [R, dim], keys [channels, keys], scores [R, keys], values
/// [keys, channels], results [R, channels]; m, sum and what queries see as of Tile. dim is a multiple of lane_count.
template <int R>
struct RowTile : Tile {
  static constexpr int row_keys = kv_page_rows;  // of a row of scores

  template <int L, class Team>
  static void clear(const Team&, float* to, Index floats) {
    std::fill(to, to + floats / L * R, 0.0F);
  }

  template <int L, class Team, class From>
  static void load_queries(const Team&, int dim, float scale, const From& from, float* q) {
    for (int r = 0; r < R; ++r) {
      const auto* elements = from(r);
      for (int c = 0; c < dim; ++c) q[r * dim + c] = static_cast<float>(elements[c]) * scale;
    }
  }

  template <class Team, class T>
  static void load_keys(const Team&, const T* from, Index stride, int rows, int, int channels, float* to) {
    for (int j = 0; j < rows; j += lane_count)
      for (int c = 0; c < channels; c += lane_count) {
        Lanes block[lane_count];
#pragma GCC unroll 16
        for (int i = 0; i < lane_count; ++i) block[i] = j + i < rows ? lanes_at(from + (j + i) * stride + c) : Lanes{};
        transpose_block(block);
#pragma GCC unroll 16
        for (int i = 0; i < lane_count; ++i) store(to + (c + i) * row_keys + j, block[i]);
      }
  }

  template <int L, class Team>
  static void query_scores(const Team&, const float* k, int, int count, const float* q, int dim, float, float* s) {
    int j = 0;
    for (; j + width <= count; j += width) product<width, false, R>(q, dim, 1, k + j, dim, s + j, row_keys, row_keys);
    for (; j < count; j += lane_count) product<lane_count, false, R>(q, dim, 1, k + j, dim, s + j, row_keys, row_keys);
  }

  template <int L, class Team>
  static void scale_rows(const Team&, float* s, int count, const float* factors) {
    for_scores(s, count, [&](int, int j, Lanes score) HWY_ATTR { return score * lanes_at(factors + j); });
  }

  template <int L, class Team>
  static void cap(const Team&, float* s, int count, float softcap) {
    const Lanes cap = broadcast(softcap);
    for_scores(s, count, [&](int, int, Lanes score) HWY_ATTR { return cap * tanh(score / cap); });
  }

  template <int L, class Team>
  static void add_slope(const Team&, float* s, int count, int first_key, const float* position, const float* slope) {
    for_scores(s, count, [&](int r, int j, Lanes score) HWY_ATTR {
      return fma(broadcast(slope[r]), keys_from(first_key + j) - position[r], score);
    });
  }

  template <int L, class Team>
  static void mask(const Team&, float* s, int count, int first_key, const float* low, const float* high, float masked) {
    for_scores(s, count, [&](int r, int j, Lanes score) HWY_ATTR {
      const Lanes key = keys_from(first_key + j);
      score = key < low[r] ? broadcast(masked) : score;
      return key > high[r] ? broadcast(masked) : score;
    });
  }

  template <int L, class Team>
  static void softmax(const Team& team, float* s, int count, const float* factors, float* m, float* sum,
                      float* correction) {
    alignas(64) float highest[lane_count] = {};
    float added[R] = {};
    for (int r = 0; r < R; ++r) {
      float* const row = s + r * row_keys;
      std::fill(row + count, row + (count + lane_count - 1) / lane_count * lane_count, attention_kernel::masked);
      Lanes most = broadcast(m[r]);
      for (int j = 0; j < count; j += lane_count) most = max(most, lanes_at(row + j));
      highest[r] = most[0];
      for (int i = 1; i < lane_count; ++i) highest[r] = highest[r] > most[i] ? highest[r] : most[i];
      for (int j = 0; j < count; j += lane_count) store(row + j, exp_negative(lanes_at(row + j) - highest[r]));
    }
    for (int j = 0; j < count; ++j)
      for (int r = 0; r < R; ++r) added[r] += s[r * row_keys + j];
    if (factors != nullptr) scale_rows<L>(team, s, count, factors);
    store(correction, exp_negative(lanes_at(m) - lanes_at(highest)));
    for (int r = 0; r < R; ++r) {
      m[r] = highest[r];
      sum[r] = fma(broadcast(sum[r]), broadcast(correction[r]), broadcast(added[r]))[0];
    }
  }

  template <int L, class Team>
  static void accumulate(const Team&, const float* v, int channels, int count, const float* p, const float* correction,
                         float* o) {
    for (int r = 0; r < R; ++r)
      for (int c = r * channels; c < (r + 1) * channels; c += lane_count)
        store(o + c, lanes_at(o + c) * correction[r]);
    int c = 0;
    for (; c + width <= channels; c += width)
      product<width, true, R>(p, row_keys, 1, v + c, count, o + c, channels, channels);
    for (; c < channels; c += lane_count)
      product<lane_count, true, R>(p, row_keys, 1, v + c, count, o + c, channels, channels);
  }

  template <int L, class Team>
  static void merge(const Team&, const attention_kernel::Result& next, int channels,
                    const attention_kernel::Result& total) {
    for (int r = 0; r < R; ++r) {
      const bool grows = next.m[r] > total.m[r];
      const Lanes factor = exp_negative(broadcast(grows ? total.m[r] - next.m[r] : next.m[r] - total.m[r]));
      const auto merged = [&](Lanes x, Lanes y) HWY_ATTR { return fma(grows ? y : x, factor, grows ? x : y); };
      for (int c = r * channels; c < (r + 1) * channels; c += lane_count)
        store(total.o + c, merged(lanes_at(next.o + c), lanes_at(total.o + c)));
      total.sum[r] = merged(broadcast(next.sum[r]), broadcast(total.sum[r]))[0];
      if (grows) total.m[r] = next.m[r];
    }
  }

  template <int L, class Team, class To>
  static void store_rows(const Team&, int count, int dim, const attention_kernel::Result& total, const To& to) {
    for (int r = 0; r < count; ++r) {
      auto* elements = to(r);
      using X = std::remove_reference_t<decltype(*elements)>;
      for (int c = 0; c < dim; ++c) elements[c] = X(total.o[r * dim + c] / total.sum[r]);
    }
  }

private:
  static constexpr int width = (R > 4 ? 2 : 4) * lane_count;  // of rows whose sums fit the registers

  /// Of key `first` and those behind it.
  static Lanes keys_from(int first) {
    Lanes keys;
    for (int i = 0; i < lane_count; ++i) keys[i] = static_cast<float>(first + i);
    return keys;
  }

  /// Each vector of scores becomes f(row, first key, vector).
  template <class F>
  static void for_scores(float* s, int count, F&& f) {
    for (int r = 0; r < R; ++r)
      for (int j = 0; j < count; j += lane_count)
        store(s + r * row_keys + j, f(r, j, lanes_at(s + r * row_keys + j)));
  }
};

/// Base, that takes few rows by the smallest TileOf<rows> where vectors are as long as Lanes and head_dim is a
/// multiple of `unit`.
template <class Base, template <int> class TileOf, int unit>
struct TileOfAnyRows : Base {
  /// Calls f(tile) where there is one for so few rows.
  template <class F>
  static bool with_few_rows(int rows, int head_dim, F&& f) {
    if (!wide || head_dim % unit != 0 || rows > 8) return false;
    if (rows == 1)
      f(TileOf<1>());
    else if (rows <= 4)
      f(TileOf<4>());
    else
      f(TileOf<8>());
    return true;
  }
};

}  // namespace
}  // namespace grist::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
