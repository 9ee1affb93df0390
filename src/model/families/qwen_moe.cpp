// Qwen2-MoE and Qwen3-MoE: Qwen with experts in most layers, whose weights need not sum to 1; Qwen2-MoE has one more
// expert that every token takes, scaled by a gate.
#include <grist/model/common_keys.hpp>
#include <grist/model/family.hpp>

#include <algorithm>

namespace grist::qwen_moe {
namespace {

MlpSpec experts_of(ConfigReader& config, bool second, MlpSpec mlp) {
  mlp.intermediate_size = config.positive("moe_intermediate_size");
  config.rename("num_local_experts", "num_experts");
  mlp.experts = config.positive("num_experts");
  mlp.experts_per_token = config.positive("num_experts_per_tok");
  mlp.renormalize = config.get_or<bool>("norm_topk_prob", false);
  if (second) mlp.shared_intermediate = config.get_or<int>("shared_expert_intermediate_size", 5632);
  mlp.shared_gate = second;
  return mlp;
}

ModelSpec from_config(ConfigReader& config) {
  const bool second = config.get<std::string>("model_type") == "qwen2_moe";
  if (second)
    config.expect_value("use_sliding_window", false);  // of which layers it is differs between versions of transformers
  const bool used = uses_windows(config);
  config.ignore({"layer_types"});
  ModelSpec spec = common_spec(config, {.windowed = [=](Index) { return used; }, .layer_types = false});
  const MlpSpec experts = experts_of(config, second, spec.layers[0].mlp);
  const int step = config.get_or<int>("decoder_sparse_step", 1);
  if (step < 1) throw InputError("{}: decoder_sparse_step is {}, expected 1 or more", config.file(), step);
  const auto dense = config.list("mlp_only_layers");
  const bool bias = second && config.get_or<bool>("qkv_bias", true);
  for (int i = 0; i < static_cast<int>(spec.layers.size()); ++i) {
    LayerSpec& layer = spec.layers[static_cast<std::size_t>(i)];
    if (second)
      layer.attention.q_bias = layer.attention.k_bias = layer.attention.v_bias = bias;
    else
      layer.attention.qk_norm = QkNorm::head;
    if ((i + 1) % step == 0 && std::ranges::find(dense, i) == dense.end()) layer.mlp = experts;
  }
  spec.router_aux_loss = router_aux_loss(config);
  return spec;
}

ModelSpec from_gguf(GgufReader& gguf) {
  ModelSpec spec = common_spec(gguf);
  const bool second = gguf.weights().find("blk.0.ffn_gate_inp_shexp.weight") != nullptr;
  MlpSpec mlp = spec.layers[0].mlp;
  if (second) mlp.shared_intermediate = gguf.positive_or("expert_shared_feed_forward_length", mlp.intermediate_size);
  mlp.shared_gate = second;
  mlp.renormalize = !second;  // no key tells
  const int each = mlp.intermediate_size / std::max(1, mlp.experts_per_token);
  mlp.intermediate_size = second ? gguf.positive_or("expert_feed_forward_length", each)
                                 : gguf.positive("expert_feed_forward_length");
  each_layer(spec, [&](LayerSpec& layer) { layer.mlp = mlp; });
  return spec;
}

}  // namespace

Family family() {
  return {.name = "qwen_moe",
          .architectures = {"Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM"},
          .gguf_architectures = {"qwen2moe", "qwen3moe"},
          .from_config = from_config,
          .from_gguf = from_gguf,
          .names = {.experts_gate_up = "mlp.experts.gate_up_proj", .experts_down = "mlp.experts.down_proj"}};
}

}  // namespace grist::qwen_moe
