// Attention over a packed batch, by online softmax in float (Dao et al. 2022): out = softmax(mask(s)) v with
//   s = scale q k^T;  s = softcap tanh(s / softcap), where there is a soft cap (Gemma 2);
//   s += slope (key position - query position), where there are ALiBi slopes (Press et al. 2022).
// Causal: a query sees the keys of its own sequence up to its own position, the last `window` of them where there is
// one. Otherwise it sees all keys of its sequence. Head h of a query uses KV head h / (heads / kv_heads).
//   q [tokens, width], its first heads * head_dim columns    out [tokens, heads * head_dim], of the same type
//   kv: a cache's pages, or the batch's own rows (packed_kv); its type is its own
//   scratch: attention_scratch() floats    lse [heads, tokens]: log of the sum of e^s, or empty
//   forward : reads q, kv    writes out, lse
//   parallel: heads may be split over tp in whole KV groups: nothing to sum
// The bits of a token depend on its own sequence alone, if the provider is batch-invariant. Throws ShapeError. Enqueues
// on exec; no fence, no allocation.
#pragma once

#include <grist/backends/attention.hpp>

namespace grist::layers {

template <class X>
void attention(const Exec& exec, const AttentionConfig& config, View2<const X> q, const KvPages& kv,
               const PackedSequences& sequences, View1<float> scratch, View2<X> out, View2<float> lse = {});

/// The same by the portable provider: the reference that any machine can run.
template <class X>
void attention_plain(const Exec& exec, const AttentionConfig& config, View2<const X> q, const KvPages& kv,
                     const PackedSequences& sequences, View1<float> scratch, View2<X> out, View2<float> lse = {});

/// Keys and values without a cache: the last 2 * kv_heads heads of the batch's own rows qkv [tokens, width], k first.
/// `query_begin` as in PackedSequences; every sequence begins at position 0.
template <class X>
KvPages packed_kv(const AttentionConfig& config, View2<const X> qkv, View1<const int> query_begin);

}  // namespace grist::layers
