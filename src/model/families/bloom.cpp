// BLOOM: ALiBi, LayerNorm with biases, one after the embedding too, q, k and v of each head together, no gate.
#include <grist/model/common_keys.hpp>
#include <grist/model/family.hpp>

#include <cmath>

namespace grist::bloom {
namespace {

void add_what_bloom_has(ModelSpec& spec) {
  spec.embedding_norm = true;
  each_layer(spec, [&](LayerSpec& layer) {
    AttentionSpec& attention = layer.attention;
    attention.position = Position::alibi;
    attention.q_bias = attention.k_bias = attention.v_bias = attention.o_bias = true;
    layer.mlp.gated = false;
    layer.mlp.activation = layers::Activation::gelu_tanh;
    layer.mlp.up_bias = layer.mlp.down_bias = true;
  });
}

ModelSpec from_config(ConfigReader& config) {
  config.rename("n_embed", "hidden_size");
  config.rename("n_layer", "num_hidden_layers");
  config.rename("n_head", "num_attention_heads");
  config.rename("seq_length", "max_position_embeddings");
  config.set_default("tie_word_embeddings", true);
  config.set_default("intermediate_size", 4 * config.positive("hidden_size"));
  ModelSpec spec = common_spec(config, {.rope = false, .norm = NormSpec::Kind::layer});
  add_what_bloom_has(spec);
  config.expect_value("apply_residual_connection_post_layernorm", false);
  config.expect_value("n_inner", 4 * static_cast<int>(spec.hidden_size));
  config.ignore({"slow_but_exact", "skip_bias_add", "skip_bias_add_qkv", "bias_dropout_fusion", "masked_softmax_fusion",
                 "offset_alibi", "attention_softmax_in_fp32"});  // how it is computed elsewhere, not what
  return spec;
}

ModelSpec from_gguf(GgufReader& gguf) {
  ModelSpec spec = common_spec(gguf, false);
  add_what_bloom_has(spec);
  return spec;
}

}  // namespace

Family family() {
  return {.name = "bloom",
          .architectures = {"BloomForCausalLM"},
          .gguf_architectures = {"bloom"},
          .from_config = from_config,
          .from_gguf = from_gguf,
          .names = {.base = "transformer.",
                    .layer = "h.{}.",
                    .embedding = "word_embeddings",
                    .embedding_norm = "word_embeddings_layernorm",
                    .final_norm = "ln_f",
                    .q = "", .k = "", .v = "",
                    .qkv = "self_attention.query_key_value",
                    .o = "self_attention.dense",
                    .up = "mlp.dense_h_to_4h",
                    .down = "mlp.dense_4h_to_h",
                    .fused = TensorNames::Fused::by_group}};
}

}  // namespace grist::bloom
