// One decoder block: norm, attention, residual, norm, MLP, residual.
#pragma once

#include <grist/backends/gemm.hpp>
#include <grist/comm/communicator.hpp>
#include <grist/core/workspace.hpp>
#include <grist/layers/attention.hpp>
#include <grist/model/batch.hpp>
#include <grist/model/kv_cache.hpp>
#include <grist/model/parameters.hpp>

namespace grist {

/// This rank's slices of a block's weights; empty biases where the model has none.
template <class T>
struct BlockWeights {
  BlockWeights(const Parameters<T>& parameters, Index layer);

  View1<const float> input_norm, post_attention_norm;          // [hidden]
  View2<const T> qkv;                                          // [(heads + 2 kv_heads) head_dim, hidden]
  View2<const T> o;                                            // [hidden, heads head_dim]
  View2<const T> gate_up;                                      // [2 intermediate, hidden]
  View2<const T> down;                                         // [hidden, intermediate]
  View1<const float> qkv_bias, o_bias, gate_up_bias, down_bias;
};

/// What all blocks of a forward pass share.
struct BlockContext {
  const Exec& exec;
  const Communicator& tp;
  Gemm& gemm;
  Workspace& workspace;
  const Batch& batch;
  View2<const float> turns;  // [tokens, head_dim], of rope_turns
  layers::AttentionConfig attention;
  float norm_eps;
};

/// x [tokens, hidden] += attention(norm(x)); x += mlp(norm(x)). Keys and values go to `layer` of the cache.
template <class T>
void decoder_block(const BlockContext& context, const BlockWeights<T>& weights, const KvCache<T>& cache, int layer,
                   View2<float> x);

/// Scratch that a block takes for so many tokens.
template <class T>
std::size_t decoder_block_bytes(const ModelSpec& spec, const TensorShard& shard, Index tokens);

}  // namespace grist
