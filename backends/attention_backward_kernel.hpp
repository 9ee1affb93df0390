// Attention's gradients, written once over a Tile (portable/tile.hpp, cpu/tile-inl.hpp), by tiles of queries and keys:
//   p = e^(s - lse), recomputed;  dv += p^T dout;  ds = p (dout v^T - D) (1 - (s / softcap)^2);
//   dq += scale ds k;  dk += ds^T (scale q);  D = rowsum(dout out).
// Every sum adds tiles in ascending order, whether one work item makes all sums of a sequence and KV head, or each tile
// of queries and each tile of keys has an item of its own: the bits are the same.
#pragma once

#include <grist/backends/attention_kernel.hpp>

namespace grist::attention_kernel {

/// Channels of a head in a work item's memory: whole vectors of a processor, since rows of channels are vectors here.
KOKKOS_INLINE_FUNCTION constexpr int row_channels_of(int head_dim) { return (head_dim + 15) / 16 * 16; }

/// What the gradient of a lane's scores needs, each [lanes].
struct LaneFacts {
  float *low, *high, *position, *slope, *lse, *row_sum;
};

/// Floats of a work item's own memory: q, dout [channels, lanes] and [lanes, channels], dq [channels, lanes], k, v
/// [keys, channels], scores and their gradients [keys, lanes], LaneFacts.
KOKKOS_INLINE_FUNCTION constexpr Index own_backward_floats(int head_dim) {
  constexpr Index lanes = attention_rows, keys = kv_page_rows;
  return Index{row_channels_of(head_dim)} * (5 * lanes + 2 * keys) + 2 * keys * lanes + 6 * lanes;
}

/// Tiles of `size` that the parts of a packed batch have at most, each part begun on a tile of its own.
KOKKOS_INLINE_FUNCTION constexpr Index most_tiles(Index rows, Index sequences, int size) {
  return rows / size + sequences;
}

/// Floats of D [heads, tokens], up to where vectors may begin.
KOKKOS_INLINE_FUNCTION constexpr Index row_sum_floats(int heads, Index tokens) {
  return (heads * tokens + 15) / 16 * 16;
}

/// Floats in scratch that all work items share: D, and sums dk and dv for each tile of keys.
inline Index shared_backward_floats(const AttentionConfig& config, Index tokens, Index sequences) {
  return row_sum_floats(config.heads, tokens) + most_tiles(tokens, sequences, kv_page_rows) * config.kv_heads * 2 *
                                                    kv_page_rows * row_channels_of(config.head_dim);
}

template <class Tile, class X>
struct BackwardKernel {
  AttentionBackwardCall call;

  [[nodiscard]] KOKKOS_FUNCTION Index tokens() const { return static_cast<Index>(call.lse.extent(1)); }
  [[nodiscard]] KOKKOS_FUNCTION Index sequences() const { return static_cast<Index>(call.query_begin.extent(0)) - 1; }
  [[nodiscard]] KOKKOS_FUNCTION int group() const { return call.config.heads / call.config.kv_heads; }

  /// Work items of `row_sum`, `sequence`, `queries` and `keys`.
  [[nodiscard]] Index row_sums() const { return tokens() * call.config.heads; }
  [[nodiscard]] Index parts() const { return sequences() * call.config.kv_heads; }
  [[nodiscard]] Index query_tiles() const {
    return most_tiles(tokens() * group(), sequences(), attention_rows) * call.config.kv_heads;
  }
  [[nodiscard]] Index key_tiles() const {
    return most_tiles(tokens(), sequences(), kv_page_rows) * call.config.kv_heads;
  }

