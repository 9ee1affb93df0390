#include <grist/layers/attention.hpp>

#include <grist/core/errors.hpp>

namespace grist::layers {
namespace {

template <class X>
AttentionCall checked(const AttentionConfig& config, View2<const X> q, const KvPages& kv,
                      const PackedSequences& sequences, View1<float> scratch, View2<X> out, View2<float> lse) {
  const Index width = Index{config.heads} * config.head_dim;
  if (config.kv_heads < 1 || config.heads % config.kv_heads != 0 || config.head_dim < 1 ||
      static_cast<Index>(q.extent(1)) < width || static_cast<Index>(out.extent(1)) != width ||
      q.extent(0) != out.extent(0)) {
    throw ShapeError("attention: {} heads of {} and {} KV heads do not go with q [{}, {}], out [{}, {}]", config.heads,
                     config.head_dim, config.kv_heads, q.extent(0), q.extent(1), out.extent(0), out.extent(1));
  }
  if (lse.size() != 0 && (static_cast<Index>(lse.extent(0)) != config.heads || lse.extent(1) != q.extent(0)))
    throw ShapeError("attention: lse [{}, {}], expected [{}, {}]", lse.extent(0), lse.extent(1), config.heads,
                     q.extent(0));
  if (config.alibi_slopes.size() != 0 && static_cast<Index>(config.alibi_slopes.size()) != config.heads)
    throw ShapeError("attention: alibi_slopes [{}], expected [{}]", config.alibi_slopes.size(), config.heads);
  if (config.window < 0 || (config.window > 0 && !config.causal))
    throw ShapeError("attention: a window of {} keys, expected 0 (all), or 1 or more where attention is causal",
                     config.window);
  if (kv.row_stride < config.head_dim && sequences.items.size() != 0)
    throw ShapeError("attention: keys are {} elements apart, a head has {}", kv.row_stride, config.head_dim);
  return {config, dtype_of<X>, q.data(), static_cast<Index>(q.extent(1)), kv, sequences, scratch, out.data(), lse};
}

}  // namespace

template <class X>
void attention(const Exec& exec, const AttentionConfig& config, View2<const X> q, const KvPages& kv,
               const PackedSequences& sequences, View1<float> scratch, View2<X> out, View2<float> lse) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::attention::forward");
  const auto call = checked(config, q, kv, sequences, scratch, out, lse);
  for (const auto& provider : attention_providers())
    if (provider.run(exec, call)) return;
}

template <class X>
void attention_plain(const Exec& exec, const AttentionConfig& config, View2<const X> q, const KvPages& kv,
                     const PackedSequences& sequences, View1<float> scratch, View2<X> out, View2<float> lse) {
  attention_providers().back().run(exec, checked(config, q, kv, sequences, scratch, out, lse));
}

template <class X>
KvPages packed_kv(const AttentionConfig& config, View2<const X> qkv, View1<const int> query_begin) {
  const Index kv_width = Index{config.kv_heads} * config.head_dim, width = qkv.extent(1);
  if (width < 2 * kv_width)
    throw ShapeError("attention: qkv [{}, {}] does not hold k and v of {} KV heads of {}", qkv.extent(0), width,
                     config.kv_heads, config.head_dim);
  return {.type = dtype_of<X>,
          .keys = qkv.data() + width - 2 * kv_width,
          .values = qkv.data() + width - kv_width,
          .row_stride = width,
          .head_stride = config.head_dim,
          .first = query_begin};
}

#define GRIST_INSTANTIATE(X)                                                                                           \
  template void attention(const Exec&, const AttentionConfig&, View2<const X>, const KvPages&, const PackedSequences&, \
                          View1<float>, View2<X>, View2<float>);                                                       \
  template void attention_plain(const Exec&, const AttentionConfig&, View2<const X>, const KvPages&,                   \
                                const PackedSequences&, View1<float>, View2<X>, View2<float>);                         \
  template KvPages packed_kv(const AttentionConfig&, View2<const X>, View1<const int>);
GRIST_INSTANTIATE(float)
GRIST_INSTANTIATE(bf16)
#undef GRIST_INSTANTIATE

}  // namespace grist::layers
