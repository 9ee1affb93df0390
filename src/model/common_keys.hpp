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
};

/// A LLaMA-like decoder by the usual keys: sizes, RMSNorm before attention and MLP, RoPE in ropes[0], gated MLP,
/// windows by sliding_window and layer_types.
ModelSpec common_spec(ConfigReader& config, const CommonKeys& keys = {});

/// The same by ARCH.* and by which tensors there are.
ModelSpec common_spec(GgufReader& gguf, bool rope = true);

/// The activation that a key names; `otherwise` where the key is absent.
layers::Activation activation_key(ConfigReader& config, const std::string& key, std::string_view otherwise);

/// f(layer) for every layer.
template <class F>
void each_layer(ModelSpec& spec, F&& f) {
  for (auto& layer : spec.layers) f(layer);
}

}  // namespace grist
