// Gemma 2: Gemma with soft caps of scores and logits, norms before and after, and a window in every other layer.
#include <grist/model/common_keys.hpp>
#include <grist/model/family.hpp>

#include <cmath>

namespace grist::gemma2 {
namespace {

bool windowed(Index layer) { return layer % 2 == 0; }

void add_what_gemma_2_has(ModelSpec& spec, double score_cap, double logit_cap, double query_scalar) {
  spec.embedding_scale = std::sqrt(static_cast<float>(spec.hidden_size));
  spec.logit_softcap = static_cast<float>(logit_cap);
  each_layer(spec, [&](LayerSpec& layer) {
    layer.post_norm = true;
    layer.attention.softcap = static_cast<float>(score_cap);
    layer.attention.scale = static_cast<float>(1 / std::sqrt(query_scalar));
    layer.mlp.activation = layers::Activation::gelu_tanh;
  });
}

ModelSpec from_config(ConfigReader& config) {
  config.set_default("tie_word_embeddings", true);
  config.set_default("head_dim", 256);
  if (!config.has("sliding_window")) config.set_default("sliding_window", 4096);
  config.positive("sliding_window");
  ModelSpec spec = common_spec(config, {.windowed = windowed});
  add_what_gemma_2_has(spec,
                       config.get_or<double>("attn_logit_softcapping", config.has("attn_logit_softcapping") ? 0 : 50),
                       config.get_or<double>("final_logit_softcapping", config.has("final_logit_softcapping") ? 0 : 30),
                       config.get_or<double>("query_pre_attn_scalar", 256));
  const auto activation = activation_key(config, "hidden_activation", "gelu_pytorch_tanh");
  each_layer(spec, [&](LayerSpec& layer) { layer.mlp.activation = activation; });
  return spec;
}

ModelSpec from_gguf(GgufReader& gguf) {
  ModelSpec spec = common_spec(gguf);
  const AttentionSpec& attention = spec.layers[0].attention;
  // Files do not hold the scalar: the model of 46 layers has another than head_dim.
  const double scalar =
      spec.layer_count() == 46 ? static_cast<double>(spec.hidden_size) / attention.heads : attention.head_dim;
  add_what_gemma_2_has(spec, gguf.get_or<double>("attn_logit_softcapping", 50),
                       gguf.get_or<double>("final_logit_softcapping", 30), scalar);
  set_gguf_windows(gguf, spec, 4096, windowed);
  return spec;
}

}  // namespace

Family family() {
  return {.name = "gemma2",
          .architectures = {"Gemma2ForCausalLM"},
          .gguf_architectures = {"gemma2"},
          .from_config = from_config,
          .from_gguf = from_gguf,
          .names = {.mlp_norm = "pre_feedforward_layernorm", .norms_plus_one = true}};
}

}  // namespace grist::gemma2
