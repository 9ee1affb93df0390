// What the configs of most families have in common; a family's file changes what differs.
#pragma once

#include <grist/model/config_reader.hpp>
#include <grist/model/gguf_reader.hpp>
#include <grist/model/spec.hpp>

#include <functional>

namespace grist {

struct CommonKeys {
  /// Of which layers `sliding_window` is; empty: the family has no windows, and nobody reads their keys.
  std::function<bool(Index layer)> windowed = {};
  bool layer_types = true;                         // whether that key has precedence
  bool rope = true;                                // one RoPE table by the usual keys
  bool partial_rope = false;                       // whether RoPE may turn a part of each head
  NormSpec::Kind norm = NormSpec::Kind::rms;       // of all norms; `layer` has biases
};

/// A LLaMA-like decoder by the usual keys: sizes, a norm before attention and MLP, RoPE in ropes[0], gated MLP, windows
/// where the family has them. A norm's epsilon is rms_norm_eps (1e-6 where absent), of LayerNorm layer_norm_eps
/// or layer_norm_epsilon (1e-5).
ModelSpec common_spec(ConfigReader& config, const CommonKeys& keys = {});

/// The same by ARCH.* and by which tensors there are; LayerNorm where its epsilon is a key. Windows are left to those
/// families that have them in llama.cpp, which ignores the key of others.
ModelSpec common_spec(GgufReader& gguf, bool rope = true);

/// attention.sliding_window, or what llama.cpp takes where that is absent (0: no window), of the layers where
/// windowed(layer).
void set_gguf_windows(GgufReader& gguf, ModelSpec& spec, int otherwise,
                      const std::function<bool(Index layer)>& windowed);

/// Qwen's `use_sliding_window`, false where it is absent; with it a `sliding_window` that is absent is 4096.
bool uses_windows(ConfigReader& config);

/// The activation that a key names; `otherwise` where the key is absent.
layers::Activation activation_key(ConfigReader& config, const std::string& key, std::string_view otherwise);

/// Where output_router_logits says so, router_aux_loss_coef (0.001): when transformers adds the loss; else 0.
float router_aux_loss(ConfigReader& config);

/// f(layer) for every layer.
template <class F>
void each_layer(ModelSpec& spec, F&& f) {
  for (auto& layer : spec.layers) f(layer);
}

}  // namespace grist
