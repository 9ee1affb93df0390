// Specs of models that tests know, and the numbers that models compute in.
#pragma once

#include <grist/model/limits.hpp>
#include <grist/model/spec.hpp>

namespace grist::test {

inline constexpr ModelNumbers in_f32{}, in_bf16{.type = DType::bf16, .kv_type = KvType::bf16};

/// A LLaMA-like decoder with equal layers.
inline ModelSpec llama_spec(Index vocab_size, Index hidden_size, Index intermediate_size, int layers, int heads,
                            int kv_heads, int head_dim, bool tied = false) {
  ModelSpec spec{.vocab_size = vocab_size, .hidden_size = hidden_size, .max_positions = 2048, .tied_embeddings = tied};
  LayerSpec layer;
  layer.attention.heads = heads;
  layer.attention.kv_heads = kv_heads;
  layer.attention.head_dim = head_dim;
  layer.mlp.intermediate_size = intermediate_size;
  spec.layers.assign(static_cast<std::size_t>(layers), layer);
  spec.ropes.push_back({.inverse_frequencies = std::vector<float>(static_cast<std::size_t>(head_dim / 2), 1.0F)});
  return spec;
}

/// SmolLM2-135M.
inline ModelSpec smollm2() { return llama_spec(49152, 576, 1536, 30, 9, 3, 64, true); }

}  // namespace grist::test
