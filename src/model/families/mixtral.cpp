// Mixtral: Mistral with experts in place of the MLP, whose weights sum to 1. In GGUF files it is a llama with experts.
#include <grist/model/common_keys.hpp>
#include <grist/model/family.hpp>

namespace grist::mixtral {
namespace {

ModelSpec from_config(ConfigReader& config) {
  config.set_default("rope_theta", 1e6);
  config.set_default("rms_norm_eps", 1e-5);
  ModelSpec spec = common_spec(config, {.windowed = [](Index) { return true; }, .layer_types = false});
  const int experts = config.get_or<int>("num_local_experts", 8),
            per_token = config.get_or<int>("num_experts_per_tok", 2);
  each_layer(spec, [&](LayerSpec& layer) {
    layer.mlp.experts = experts;
    layer.mlp.experts_per_token = per_token;
  });
  spec.router_aux_loss = router_aux_loss(config);
  config.ignore({"router_jitter_noise"});  // training's
  return spec;
}

}  // namespace

Family family() {
  return {.name = "mixtral",
          .architectures = {"MixtralForCausalLM"},
          .from_config = from_config,
          .names = {.router = "block_sparse_moe.gate",
                    .other_router = "mlp.gate",
                    .expert_gate = "block_sparse_moe.experts.{}.w1",
                    .expert_up = "block_sparse_moe.experts.{}.w3",
                    .expert_down = "block_sparse_moe.experts.{}.w2",
                    .experts_gate_up = "mlp.experts.gate_up_proj",
                    .experts_down = "mlp.experts.down_proj"}};
}

}  // namespace grist::mixtral
