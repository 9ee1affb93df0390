// The inverse frequencies of RoPE, theta^(-2i / head_dim), with a model's scaling for long contexts folded in.
#pragma once

#include <grist/model/config_reader.hpp>
#include <grist/model/gguf_reader.hpp>

#include <vector>

namespace grist {

/// [head_dim / 2], from rope_theta and rope_scaling (transformers 4) or rope_parameters (transformers 5). Knows the kinds
/// default, linear and llama3; InputError for others.
std::vector<float> rope_frequencies(ConfigReader& config, int head_dim);

/// [head_dim / 2], from ARCH.rope.* and the factors in rope_freqs.weight.
std::vector<float> rope_frequencies(GgufReader& gguf, int head_dim);

}  // namespace grist
