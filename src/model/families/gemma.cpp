// Gemma: norms by 1 + w, an embedding scaled by sqrt(hidden), GeGLU, tied embeddings.
#include <grist/model/common_keys.hpp>
#include <grist/model/family.hpp>

#include <cmath>

namespace grist::gemma {
namespace {

void add_what_gemma_has(ModelSpec& spec) {
  spec.embedding_scale = std::sqrt(static_cast<float>(spec.hidden_size));
  each_layer(spec, [](LayerSpec& layer) { layer.mlp.activation = layers::Activation::gelu_tanh; });
}

ModelSpec from_config(ConfigReader& config) {
  config.set_default("tie_word_embeddings", true);
  config.set_default("head_dim", 256);
  ModelSpec spec = common_spec(config);
  add_what_gemma_has(spec);
  auto before = config.get_or<std::string>("hidden_act", "gelu_pytorch_tanh");
  if (before == "gelu") before = "gelu_pytorch_tanh";  // the first releases said so and meant this (transformers)
  const auto activation = activation_key(config, "hidden_activation", before);
  each_layer(spec, [&](LayerSpec& layer) { layer.mlp.activation = activation; });
  return spec;
}

ModelSpec from_gguf(GgufReader& gguf) {
  ModelSpec spec = common_spec(gguf);
  add_what_gemma_has(spec);
  return spec;
}

}  // namespace

Family family() {
  return {.name = "gemma",
          .architectures = {"GemmaForCausalLM"},
          .gguf_architectures = {"gemma"},
          .from_config = from_config,
          .from_gguf = from_gguf,
          .names = {.norms_plus_one = true}};
}

}  // namespace grist::gemma
