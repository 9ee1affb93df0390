// Phi 1, 1.5 and 2: LayerNorm, RoPE on a part of each head, no gate, attention and MLP in parallel behind one norm, and
// biases everywhere, of the logits too.
#include <grist/model/common_keys.hpp>
#include <grist/model/family.hpp>

namespace grist::phi {
namespace {

void add_what_phi_has(ModelSpec& spec) {
  spec.head_bias = true;
  each_layer(spec, [](LayerSpec& layer) {
    layer.parallel = layer.shared_norm = true;
    AttentionSpec& attention = layer.attention;
    attention.q_bias = attention.k_bias = attention.v_bias = attention.o_bias = true;
    layer.mlp.gated = false;
    layer.mlp.up_bias = layer.mlp.down_bias = true;
  });
}

ModelSpec from_config(ConfigReader& config) {
  config.set_default("partial_rotary_factor", 0.5);
  config.set_default("hidden_act", "gelu_new");
  ModelSpec spec = common_spec(config, {.partial_rope = true, .norm = NormSpec::Kind::layer});
  add_what_phi_has(spec);
  config.expect_value("qk_layernorm", false);  // a LayerNorm with weights and biases, the same for all heads
  return spec;
}

ModelSpec from_gguf(GgufReader& gguf) {
  ModelSpec spec = common_spec(gguf);
  add_what_phi_has(spec);
  each_layer(spec, [](LayerSpec& layer) { layer.mlp.activation = layers::Activation::gelu_tanh; });
  return spec;
}

}  // namespace

Family family() {
  return {.name = "phi",
          .architectures = {"PhiForCausalLM"},
          .gguf_architectures = {"phi2"},
          .from_config = from_config,
          .from_gguf = from_gguf,
          .names = {.final_norm = "final_layernorm",
                    .o = "self_attn.dense",
                    .up = "mlp.fc1",
                    .down = "mlp.fc2"}};
}

}  // namespace grist::phi
