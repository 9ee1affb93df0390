// Attention over a packed batch, by online softmax in float (Dao et al. 2022): out = softmax(mask(s)) v with
//   s = scale q k^T;  s = softcap tanh(s / softcap), where there is a soft cap (Gemma 2);
//   s += slope (key position - query position), where there are ALiBi slopes (Press et al. 2022).
// Causal: a query sees the keys of its own sequence up to its own position, the last `window` of them where there is
// one. Otherwise it sees all keys of its sequence. Head h of a query uses KV head h / (heads / kv_heads).
//   q [tokens, width], its first heads * head_dim columns    out [tokens, heads * head_dim], of the same type
//   kv: a cache's pages, or the batch's own rows (packed_kv); its type is its own
//   sums are in float; a provider may round the softmax's weights to bf16 where q and kv are bf16
//   scratch: attention_scratch() floats    lse [heads, tokens]: log of the sum of e^s, or empty
//   forward : reads q, kv    writes out, lse
//   backward: p = e^(s - lse);  dv = p^T dout;  ds = p (dout v^T - D), D = rowsum(dout out), times 1 - (s / softcap)^2
//             where there is a soft cap;  dq = scale ds k;  dk = scale ds^T q; dk and dv are summed over a group's
//             heads reads qkv, out, lse, dout    writes dqkv    (of packed batches without a cache)
//   parallel: heads may be split over tp in whole KV groups: nothing to sum; KV heads that several ranks hold have
//   parts
//             of dk and dv on each
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

/// dqkv [tokens, (heads + 2 kv_heads) head_dim] = the gradient of qkv, which is q, k and v side by side (packed_kv),
/// from dout [tokens, heads * head_dim]; out and lse are forward's. Sequence s is the rows query_begin(s) ...
/// query_begin(s + 1); rows of no sequence are left as they are. The scores are recomputed, a tile at a time. The bits
/// of a sequence are the same in every run, for any number of threads and any batch around it. scratch:
/// attention_backward_scratch().
template <class X>
void attention_backward(const Exec& exec, const AttentionConfig& config, View2<const X> qkv, View2<const X> out,
                        View2<const float> lse, View2<const X> dout, View1<const int> query_begin, View1<float> scratch,
                        View2<X> dqkv);

/// The same by the portable provider.
template <class X>
void attention_backward_plain(const Exec& exec, const AttentionConfig& config, View2<const X> qkv, View2<const X> out,
                              View2<const float> lse, View2<const X> dout, View1<const int> query_begin,
                              View1<float> scratch, View2<X> dqkv);

/// Keys and values without a cache: the last 2 * kv_heads heads of the batch's own rows qkv [tokens, width], k first.
/// `query_begin` as in PackedSequences; every sequence begins at position 0.
template <class X>
KvPages packed_kv(const AttentionConfig& config, View2<const X> qkv, View1<const int> query_begin);

}  // namespace grist::layers
