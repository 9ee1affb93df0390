#include <grist/model/decoder_block.hpp>

#include <grist/layers/linear.hpp>
#include <grist/layers/residual.hpp>
#include <grist/layers/rms_norm.hpp>
#include <grist/layers/rope.hpp>
#include <grist/layers/swiglu.hpp>

#include <algorithm>
#include <format>

namespace grist {

template <class T>
BlockWeights<T>::BlockWeights(const Parameters<T>& parameters, Index layer) {
  const auto name = [&](const char* part) { return std::format("layers.{}.{}", layer, part); };
  input_norm = parameters.vector(name("input_norm"));
  post_attention_norm = parameters.vector(name("post_attention_norm"));
  qkv = parameters.matrix(name("qkv"));
  o = parameters.matrix(name("o"));
  gate_up = parameters.matrix(name("gate_up"));
  down = parameters.matrix(name("down"));
  qkv_bias = parameters.vector(name("qkv_bias"));
  o_bias = parameters.vector(name("o_bias"));
  gate_up_bias = parameters.vector(name("gate_up_bias"));
  down_bias = parameters.vector(name("down_bias"));
}

template <class T>
void decoder_block(const BlockContext& context, const BlockWeights<T>& weights, const KvCache<T>& cache, int layer,
                   View2<float> x) {
  const auto& [exec, tp, gemm, workspace, batch, turns, attention, eps] = context;
  const Index tokens = batch.tokens(), hidden = x.extent(1), few = batch.few();
  {
    const auto region = Kokkos::Profiling::ScopedRegion("grist::attention_half");
    const Workspace::Scope scope(workspace);
    const auto normed = workspace.take<T>(exec, "normed", tokens, hidden);
    const auto qkv = workspace.take<T>(exec, "qkv", tokens, weights.qkv.extent(0));
    const auto attended = workspace.take<T>(exec, "attended", tokens, weights.o.extent(1));
    const auto delta = workspace.take<float>(exec, "delta", tokens, hidden);
    layers::rms_norm(exec, as_const(x), weights.input_norm, eps, normed);
    layers::linear(exec, gemm, as_const(normed), weights.qkv, weights.qkv_bias, few, qkv);
    layers::rope(exec, turns, attention.heads + attention.kv_heads, qkv);
    cache.append(exec, layer, as_const(qkv), batch.cache_rows());
    layers::attention(exec, attention, as_const(qkv), as_const(cache.keys(layer)), as_const(cache.values(layer)),
                      batch.packed(), attended);
    layers::linear(exec, gemm, as_const(attended), weights.o, weights.o_bias, few, delta);
    tp.all_reduce(exec, flat(delta));
    layers::residual(exec, as_const(delta), x);
  }
  {
    const auto region = Kokkos::Profiling::ScopedRegion("grist::mlp_half");
    const Workspace::Scope scope(workspace);
    const auto normed = workspace.take<T>(exec, "normed", tokens, hidden);
    const auto gate_up = workspace.take<T>(exec, "gate_up", tokens, weights.gate_up.extent(0));
    const auto activated = workspace.take<T>(exec, "activated", tokens, weights.down.extent(1));
    const auto delta = workspace.take<float>(exec, "delta", tokens, hidden);
    layers::rms_norm(exec, as_const(x), weights.post_attention_norm, eps, normed);
    layers::linear(exec, gemm, as_const(normed), weights.gate_up, weights.gate_up_bias, few, gate_up);
    layers::swiglu(exec, as_const(gate_up), activated);
    layers::linear(exec, gemm, as_const(activated), weights.down, weights.down_bias, few, delta);
    tp.all_reduce(exec, flat(delta));
    layers::residual(exec, as_const(delta), x);
  }
}

template <class T>
std::size_t decoder_block_bytes(const ModelSpec& spec, const TensorShard& shard, Index tokens) {
  const auto bytes = [&](Index columns) { return Workspace::bytes_for<T>(tokens * columns); };
  const Index q = shard.heads.size() * spec.head_dim, kv = shard.kv_heads.size() * spec.head_dim;
  const std::size_t attention_half = bytes(q + 2 * kv) + bytes(q);
  const std::size_t mlp_half = bytes(2 * shard.intermediate.size()) + bytes(shard.intermediate.size());
  return bytes(spec.hidden_size) + Workspace::bytes_for<float>(tokens * spec.hidden_size) +
         std::max(attention_half, mlp_half);
}

#define GRIST_INSTANTIATE(T)                                                                                 \
  template struct BlockWeights<T>;                                                                           \
  template void decoder_block(const BlockContext&, const BlockWeights<T>&, const KvCache<T>&, int, View2<float>); \
  template std::size_t decoder_block_bytes<T>(const ModelSpec&, const TensorShard&, Index);
GRIST_INSTANTIATE(float)
GRIST_INSTANTIATE(bf16)
#undef GRIST_INSTANTIATE

}  // namespace grist
