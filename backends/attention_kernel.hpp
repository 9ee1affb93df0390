// Attention's work on one item, written once over a Tile: the small products and elementwise steps of a machine
// (portable/tile.hpp, cpu/tile-inl.hpp). A lane is a query row; L lanes of a tile are computed, and idle ones are not
// stored.
#pragma once

#include <grist/backends/attention.hpp>

#include <type_traits>

namespace grist::attention_kernel {

// Finite, so that the difference of two masked scores is 0 and not NaN: what a lane sums before its first visible key
// is wiped out by the factor e^(masked - real) = 0.
constexpr float masked = -1e30F;

/// Channels of a head in a work item's memory: a multiple of four, so that a tile computes all of them in the same way.
KOKKOS_INLINE_FUNCTION constexpr int channels_of(int head_dim) { return (head_dim + 3) / 4 * 4; }

/// Softmax over some keys: o [channels, L] = sum of e^(s - m) v, sum [L] = sum of e^(s - m), m [L] the largest s.
struct Result {
  float* m;
  float* sum;
  float* o;
};

/// Floats of a Result.
KOKKOS_INLINE_FUNCTION constexpr Index result_floats(int head_dim, int lanes) {
  return Index{channels_of(head_dim) + 2} * lanes;
}
template <int L>
KOKKOS_INLINE_FUNCTION Result result_at(float* memory) {
  return {memory, memory + L, memory + 2 * L};
}

/// Floats of a work item's own memory: two results, q [head_dim, lanes], scores [keys, lanes], keys or values
/// [keys, channels], correction, low, high, position, slope [lanes].
KOKKOS_INLINE_FUNCTION constexpr Index own_floats(int head_dim) {
  constexpr int lanes = attention_rows;
  return 2 * result_floats(head_dim, lanes) + Index{head_dim} * lanes + kv_page_rows * lanes +
         Index{kv_page_rows} * channels_of(head_dim) + 5 * lanes;
}

/// Floats of the partial results in scratch.
inline Index partial_floats(const AttentionConfig& config, Index partials) {
  return partials * config.kv_heads * result_floats(config.head_dim, attention_few_rows);
}

/// f(pointer to the elements' type).
template <class F>
KOKKOS_INLINE_FUNCTION void with_type(KvType type, const void* data, F&& f) {
  if (type == KvType::f32) f(static_cast<const float*>(data));
  if (type == KvType::bf16) f(static_cast<const bf16*>(data));
  if (type == KvType::f16) f(static_cast<const f16*>(data));
  if (type == KvType::int8) f(static_cast<const std::int8_t*>(data));
}

template <class Tile>
struct Kernel {
  AttentionCall call;

  /// Computes items(work / kv_heads) for KV head work % kv_heads in `own` memory.
  template <class Team>
  KOKKOS_FUNCTION void item(const Team& team, Index work, float* own) const {
    const AttentionItem item = call.sequences.items(work / call.config.kv_heads);
    if (item.chunks == 0) return;
    const Rows rows = rows_of(item, static_cast<int>(work % call.config.kv_heads));
    with_tile(rows.count, [&]<class T, int L>(T, std::integral_constant<int, L>) {
      chunks<T, L>(team, item, rows, own);
    });
  }

  /// Combines the partial results of merges(work / kv_heads) for KV head work % kv_heads.
  template <class Team>
  KOKKOS_FUNCTION void merge(const Team& team, Index work) const {
    const AttentionItem item = call.sequences.merges(work / call.config.kv_heads);
    const Rows rows = rows_of(item, static_cast<int>(work % call.config.kv_heads));
    with_tile(rows.count, [&]<class T, int L>(T, std::integral_constant<int, L>) {
      merge_rows<T, L>(team, item, rows);
    });
  }

private:
  /// Rows of a tile, at most attention_rows of them.
  struct Rows {
    int sequence, kv_head, group, begin, count;
    int first_query;  // of the sequence: a row of q
    int past;         // keys before the sequence's first query
    int first, last;  // positions of the tile's first and last query
    int length;       // keys of the sequence
  };

