#include <grist/layers/attention.hpp>

#include <grist/core/errors.hpp>

namespace grist::layers {
namespace {

/// Throws where slopes and window do not go with the heads and each other.
void check_seen(const AttentionConfig& config) {
  if (config.alibi_slopes.size() != 0 && static_cast<Index>(config.alibi_slopes.size()) != config.heads)
    throw ShapeError("attention: alibi_slopes [{}], expected [{}]", config.alibi_slopes.size(), config.heads);
  if (config.window < 0 || (config.window > 0 && !config.causal))
    throw ShapeError("attention: a window of {} keys, expected 0 (all), or 1 or more where attention is causal",
                     config.window);
}

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
  check_seen(config);
  if (kv.row_stride < config.head_dim && sequences.items.size() != 0)
    throw ShapeError("attention: keys are {} elements apart, a head has {}", kv.row_stride, config.head_dim);
  return {config, dtype_of<X>, q.data(), static_cast<Index>(q.extent(1)), kv, sequences, scratch, out.data(), lse};
}

template <class X>
AttentionBackwardCall checked_backward(const AttentionConfig& config, View2<const X> qkv, View2<const X> out,
                                       View2<const float> lse, View2<const X> dout, View1<const int> query_begin,
                                       View1<float> scratch, View2<X> dqkv) {
  check_seen(config);
  const Index tokens = qkv.extent(0), width = Index{config.heads} * config.head_dim;
  const auto is = [](const auto& view, Index rows, Index columns) {
    return static_cast<Index>(view.extent(0)) == rows && static_cast<Index>(view.extent(1)) == columns;
  };
  const Index all = width + 2 * Index{config.kv_heads} * config.head_dim;
  if (config.kv_heads < 1 || config.heads % config.kv_heads != 0 || config.head_dim < 1 || !is(qkv, tokens, all) ||
      !is(dqkv, tokens, all) || !is(out, tokens, width) || !is(dout, tokens, width) || !is(lse, config.heads, tokens) ||
      query_begin.extent(0) < 1)
    throw ShapeError(
        "attention_backward: qkv [{}, {}], out [{}, {}], lse [{}, {}], dout [{}, {}], query_begin [{}], dqkv [{}, {}] "
        "do not go with {} heads and {} KV heads of {}",
        tokens, qkv.extent(1), out.extent(0), out.extent(1), lse.extent(0), lse.extent(1), dout.extent(0),
        dout.extent(1), query_begin.extent(0), dqkv.extent(0), dqkv.extent(1), config.heads, config.kv_heads,
        config.head_dim);
  const int sequences = static_cast<int>(query_begin.extent(0)) - 1;
  const Index floats = attention_backward_scratch(config, {tokens, sequences, tokens});
  if (static_cast<Index>(scratch.extent(0)) < floats)
    throw ShapeError("attention_backward: scratch has {} floats, expected {} or more", scratch.extent(0), floats);
  return {config, dtype_of<X>, qkv.data(), out.data(), dout.data(), lse, query_begin, scratch, dqkv.data()};
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
void attention_backward(const Exec& exec, const AttentionConfig& config, View2<const X> qkv, View2<const X> out,
                        View2<const float> lse, View2<const X> dout, View1<const int> query_begin, View1<float> scratch,
                        View2<X> dqkv) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::attention::backward");
  const auto call = checked_backward(config, qkv, out, lse, dout, query_begin, scratch, dqkv);
  for (const auto& provider : attention_providers())
    if (provider.backward != nullptr && provider.backward(exec, call)) return;
}

template <class X>
void attention_backward_plain(const Exec& exec, const AttentionConfig& config, View2<const X> qkv, View2<const X> out,
                              View2<const float> lse, View2<const X> dout, View1<const int> query_begin,
                              View1<float> scratch, View2<X> dqkv) {
  attention_providers().back().backward(exec,
                                        checked_backward(config, qkv, out, lse, dout, query_begin, scratch, dqkv));
}

template <class X>
KvPages packed_kv(const AttentionConfig& config, View2<const X> qkv, View1<const int> query_begin) {
  const Index kv_width = Index{config.kv_heads} * config.head_dim, width = qkv.extent(1);
  if (width < 2 * kv_width)
    throw ShapeError("attention: qkv [{}, {}] does not hold k and v of {} KV heads of {}", qkv.extent(0), width,
                     config.kv_heads, config.head_dim);
  return {.type = kv_type_of(dtype_of<X>),
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
  template void attention_backward(const Exec&, const AttentionConfig&, View2<const X>, View2<const X>,                \
                                   View2<const float>, View2<const X>, View1<const int>, View1<float>, View2<X>);      \
  template void attention_backward_plain(const Exec&, const AttentionConfig&, View2<const X>, View2<const X>,          \
                                         View2<const float>, View2<const X>, View1<const int>, View1<float>,           \
                                         View2<X>);                                                                    \
  template KvPages packed_kv(const AttentionConfig&, View2<const X>, View1<const int>);
GRIST_INSTANTIATE(float)
GRIST_INSTANTIATE(bf16)
#undef GRIST_INSTANTIATE

}  // namespace grist::layers
