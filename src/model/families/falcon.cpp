// Falcon: LayerNorm with biases, RoPE, no gate, q, k and v of each KV group together; attention and MLP in parallel
// behind one norm (7B, 11B) or behind one each (40B, 180B).
#include <grist/model/common_keys.hpp>
#include <grist/model/family.hpp>

namespace grist::falcon {
namespace {

int kv_heads_of(ConfigReader& config, bool new_decoder) {
  const int heads = config.positive("num_attention_heads"), grouped = config.get_or<int>("num_kv_heads", heads);
  const bool multi_query = config.get_or<bool>("multi_query", true);
  return new_decoder ? grouped : multi_query ? 1 : heads;
}

ModelSpec from_config(ConfigReader& config) {
  config.rename("n_embed", "hidden_size");
  config.rename("ffn_hidden_size", "intermediate_size");
  config.rename("activation", "hidden_act");
  config.rename("bias", "attention_bias");
  config.rename("bias", "mlp_bias");
  config.set_default("hidden_act", "gelu");
  config.set_default("tie_word_embeddings", true);
  config.set_default("intermediate_size", 4 * config.positive("hidden_size"));
  const bool new_decoder = config.get_or<bool>("new_decoder_architecture", false);
  config.set_default("num_key_value_heads", kv_heads_of(config, new_decoder));
  ModelSpec spec = common_spec(config, {.norm = NormSpec::Kind::layer});
  const bool parallel = config.get_or<bool>("parallel_attn", true);
  const int norms = config.get_or<int>("num_ln_in_parallel_attn", new_decoder ? 2 : 1);
  if (new_decoder && !parallel)
    throw InputError("{}: new_decoder_architecture without parallel_attn is not supported", config.file());
  if (norms != 1 && !(norms == 2 && new_decoder))
    throw InputError("{}: num_ln_in_parallel_attn is {}, supported is 1, and 2 with new_decoder_architecture",
                     config.file(), norms);
  each_layer(spec, [&](LayerSpec& layer) {
    layer.parallel = parallel;
    layer.shared_norm = parallel && norms == 1;
    layer.mlp.gated = false;
  });
  config.expect_value("alibi", false);  // Falcon's is scaled as the scores are, and rounded to bf16
  config.expect_value("apply_residual_connection_post_layernorm", false);
  config.ignore({"ff_factor"});  // ffn_hidden_size / hidden_size
  return spec;
}

ModelSpec from_gguf(GgufReader& gguf) {
  ModelSpec spec = common_spec(gguf);
  each_layer(spec, [&](LayerSpec& layer) {
    layer.parallel = true;
    layer.shared_norm = gguf.weights().find("blk.0.attn_norm_2.weight") == nullptr;
    layer.mlp.gated = false;
    layer.mlp.activation = layers::Activation::gelu;
  });
  return spec;
}

}  // namespace

Family family() {
  Family family{.name = "falcon",
                .architectures = {"FalconForCausalLM"},
                .gguf_architectures = {"falcon"},
                .from_config = from_config,
                .from_gguf = from_gguf,
                .names = {.base = "transformer.",
                          .layer = "h.{}.",
                          .embedding = "word_embeddings", .final_norm = "ln_f",
                          .q = "", .k = "", .v = "",
                          .qkv = "self_attention.query_key_value",
                          .o = "self_attention.dense",
                          .parallel_attention_norm = "ln_attn",
                          .parallel_mlp_norm = "ln_mlp",
                          .up = "mlp.dense_h_to_4h",
                          .down = "mlp.dense_4h_to_h",
                          .fused = TensorNames::Fused::by_group}};
  family.gguf.parallel_attention_norm = "attn_norm_2";
  family.gguf.parallel_mlp_norm = "attn_norm";
  return family;
}

}  // namespace grist::falcon