  /// D of one head of one token, in sums that a compiler can keep in one vector.
  KOKKOS_FUNCTION void row_sum(Index work) const {
    constexpr int sums = 16;
    const int dim = call.config.head_dim;
    const X* const out = static_cast<const X*>(call.out) + work * dim;
    const X* const dout = static_cast<const X*>(call.dout) + work * dim;
    float sum[sums] = {};
    int c = 0;
    for (; c + sums <= dim; c += sums)
      for (int i = 0; i < sums; ++i)
        sum[i] = Kokkos::fma(static_cast<float>(out[c + i]), static_cast<float>(dout[c + i]), sum[i]);
    for (; c < dim; ++c)
      sum[c % sums] = Kokkos::fma(static_cast<float>(out[c]), static_cast<float>(dout[c]), sum[c % sums]);
    for (int width = sums / 2; width > 0; width /= 2)
      for (int i = 0; i < width; ++i) sum[i] += sum[i + width];
    call.scratch(work % call.config.heads * tokens() + work / call.config.heads) = sum[0];
  }

  /// dq, dk and dv of a sequence and KV head.
  template <class Team>
  KOKKOS_FUNCTION void sequence(const Team& team, Index work, float* own) const {
    const Part part = part_of(static_cast<int>(work / call.config.kv_heads), work);
    for (int key = 0; key < part.count; key += kv_page_rows)
      Tile::template clear<L>(team, sums(part, key).dk, 2 * sum_floats());
    for (int row = 0; row < part.count * group(); row += attention_rows)
      query_tile<true>(team, part, queries_of(part, row), own);
    for (int key = 0; key < part.count; key += kv_page_rows) store_keys(team, part, key);
  }

  /// dq of a tile of query rows.
  template <class Team>
  KOKKOS_FUNCTION void queries(const Team& team, Index work, float* own) const {
    const Index tile = work / call.config.kv_heads;
    const Part part = part_of(sequence_of(tile, group(), attention_rows), work);
    const Index row = (tile - first_tile(part.sequence, group(), attention_rows)) * attention_rows;
    if (row < Index{part.count} * group()) query_tile<false>(team, part, queries_of(part, static_cast<int>(row)), own);
  }

  /// dk and dv of a tile of keys.
  template <class Team>
  KOKKOS_FUNCTION void keys(const Team& team, Index work, float* own) const {
    const Index tile = work / call.config.kv_heads;
    const Part part = part_of(sequence_of(tile, 1, kv_page_rows), work);
    const Index first = (tile - first_tile(part.sequence, 1, kv_page_rows)) * kv_page_rows;
    if (first >= part.count) return;
    const int key = static_cast<int>(first), rest = part.count - key;
    const Own o = own_at(own);
    Tile::template clear<L>(team, sums(part, key).dk, 2 * sum_floats());
    load_keys(team, part, key, rest < kv_page_rows ? rest : kv_page_rows, o);
    for (int row = 0; row < part.count * group(); row += attention_rows) {
      const Queries queries = queries_of(part, row);
      if (key < queries.first_tile || key >= queries.end) continue;
      load_queries(team, part, queries, o);
      pair<false, true>(team, part, queries, key, o);
    }
    store_keys(team, part, key);
  }

private:
  static constexpr int L = attention_rows;

  /// The rows of one sequence, for one KV head.
  struct Part {
    int sequence, first, count, kv_head;
  };
  /// Rows `begin` ... of a tile, and the keys that they see: from a tile of keys on, up to `end`.
  struct Queries {
    int begin, count, first_tile, end;
  };
  struct Own {
    float *q, *dout, *q_rows, *dout_rows, *dq, *k, *v, *s, *ds;
    LaneFacts facts;
  };
  struct Sums {
    float *dk, *dv;
  };

  [[nodiscard]] KOKKOS_FUNCTION int channels() const { return row_channels_of(call.config.head_dim); }
  [[nodiscard]] KOKKOS_FUNCTION Index sum_floats() const { return Index{kv_page_rows} * channels(); }
  [[nodiscard]] KOKKOS_FUNCTION Index width() const {
    return Index{call.config.heads + 2 * call.config.kv_heads} * call.config.head_dim;
  }
  /// The first column of keys; the values' come kv_heads * head_dim after it.
  [[nodiscard]] KOKKOS_FUNCTION Index key_column(int kv_head) const {
    return Index{call.config.heads + kv_head} * call.config.head_dim;
  }
  [[nodiscard]] KOKKOS_FUNCTION Index values_after() const {
    return Index{call.config.kv_heads} * call.config.head_dim;
  }

