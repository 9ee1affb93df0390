#include <grist/model/common_keys.hpp>

#include <grist/core/errors.hpp>
#include <grist/model/rope_tables.hpp>

#include <cmath>

namespace grist {
namespace {

constexpr int most_layers = 10000;

int layers_of(const std::string& file, const char* key, int layers) {
  if (layers > most_layers)
    throw InputError("{}: key '{}' is {}, expected {} at most", file, key, layers, most_layers);
  return layers;
}

/// The window of each layer: `sliding_window` in those that layer_types calls so, or else those of the family.
void set_windows(ConfigReader& config, const CommonKeys& keys, ModelSpec& spec) {
  const int window = config.get_or<int>("sliding_window", 0);
  if (window < 0) throw InputError("{}: key 'sliding_window' is {}, expected 1 or more", config.file(), window);
  const auto types = keys.layer_types ? config.find<std::vector<std::string>>("layer_types")
                                      : std::optional<std::vector<std::string>>();
  if (types && types->size() != spec.layers.size())
    throw InputError("{}: layer_types names {} layers, there are {}", config.file(), types->size(), spec.layers.size());
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    const bool slides = types && (*types)[i] == "sliding_attention";
    if (types && !slides && (*types)[i] != "full_attention")
      throw InputError("{}: layer type '{}' is not known; known are full_attention and sliding_attention",
                       config.file(), (*types)[i]);
    if (slides && window == 0)
      throw InputError("{}: layer {} has a sliding window, and 'sliding_window' names no size", config.file(), i);
    spec.layers[i].attention.window = (types ? slides : keys.windowed(static_cast<Index>(i))) ? window : 0;
  }
}

/// All norms alike.
void set_norms(ModelSpec& spec, const NormSpec& norm) {
  spec.final_norm = norm;
  for (auto& layer : spec.layers) layer.norm = norm;
}

NormSpec norm_of(ConfigReader& config, NormSpec::Kind kind) {
  if (kind == NormSpec::Kind::rms) return {.eps = config.get_or<float>("rms_norm_eps", 1e-6F)};
  config.rename("layer_norm_epsilon", "layer_norm_eps");
  return {.kind = kind, .eps = config.get_or<float>("layer_norm_eps", 1e-5F), .bias = true};
}

NormSpec norm_of(GgufReader& gguf) {
  const auto eps = gguf.get_or<double>("attention.layer_norm_epsilon", -1);
  if (eps < 0) return {.eps = static_cast<float>(gguf.get_or<double>("attention.layer_norm_rms_epsilon", 1e-6))};
  return {.kind = NormSpec::Kind::layer,
          .eps = static_cast<float>(eps),
          .bias = gguf.weights().find("output_norm.bias") != nullptr};
}

}  // namespace

bool uses_windows(ConfigReader& config) {
  const bool used = config.get_or<bool>("use_sliding_window", false);
  if (used && !config.has("sliding_window")) config.set_default("sliding_window", 4096);
  return used;
}

layers::Activation activation_key(ConfigReader& config, const std::string& key, std::string_view otherwise) {
  const auto name = config.get_or<std::string>(key, std::string(otherwise));
  const auto activation = layers::activation_of(name);
  if (!activation) throw InputError("{}: {} '{}' is not known", config.file(), key, name);
  return *activation;
}

float router_aux_loss(ConfigReader& config) {
  const auto factor = config.get_or<float>("router_aux_loss_coef", 0.001F);
  if (factor < 0) throw InputError("{}: router_aux_loss_coef is {}, expected 0 or more", config.file(), factor);
  return config.get_or<bool>("output_router_logits", false) ? factor : 0;
}

