// Gemma 3 (text): Gemma with norms before and after and of q and k per head; five layers of six see a window and turn
// by a RoPE table of their own.
#include <grist/model/common_keys.hpp>
#include <grist/model/family.hpp>
#include <grist/model/rope_tables.hpp>

#include <cmath>

namespace grist::gemma3 {
namespace {

constexpr int pattern = 6;

void add_what_gemma_3_has(ModelSpec& spec, double query_scalar) {
  spec.embedding_scale = std::sqrt(static_cast<float>(spec.hidden_size));
  each_layer(spec, [&](LayerSpec& layer) {
    layer.post_norm = true;
    layer.attention.qk_norm = QkNorm::head;
    layer.attention.scale = static_cast<float>(1 / std::sqrt(query_scalar));
    layer.attention.rope = layer.attention.window > 0 ? 1 : 0;
    layer.mlp.activation = layers::Activation::gelu_tanh;
  });
}

std::vector<RopeTable> ropes_of(ConfigReader& config, const ModelSpec& spec) {
  const int head_dim = spec.layers[0].attention.head_dim, context = spec.max_positions;
  const auto local_base = config.get_or<double>("rope_local_base_freq", 10000);
  if (auto both = config.object("rope_parameters"); both && both->has("full_attention")) {
    auto full = both->object("full_attention"), local = both->object("sliding_attention");
    both->finish();
    return {rope_table(full ? &*full : nullptr, 1e6, head_dim, context, config.file()),
            rope_table(local ? &*local : nullptr, local_base, head_dim, context, config.file())};
  }
  config.set_default("rope_theta", 1e6);
  return {rope_table(config, head_dim, context), rope_table(nullptr, local_base, head_dim, context, config.file())};
}

ModelSpec from_config(ConfigReader& config) {
  config.set_default("tie_word_embeddings", true);
  config.set_default("head_dim", 256);
  if (!config.has("sliding_window")) config.set_default("sliding_window", 4096);
  config.positive("sliding_window");
  config.rename("_sliding_window_pattern", "sliding_window_pattern");
  config.set_default("sliding_window_pattern", pattern);
  const int period = config.positive("sliding_window_pattern");
  ModelSpec spec =
      common_spec(config, {.windowed = [=](Index layer) { return (layer + 1) % period != 0; }, .rope = false});
  add_what_gemma_3_has(spec, config.get_or<double>("query_pre_attn_scalar", 256));
  spec.ropes = ropes_of(config, spec);
  const auto activation = activation_key(config, "hidden_activation", "gelu_pytorch_tanh");
  spec.logit_softcap = config.get_or<float>("final_logit_softcapping", 0);
  each_layer(spec, [&](LayerSpec& layer) { layer.mlp.activation = activation; });
  config.ignore({"attn_logit_softcapping"});  // the reference reads it and does not cap
  return spec;
}

ModelSpec from_gguf(GgufReader& gguf) {
  ModelSpec spec = common_spec(gguf);
  spec.ropes.push_back(rope_table(nullptr, gguf.get_or<double>("rope.freq_base_swa", 10000),
                                  spec.layers[0].attention.head_dim, spec.max_positions, gguf.file()));
  set_gguf_windows(gguf, spec, 0, [](Index layer) { return (layer + 1) % pattern != 0; });
  const AttentionSpec& attention = spec.layers[0].attention;
  // Files do not hold the scalar: the model of 62 layers has another than head_dim.
  add_what_gemma_3_has(
      spec, spec.layer_count() == 62 ? static_cast<double>(spec.hidden_size) / attention.heads : attention.head_dim);
  return spec;
}

}  // namespace

Family family() {
  return {.name = "gemma3",
          .architectures = {"Gemma3ForCausalLM"},
          .gguf_architectures = {"gemma3"},
          .from_config = from_config,
          .from_gguf = from_gguf,
          .names = {.mlp_norm = "pre_feedforward_layernorm", .norms_plus_one = true}};
}

}  // namespace grist::gemma3
