// Causal grouped-query attention over a packed batch with a KV cache: softmax(q k^T / sqrt(head_dim)) v, online softmax,
// float accumulation (Dao et al. 2022). The score matrix is never whole: a tile of it is as large as the scratch.
//   q [tokens, width], its first heads * head_dim columns    out [tokens, heads * head_dim]
//   k, v [kv_heads, capacity, head_dim]: the cache; a sequence owns the rows kv_begin ... kv_begin + kv_length
//   forward : reads q, k, v    writes out
//   parallel: heads may be split over tp in whole KV groups: nothing to sum
// A query sees the keys of its own sequence up to its own position, the last `window` of them where window > 0. The bits of
// a token depend on its own sequence alone. Requires heads % kv_heads == 0. Throws ShapeError. Enqueues on exec; no
// fence, no allocation.
#pragma once

#include <grist/core/view.hpp>

namespace grist::layers {

struct AttentionConfig {
  int heads = 1;
  int kv_heads = 1;
  int head_dim = 1;
  float scale = 1;  // usually 1 / sqrt(head_dim)
  int window = 0;   // 0: all keys
};

/// Which rows belong together, in device memory. The new tokens of a sequence are the last of its keys.
struct PackedSequences {
  View1<const int> query_begin;  // [sequences + 1]: the new tokens of s are the rows query_begin(s) ... query_begin(s + 1)
  View1<const Index> kv_begin;   // [sequences]: its first row in the cache
  View1<const int> kv_length;    // [sequences]: its keys, new ones included
  View1<const int> tile_sequence;  // [tiles]: work items of attention_tile_rows() rows or fewer
  View1<const int> tile_begin;     // [tiles]: first of the tile's rows; row r is query r / group, head r % group
};

/// Query rows (queries times heads of a KV group) that one tile covers.
int attention_tile_rows();

template <class T>
void attention(const Exec& exec, const AttentionConfig& config, View2<const T> q, View3<const T> k, View3<const T> v,
               const PackedSequences& sequences, View2<T> out);

/// The same on plain nested parallelism: the reference that any mill can run.
template <class T>
void attention_plain(const Exec& exec, const AttentionConfig& config, View2<const T> q, View3<const T> k,
                     View3<const T> v, const PackedSequences& sequences, View2<T> out);

}  // namespace grist::layers