ModelSpec common_spec(ConfigReader& config, const CommonKeys& keys) {
  ModelSpec spec;
  spec.vocab_size = config.positive("vocab_size");
  spec.hidden_size = config.positive("hidden_size");
  spec.max_positions = config.get_or<int>("max_position_embeddings", 2048);
  spec.tied_embeddings = config.get_or<bool>("tie_word_embeddings", false);
  spec.initializer_range = config.get_or<float>("initializer_range", 0.02F);

  LayerSpec layer;
  AttentionSpec& attention = layer.attention;
  attention.heads = config.positive("num_attention_heads");
  attention.kv_heads = config.get_or<int>("num_key_value_heads", attention.heads);
  attention.head_dim = config.get_or<int>("head_dim", static_cast<int>(spec.hidden_size) / attention.heads);
  attention.scale = 1.0F / std::sqrt(static_cast<float>(attention.head_dim));
  attention.q_bias = attention.k_bias = attention.v_bias = attention.o_bias =
      config.get_or<bool>("attention_bias", false);
  layer.mlp.intermediate_size = config.positive("intermediate_size");
  layer.mlp.activation = activation_key(config, "hidden_act", "silu");
  layer.mlp.up_bias = layer.mlp.down_bias = config.get_or<bool>("mlp_bias", false);
  const int layers = layers_of(config.file(), "num_hidden_layers", config.positive("num_hidden_layers"));
  spec.layers.assign(static_cast<std::size_t>(layers), layer);
  if (keys.rope) {
    spec.ropes = {rope_table(config, attention.head_dim, spec.max_positions)};
    if (!keys.partial_rope && 2 * std::ssize(spec.ropes[0].inverse_frequencies) != attention.head_dim)
      throw InputError("{}: key 'partial_rotary_factor' is not 1: models of this family turn whole heads",
                       config.file());
  }
  set_norms(spec, norm_of(config, keys.norm));
  config.expect_value("rope_interleaved", false);
  if (keys.windowed) set_windows(config, keys, spec);
  return spec;
}

ModelSpec common_spec(GgufReader& gguf, bool rope) {
  ModelSpec spec;
  const auto* embedding = gguf.weights().find("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2)
    throw InputError("{}: tensor 'token_embd.weight' is missing or no matrix", gguf.file());
  spec.vocab_size = embedding->rows();
  gguf.expect("vocab_size", spec.vocab_size);
  spec.hidden_size = gguf.positive("embedding_length");
  spec.max_positions = gguf.positive("context_length");
  const bool has_head = gguf.weights().find("output.weight") != nullptr;
  spec.tied_embeddings = !has_head;

  const auto has = [&](const char* tensor) { return gguf.weights().find(tensor) != nullptr; };
  LayerSpec layer;
  AttentionSpec& attention = layer.attention;
  attention.heads = gguf.positive("attention.head_count");
  attention.kv_heads = gguf.positive_or("attention.head_count_kv", attention.heads);
  attention.head_dim = gguf.positive_or("attention.key_length", static_cast<int>(spec.hidden_size) / attention.heads);
  gguf.expect("attention.value_length", attention.head_dim);
  attention.scale = static_cast<float>(
      gguf.get_or<double>("attention.scale", 1.0 / std::sqrt(static_cast<double>(attention.head_dim))));
  const bool fused = has("blk.0.attn_qkv.bias");
  attention.q_bias = fused || has("blk.0.attn_q.bias");
  attention.k_bias = fused || has("blk.0.attn_k.bias");
  attention.v_bias = fused || has("blk.0.attn_v.bias");
  attention.o_bias = has("blk.0.attn_output.bias");
  attention.qk_norm = has("blk.0.attn_q_norm.weight") ? QkNorm::head : QkNorm::none;
  layer.mlp.intermediate_size = gguf.positive("feed_forward_length");
  layer.mlp.up_bias = has("blk.0.ffn_up.bias");
  layer.mlp.down_bias = has("blk.0.ffn_down.bias");
  layer.mlp.experts = gguf.count_or("expert_count", 0);
  layer.mlp.experts_per_token = gguf.count_or("expert_used_count", 0);
  spec.layers.assign(static_cast<std::size_t>(layers_of(gguf.file(), "block_count", gguf.positive("block_count"))),
                     layer);
  set_norms(spec, norm_of(gguf));
  if (rope) spec.ropes = {rope_table(gguf, attention.head_dim)};
  gguf.ignore({"tensor_data_layout", "attention.sliding_window"});
  return spec;
}

void set_gguf_windows(GgufReader& gguf, ModelSpec& spec, int otherwise,
                      const std::function<bool(Index layer)>& windowed) {
  const int window = gguf.count_or("attention.sliding_window", otherwise);
  for (Index layer = 0; layer < spec.layer_count(); ++layer)
    spec.layers[static_cast<std::size_t>(layer)].attention.window = windowed(layer) ? window : 0;
}

}  // namespace grist
