// Qwen2, Qwen2.5 and Qwen3: LLaMA-like, with biases of q, k and v (2, 2.5) or norms of q and k per head (3).
#include <grist/model/common_keys.hpp>
#include <grist/model/family.hpp>

#include <algorithm>

namespace grist::qwen {
namespace {

ModelSpec from_config(ConfigReader& config) {
  const bool third = config.get<std::string>("model_type") == "qwen3";
  if (third) config.set_default("head_dim", 128);
  const bool used = uses_windows(config);
  const auto types = config.find<std::vector<std::string>>("layer_types").value_or(std::vector<std::string>{});
  if (!used && std::ranges::find(types, "sliding_attention") != types.end())
    throw InputError("{}: layer_types names layers with a window, and use_sliding_window is false", config.file());
  const auto first_windowed = config.get_or<int>("max_window_layers", 28);
  ModelSpec spec = common_spec(config, {.windowed = [=](Index layer) { return used && layer >= first_windowed; }});
  each_layer(spec, [&](LayerSpec& layer) {
    AttentionSpec& attention = layer.attention;
    if (third)
      attention.qk_norm = QkNorm::head;
    else
      attention.q_bias = attention.k_bias = attention.v_bias = true;
  });
  return spec;
}

ModelSpec from_gguf(GgufReader& gguf) { return common_spec(gguf); }

}  // namespace

Family family() {
  return {.name = "qwen",
          .architectures = {"Qwen2ForCausalLM", "Qwen3ForCausalLM"},
          .gguf_architectures = {"qwen2", "qwen3"},
          .from_config = from_config,
          .from_gguf = from_gguf};
}

}  // namespace grist::qwen