  [[nodiscard]] KOKKOS_FUNCTION Part part_of(int sequence, Index work) const {
    const int first = call.query_begin(sequence);
    return {sequence, first, call.query_begin(sequence + 1) - first, static_cast<int>(work % call.config.kv_heads)};
  }
  /// The number of a sequence's first tile, where each token is `rows` rows: no two sequences share a number.
  [[nodiscard]] KOKKOS_FUNCTION Index first_tile(int sequence, int rows, int size) const {
    return Index{call.query_begin(sequence)} * rows / size + sequence;
  }
  [[nodiscard]] KOKKOS_FUNCTION int sequence_of(Index tile, int rows, int size) const {
    int low = 0, high = static_cast<int>(sequences());
    while (high - low > 1) {
      const int middle = low + (high - low) / 2;
      (first_tile(middle, rows, size) <= tile ? low : high) = middle;
    }
    return low;
  }

  [[nodiscard]] KOKKOS_FUNCTION int first_seen(int position) const {
    const int window = call.config.window;
    return window > 0 && position >= window ? position - window + 1 : 0;
  }
  [[nodiscard]] KOKKOS_FUNCTION int last_seen(int position, int length) const {
    return call.config.causal ? position : length - 1;
  }
  [[nodiscard]] KOKKOS_FUNCTION Queries queries_of(const Part& part, int begin) const {
    const int rest = part.count * group() - begin, count = rest < L ? rest : L;
    return {begin, count, first_seen(begin / group()) / kv_page_rows * kv_page_rows,
            last_seen((begin + count - 1) / group(), part.count) + 1};
  }

  [[nodiscard]] KOKKOS_FUNCTION Own own_at(float* own) const {
    const Index across = Index{channels()} * L, keys = sum_floats(), scores = Index{kv_page_rows} * L;
    float* const k = own + 5 * across;
    float* const s = k + 2 * keys;
    float* const facts = s + 2 * scores;
    return {own,
            own + across,
            own + 2 * across,
            own + 3 * across,
            own + 4 * across,
            k,
            k + keys,
            s,
            s + scores,
            {facts, facts + L, facts + 2 * L, facts + 3 * L, facts + 4 * L, facts + 5 * L}};
  }
  [[nodiscard]] KOKKOS_FUNCTION Sums sums(const Part& part, int key) const {
    const Index tile = first_tile(part.sequence, 1, kv_page_rows) + key / kv_page_rows;
    float* const from = call.scratch.data() + row_sum_floats(call.config.heads, tokens()) +
                        (tile * call.config.kv_heads + part.kv_head) * 2 * sum_floats();
    return {from, from + sum_floats()};
  }

  /// dq of a tile, and its terms of the sums of all keys that it sees.
  template <bool Keys_too, class Team>
  KOKKOS_FUNCTION void query_tile(const Team& team, const Part& part, const Queries& queries, float* own) const {
    const Own o = own_at(own);
    load_queries(team, part, queries, o);
    Tile::template clear<L>(team, o.dq, Index{channels()} * L);
    for (int key = queries.first_tile; key < queries.end; key += kv_page_rows) {
      load_keys(team, part, key, queries.end - key < kv_page_rows ? queries.end - key : kv_page_rows, o);
      pair<true, Keys_too>(team, part, queries, key, o);
    }
    store_queries(team, part, queries, o);
  }

