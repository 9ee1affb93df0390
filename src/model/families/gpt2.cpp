// GPT-2: learned positions, LayerNorm with biases, matrices stored [in, out], no gate.
#include <grist/model/common_keys.hpp>
#include <grist/model/family.hpp>

namespace grist::gpt2 {
namespace {

void add_what_gpt2_has(ModelSpec& spec) {
  spec.learned_positions = spec.max_positions;
  each_layer(spec, [&](LayerSpec& layer) {
    AttentionSpec& attention = layer.attention;
    attention.position = Position::none;
    attention.q_bias = attention.k_bias = attention.v_bias = attention.o_bias = true;
    layer.mlp.gated = false;
    layer.mlp.up_bias = layer.mlp.down_bias = true;
  });
}

ModelSpec from_config(ConfigReader& config) {
  config.rename("n_embd", "hidden_size");
  config.rename("n_layer", "num_hidden_layers");
  config.rename("n_head", "num_attention_heads");
  config.rename("n_inner", "intermediate_size");
  config.rename("n_positions", "max_position_embeddings");
  config.rename("activation_function", "hidden_act");
  config.set_default("hidden_act", "gelu_new");
  config.set_default("max_position_embeddings", 1024);
  config.set_default("tie_word_embeddings", true);
  config.set_default("intermediate_size", 4 * config.positive("hidden_size"));
  ModelSpec spec = common_spec(config, {.rope = false, .norm = NormSpec::Kind::layer});
  add_what_gpt2_has(spec);
  config.expect_value("scale_attn_weights", true);
  config.expect_value("scale_attn_by_inverse_layer_idx", false);
  config.expect_value("n_ctx", spec.max_positions);
  config.ignore({"reorder_and_upcast_attn"});  // how it is computed elsewhere, not what
  return spec;
}

ModelSpec from_gguf(GgufReader& gguf) {
  ModelSpec spec = common_spec(gguf, false);
  add_what_gpt2_has(spec);
  each_layer(spec, [](LayerSpec& layer) { layer.mlp.activation = layers::Activation::gelu_tanh; });
  return spec;
}

}  // namespace

Family family() {
  return {.name = "gpt2",
          .architectures = {"GPT2LMHeadModel"},
          .gguf_architectures = {"gpt2"},
          .from_config = from_config,
          .from_gguf = from_gguf,
          .names = {.base = "transformer.",
                    .layer = "h.{}.",
                    .embedding = "wte",
                    .positions = "wpe",
                    .final_norm = "ln_f",
                    .attention_norm = "ln_1",
                    .q = "", .k = "", .v = "",
                    .qkv = "attn.c_attn",
                    .o = "attn.c_proj",
                    .mlp_norm = "ln_2",
                    .up = "mlp.c_fc",
                    .down = "mlp.c_proj",
                    .transposed = true}};
}

}  // namespace grist::gpt2
