// The inverse frequencies of RoPE, theta^(-2i / rotary_dim), with a model's scaling for long contexts folded in.
#pragma once

#include <grist/model/config_reader.hpp>
#include <grist/model/gguf_reader.hpp>
#include <grist/model/spec.hpp>

namespace grist {

/// From rope_theta and rope_scaling (transformers 4) or rope_parameters (transformers 5) of a config. Knows the kinds
/// default, linear, dynamic, yarn, longrope and llama3; InputError for others.
RopeTable rope_table(ConfigReader& config, int head_dim, int max_positions);

/// The same from one object of parameters: `theta` where it names none; null: no scaling.
RopeTable rope_table(ConfigReader* parameters, double theta, int head_dim, int max_positions, const std::string& file);

/// From ARCH.rope.* and the factors in rope_freqs.weight or rope_factors_{short,long}.weight. `theta` where no key
/// names it.
RopeTable rope_table(GgufReader& gguf, int head_dim, double theta = 10000);

}  // namespace grist
