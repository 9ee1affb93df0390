// What the configs of most families have in common; a family's file changes what differs.
#pragma once

#include <grist/model/config_reader.hpp>
#include <grist/model/gguf_reader.hpp>
#include <grist/model/spec.hpp>

#include <functional>

namespace grist {

struct CommonKeys {
  std::function<bool(Index layer)> windowed =
      {};  // of which layers `sliding_window` is; empty: all; layer_types takes precedence
  bool rope = true;                                // one RoPE table by the usual keys
  NormSpec::Kind norm = NormSpec::Kind::rms;       // of all norms; `layer` has biases
};

/// A LLaMA-like decoder by the usual keys: sizes, a norm before attention and MLP, RoPE in ropes[0], gated MLP, windows
/// by sliding_window and layer_types. A norm's epsilon is rms_norm_eps (1e-6 where absent), of LayerNorm layer_norm_eps
/// or layer_norm_epsilon (1e-5).
ModelSpec common_spec(ConfigReader& config, const CommonKeys& keys = {});

/// The same by ARCH.* and by which tensors there are; LayerNorm where its epsilon is a key.
ModelSpec common_spec(GgufReader& gguf, bool rope = true);

/// The activation that a key names; `otherwise` where the key is absent.
layers::Activation activation_key(ConfigReader& config, const std::string& key, std::string_view otherwise);

/// f(layer) for every layer.
template <class F>
void each_layer(ModelSpec& spec, F&& f) {
  for (auto& layer : spec.layers) f(layer);
}

}  // namespace grist
