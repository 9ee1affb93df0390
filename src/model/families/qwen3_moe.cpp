// Qwen3-MoE: Qwen3 with experts in most layers, whose weights need not sum to 1.
#include <grist/model/common_keys.hpp>
#include <grist/model/family.hpp>

#include <algorithm>

namespace grist {
namespace {

ModelSpec from_config(ConfigReader& config) {
  config.set_default("use_sliding_window", false);
  const auto first_windowed = config.get_or<int>("max_window_layers", 28);
  ModelSpec spec = common_spec(config, {.windowed = [=](Index layer) { return layer >= first_windowed; }});
  MlpSpec experts = spec.layers[0].mlp;
  experts.intermediate_size = config.positive("moe_intermediate_size");
  config.rename("num_local_experts", "num_experts");
  experts.experts = config.positive("num_experts");
  experts.experts_per_token = config.positive("num_experts_per_tok");
  experts.renormalize = config.get_or<bool>("norm_topk_prob", false);
  const int step = config.get_or<int>("decoder_sparse_step", 1);
  if (step < 1) throw InputError("{}: decoder_sparse_step is {}, expected 1 or more", config.file(), step);
  const auto dense = config.list("mlp_only_layers");
  for (int i = 0; i < static_cast<int>(spec.layers.size()); ++i) {
    LayerSpec& layer = spec.layers[static_cast<std::size_t>(i)];
    layer.attention.qk_norm = QkNorm::head;
    if ((i + 1) % step == 0 && std::ranges::find(dense, i) == dense.end()) layer.mlp = experts;
  }
  config.ignore({"output_router_logits", "router_aux_loss_coef"});  // training's
  return spec;
}

ModelSpec from_gguf(GgufReader& gguf) {
  ModelSpec spec = common_spec(gguf);
  const int intermediate_size = gguf.positive("expert_feed_forward_length");
  each_layer(spec, [&](LayerSpec& layer) { layer.mlp.intermediate_size = intermediate_size; });
  return spec;
}

}  // namespace

Family qwen3_moe_family() {
  return {.name = "qwen3_moe",
          .architectures = {"Qwen3MoeForCausalLM"},
          .gguf_architectures = {"qwen3moe"},
          .from_config = from_config,
          .from_gguf = from_gguf,
          .names = {.experts_gate_up = "mlp.experts.gate_up_proj", .experts_down = "mlp.experts.down_proj"}};
}

}  // namespace grist
