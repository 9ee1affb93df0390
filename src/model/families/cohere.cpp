// Cohere's Command-R: LayerNorm without biases, attention and MLP in parallel behind one norm, RoPE that turns
// neighbours in a head, scaled logits.
#include <grist/model/common_keys.hpp>
#include <grist/model/family.hpp>

namespace grist::cohere {
namespace {

void add_what_cohere_has(ModelSpec& spec) {
  spec.final_norm.bias = false;
  each_layer(spec, [](LayerSpec& layer) {
    layer.norm.bias = false;
    layer.parallel = layer.shared_norm = true;
  });
}

ModelSpec from_config(ConfigReader& config) {
  config.set_default("max_position_embeddings", 8192);
  config.set_default("tie_word_embeddings", true);
  config.set_default("rope_theta", 500000.0);
  ModelSpec spec = common_spec(config, {.norm = NormSpec::Kind::layer});
  spec.max_positions = config.get_or<int>("model_max_length", spec.max_positions);  // what it was trained for
  spec.logit_scale = config.get_or<float>("logit_scale", 0.0625F);
  add_what_cohere_has(spec);
  config.expect_value("use_qk_norm", false);  // a LayerNorm with weights of its own for each head
  return spec;
}

ModelSpec from_gguf(GgufReader& gguf) {
  ModelSpec spec = common_spec(gguf);
  if (spec.layers[0].attention.qk_norm != QkNorm::none)
    throw InputError("{}: blk.0.attn_q_norm.weight: norms of each head of a query are not supported", gguf.file());
  spec.logit_scale = static_cast<float>(gguf.get<double>("logit_scale"));
  add_what_cohere_has(spec);
  return spec;
}

}  // namespace

Family family() {
  Family family{.name = "cohere",
                .architectures = {"CohereForCausalLM"},
                .gguf_architectures = {"command-r"},
                .from_config = from_config,
                .from_gguf = from_gguf,
                .names = {.rope_pairs = true}};
  family.gguf.rope_pairs = true;
  return family;
}

}  // namespace grist::cohere