  template <class Team>
  KOKKOS_FUNCTION void load_queries(const Team& team, const Part& part, const Queries& queries, const Own& o) const {
    const int dim = call.config.head_dim, across = channels();
    Tile::template for_lanes<L>(team, [&](int l) {
      const int row = queries.begin + (l < queries.count ? l : 0);  // idle lanes repeat the first row
      const int position = row / group(), head = part.kv_head * group() + row % group();
      const Index token = part.first + position;
      const X* const q = static_cast<const X*>(call.qkv) + token * width() + Index{head} * dim;
      const X* const dout = static_cast<const X*>(call.dout) + (token * call.config.heads + head) * dim;
      float* const q_row = o.q_rows + l * across;
      float* const dout_row = o.dout_rows + l * across;
      for (int c = 0; c < dim; ++c) q_row[c] = static_cast<float>(q[c]) * call.config.scale;
      for (int c = 0; c < dim; ++c) dout_row[c] = static_cast<float>(dout[c]);
      for (int c = dim; c < across; ++c) q_row[c] = dout_row[c] = 0;
      o.facts.low[l] = static_cast<float>(first_seen(position));
      o.facts.high[l] = static_cast<float>(last_seen(position, part.count));
      o.facts.position[l] = static_cast<float>(position);
      o.facts.slope[l] = call.config.alibi_slopes.size() != 0 ? call.config.alibi_slopes(head) : 0.0F;
      o.facts.lse[l] = call.lse(head, token);
      o.facts.row_sum[l] = call.scratch(head * tokens() + token);
    });
    Tile::template transpose<L>(team, o.q_rows, across, o.q);
    Tile::template transpose<L>(team, o.dout_rows, across, o.dout);
  }

  template <class Team>
  KOKKOS_FUNCTION void load_keys(const Team& team, const Part& part, int key, int count, const Own& o) const {
    const X* const k = static_cast<const X*>(call.qkv) + (part.first + key) * width() + key_column(part.kv_head);
    Tile::load(team, k, width(), count, call.config.head_dim, channels(), o.k);
    Tile::load(team, k + values_after(), width(), count, call.config.head_dim, channels(), o.v);
  }

  /// What the queries and keys that are loaded give each other. Keys come in fours; those after the last one that a
  /// query sees are masked.
  template <bool Dq, bool Dkv, class Team>
  KOKKOS_FUNCTION void pair(const Team& team, const Part& part, const Queries& queries, int key, const Own& o) const {
    const int dim = call.config.head_dim, across = channels();
    const int count = queries.end - key < kv_page_rows ? queries.end - key : kv_page_rows, fours = (count + 3) / 4 * 4;
    Tile::template scores<L>(team, o.k, across, fours, o.q, dim, o.s);
    Tile::template scores<L>(team, o.v, across, fours, o.dout, dim, o.ds);
    Tile::template score_gradients<L>(team, o.s, o.ds, fours, key, o.facts, call.config.softcap);
    if constexpr (Dkv) {
      const Sums to = sums(part, key);
      Tile::template add_rows<L>(team, o.s, fours, queries.count, o.dout_rows, across, to.dv);
      Tile::template add_rows<L>(team, o.ds, fours, queries.count, o.q_rows, across, to.dk);
    }
    if constexpr (Dq) Tile::template add_columns<L>(team, o.k, across, count, o.ds, o.dq);
  }

  template <class Team>
  KOKKOS_FUNCTION void store_queries(const Team& team, const Part& part, const Queries& queries, const Own& o) const {
    const int dim = call.config.head_dim;
    Tile::template for_lanes<L>(team, [&](int l) {
      if (l >= queries.count) return;
      const int row = queries.begin + l, head = part.kv_head * group() + row % group();
      X* const to = static_cast<X*>(call.dqkv) + (part.first + row / group()) * width() + Index{head} * dim;
      for (int c = 0; c < dim; ++c) to[c] = X(o.dq[c * L + l] * call.config.scale);
    });
  }

  template <class Team>
  KOKKOS_FUNCTION void store_keys(const Team& team, const Part& part, int key) const {
    const int dim = call.config.head_dim, across = channels(), rest = part.count - key;
    const Sums from = sums(part, key);
    X* const to = static_cast<X*>(call.dqkv) + (part.first + key) * width() + key_column(part.kv_head);
    Tile::template for_lanes<kv_page_rows>(team, [&](int row) {
      if (row >= rest) return;
      X* const dk = to + row * width();
      for (int c = 0; c < dim; ++c) dk[c] = X(from.dk[row * across + c]);
      for (int c = 0; c < dim; ++c) dk[values_after() + c] = X(from.dv[row * across + c]);
    });
  }
};

}  // namespace grist::attention_kernel