  KOKKOS_FUNCTION Rows rows_of(const AttentionItem& item, int kv_head) const {
    const int group = call.config.heads / call.config.kv_heads, begin = item.row;
    const int first_query = call.sequences.query_begin(item.sequence);
    const int queries = call.sequences.query_begin(item.sequence + 1) - first_query;
    const int length = call.sequences.kv_length(item.sequence), past = length - queries;
    const int rest = queries * group - begin, count = rest < attention_rows ? rest : attention_rows;
    return {item.sequence,
            kv_head,
            group,
            begin,
            count,
            first_query,
            past,
            past + begin / group,
            past + (begin + count - 1) / group,
            length};
  }

  /// Calls f(tile, its lanes) for the tile that takes so many rows.
  template <class F>
  KOKKOS_FUNCTION void with_tile(int rows, F&& f) const {
    if constexpr (requires { Tile::with_few_rows(rows, 0, [](auto) {}); }) {
      const auto few = [&](auto tile) { f(tile, std::integral_constant<int, attention_few_rows>()); };
      if (Tile::with_few_rows(rows, call.config.head_dim, few)) return;
    }
    if (rows > attention_few_rows)
      f(Tile(), std::integral_constant<int, attention_rows>());
    else
      f(Tile(), std::integral_constant<int, attention_few_rows>());
  }

  KOKKOS_FUNCTION static int head_of(const Rows& rows, int row) { return rows.kv_head * rows.group + row % rows.group; }

  /// The first key that the query at `position` sees.
  KOKKOS_FUNCTION int first_seen(int position) const {
    const int window = call.config.window;
    return window > 0 && position >= window ? position - window + 1 : 0;
  }
  /// The last one.
  KOKKOS_FUNCTION int last_seen(int position, int length) const { return call.config.causal ? position : length - 1; }

  template <int L>
  KOKKOS_FUNCTION Result partial(Index at, int kv_head) const {
    constexpr int places = L / attention_few_rows;
    const Index floats = result_floats(call.config.head_dim, attention_few_rows);
    return result_at<L>(call.scratch.data() + (at * call.config.kv_heads + kv_head * places) * floats);
  }

  template <class T, int L, class Team>
  KOKKOS_FUNCTION void chunks(const Team& team, const AttentionItem& item, const Rows& rows, float* own) const {
    const int dim = call.config.head_dim;
    const Result total = result_at<L>(own);
    const Result chunk = result_at<L>(own + result_floats(dim, L));
    float* q = own + 2 * result_floats(dim, L);
    float* low = q + dim * L;
    float* high = low + L;
    float* position = high + L;
    float* slope = position + L;
    float* rest = slope + L;
    const auto row_of = [&](int l) { return rows.begin + (l < rows.count ? l : 0); };  // idle lanes repeat the first
    const auto load = [&](const auto* elements) {
      const auto from = [&](int l) {
        return elements + (rows.first_query + row_of(l) / rows.group) * call.q_stride +
               Index{head_of(rows, row_of(l))} * dim;
      };
      T::template load_queries<L>(team, dim, call.config.scale, from, q);
    };
    if (call.type == DType::f32)
      load(static_cast<const float*>(call.q));
    else
      load(static_cast<const bf16*>(call.q));
    T::template for_lanes<L>(team, [&](int l) {
      const int at = rows.past + row_of(l) / rows.group;
      low[l] = static_cast<float>(first_seen(at));
      high[l] = static_cast<float>(last_seen(at, rows.length));
      position[l] = static_cast<float>(at);
      slope[l] = call.config.alibi_slopes.size() != 0 ? call.config.alibi_slopes(head_of(rows, row_of(l))) : 0.0F;
    });
    for (int i = 0; i < item.chunks; ++i) {
      const Result result = item.partial >= 0
                                ? partial<L>(item.partial + Index{i} * (L / attention_few_rows), rows.kv_head)
                            : i == 0 ? total
                                     : chunk;
      one_chunk<T, L>(team, item.chunk + i, rows, q, low, high, position, slope, rest, result);
      if (item.partial < 0 && i > 0) T::template merge<L>(team, chunk, channels_of(dim), total);
    }
    if (item.partial < 0) store<T, L>(team, rows, total);
  }

