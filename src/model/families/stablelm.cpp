// StableLM: LayerNorm with biases, a quarter of each head turns by RoPE, and in some models attention and MLP in
// parallel behind one norm.
#include <grist/model/common_keys.hpp>
#include <grist/model/family.hpp>

namespace grist::stablelm {
namespace {

ModelSpec from_config(ConfigReader& config) {
  config.set_default("partial_rotary_factor", 0.25);
  config.set_default("max_position_embeddings", 4096);
  ModelSpec spec = common_spec(config, {.partial_rope = true, .norm = NormSpec::Kind::layer});
  const bool parallel = config.get_or<bool>("use_parallel_residual", false),
             bias = config.get_or<bool>("use_qkv_bias", false);
  each_layer(spec, [&](LayerSpec& layer) {
    layer.parallel = layer.shared_norm = parallel;
    layer.attention.q_bias = layer.attention.k_bias = layer.attention.v_bias = bias;
  });
  config.expect_value("qk_layernorm", false);  // a LayerNorm with weights of its own for each head
  return spec;
}

ModelSpec from_gguf(GgufReader& gguf) {
  ModelSpec spec = common_spec(gguf);
  const bool parallel = gguf.weights().find("blk.0.ffn_norm.weight") == nullptr;
  if (gguf.get_or<bool>("use_parallel_residual", parallel) != parallel)
    throw InputError("{}: stablelm.use_parallel_residual is {}, and blk.0.ffn_norm.weight is {}", gguf.file(),
                     !parallel, parallel ? "missing" : "there");
  if (spec.layers[0].attention.qk_norm != QkNorm::none)
    throw InputError("{}: blk.0.attn_q_norm.weight: norms of each head of a query are not supported", gguf.file());
  each_layer(spec, [&](LayerSpec& layer) { layer.parallel = layer.shared_norm = parallel; });
  return spec;
}

}  // namespace

Family family() {
  return {.name = "stablelm",
          .architectures = {"StableLmForCausalLM"},
          .gguf_architectures = {"stablelm"},
          .from_config = from_config,
          .from_gguf = from_gguf};
}

}  // namespace grist::stablelm
