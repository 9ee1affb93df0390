// What an architecture is: everything that the decoder needs to know, and no name of a family.
#pragma once

#include <grist/core/dtype.hpp>
#include <grist/core/view.hpp>

#include <string>
#include <vector>

namespace grist {

struct ModelSpec {
  std::string family;  // "llama": whose names the tensors bear
  Index vocab_size = 0;
  Index hidden_size = 0;
  Index intermediate_size = 0;
  int layers = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int max_positions = 0;   // the context that the model was trained for
  int sliding_window = 0;  // keys that a query sees; 0: all
  float rms_norm_eps = 1e-5F;
  std::vector<float> inverse_frequencies;  // [head_dim / 2] of RoPE, scaling folded in
  bool tied_embeddings = false;
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  float initializer_range = 0.02F;
  DType stored_type = DType::f32;  // what the model's files hold, and what `init` writes
  int bos = -1;                    // -1: none
  std::vector<int> eos;
};

/// Elements of all tensors, tied ones once.
Index parameter_count(const ModelSpec& spec);

}  // namespace grist