  /// Scores of a chunk's keys, their softmax, the values' sum.
  template <class T, int L, class Team>
  KOKKOS_FUNCTION void one_chunk(const Team& team, int chunk, const Rows& rows, const float* q, const float* low,
                                 const float* high, const float* position, const float* slope, float* rest,
                                 const Result& result) const {
    const int dim = call.config.head_dim, channels = channels_of(dim);
    float* correction = rest;
    float* scores = correction + L;
    float* loaded = scores + kv_page_rows * L;
    T::template for_lanes<L>(team, [&](int l) {
      result.m[l] = masked;
      result.sum[l] = 0;
    });
    T::template clear<L>(team, result.o, Index{channels} * L);
    const int first = first_seen(rows.first) / kv_page_rows * kv_page_rows, end = last_seen(rows.last, rows.length) + 1;
    const int from = chunk * attention_chunk > first ? chunk * attention_chunk : first;
    const int to = (chunk + 1) * attention_chunk < end ? (chunk + 1) * attention_chunk : end;
    for (int key = from; key < to; key += kv_page_rows) {
      const int count = to - key < kv_page_rows ? to - key : kv_page_rows;
      const Index at = call.kv.offset(rows.sequence, rows.kv_head, key);
      with_type(call.kv.type, call.kv.keys, [&](const auto* k) {
        T::load_keys(team, k + at, call.kv.row_stride, count, dim, channels, loaded);
      });
      with_type(call.kv.type, call.kv.values,
                [&](const auto* v) { T::prefetch(v + at, call.kv.row_stride, count, dim); });
      T::template query_scores<L>(team, loaded, channels, count, q, dim, call.config.scale, scores);
      // Elements are loaded as they are stored: a row's scale is a factor of its score, and of its weight.
      if (const float* const of_keys = call.kv.scales(call.kv.keys, at))
        T::template scale_rows<L>(team, scores, count, of_keys);
      if (call.config.softcap > 0) T::template cap<L>(team, scores, count, call.config.softcap);
      if (call.config.alibi_slopes.size() != 0) T::template add_slope<L>(team, scores, count, key, position, slope);
      if (key + count - 1 > last_seen(rows.first, rows.length) || key < first_seen(rows.last))
        T::template mask<L>(team, scores, count, key, low, high, masked);
      const float* const of_values = call.kv.scales(call.kv.values, at);
      T::template softmax<L>(team, scores, count, of_values, result.m, result.sum, correction);
      with_type(call.kv.type, call.kv.values, [&](const auto* v) {
        T::load_values(team, v + at, call.kv.row_stride, count, dim, channels, loaded);
      });
      if (key + kv_page_rows < end) {
        const Index next = call.kv.offset(rows.sequence, rows.kv_head, key + kv_page_rows);
        const int rest_of_keys = end - key - kv_page_rows,
                  next_count = rest_of_keys < kv_page_rows ? rest_of_keys : kv_page_rows;
        with_type(call.kv.type, call.kv.keys,
                  [&](const auto* k) { T::prefetch(k + next, call.kv.row_stride, next_count, dim); });
      }
      T::template accumulate<L>(team, loaded, channels, count, scores, correction, result.o);
    }
  }

  template <class T, int L, class Team>
  KOKKOS_FUNCTION void merge_rows(const Team& team, const AttentionItem& item, const Rows& rows) const {
    const Result total = partial<L>(item.partial, rows.kv_head);
    for (int i = 1; i < item.chunks; ++i) {
      const Result next = partial<L>(item.partial + Index{i} * (L / attention_few_rows), rows.kv_head);
      T::template merge<L>(team, next, channels_of(call.config.head_dim), total);
    }
    store<T, L>(team, rows, total);
  }

  template <class T, int L, class Team>
  KOKKOS_FUNCTION void store(const Team& team, const Rows& rows, const Result& total) const {
    const int dim = call.config.head_dim;
    const auto place = [&](int l) {
      const int row = rows.begin + l;
      return ((rows.first_query + row / rows.group) * Index{call.config.heads} + head_of(rows, row)) * dim;
    };
    const auto put = [&](auto* out) {
      T::template store_rows<L>(team, rows.count, dim, total, [&](int l) { return out + place(l); });
    };
    if (call.type == DType::f32)
      put(static_cast<float*>(call.out));
    else
      put(static_cast<bf16*>(call.out));
    if (call.lse.size() == 0) return;
    T::template for_lanes<L>(team, [&](int l) {
      if (l >= rows.count) return;
      const int row = rows.begin + l;
      call.lse(head_of(rows, row), rows.first_query + row / rows.group) = total.m[l] + Kokkos::log(total.sum[l]);
    });
  }
};

}  // namespace grist::attention_kernel
