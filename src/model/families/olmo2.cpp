// OLMo 2: norms behind attention and MLP and none before, and of q and k over all heads together.
#include <grist/model/common_keys.hpp>
#include <grist/model/family.hpp>

namespace grist::olmo2 {
namespace {

void add_what_olmo_2_has(ModelSpec& spec) {
  each_layer(spec, [](LayerSpec& layer) {
    layer.pre_norm = false;
    layer.post_norm = true;
    layer.attention.qk_norm = QkNorm::all;
  });
}

ModelSpec from_config(ConfigReader& config) {
  config.set_default("rms_norm_eps", 1e-5);
  ModelSpec spec = common_spec(config);
  add_what_olmo_2_has(spec);
  return spec;
}

ModelSpec from_gguf(GgufReader& gguf) {
  gguf.expect("attention.sliding_window", 0);  // of OLMo 3
  ModelSpec spec = common_spec(gguf);
  add_what_olmo_2_has(spec);
  return spec;
}

}  // namespace

Family family() {
  return {.name = "olmo2",
          .architectures = {"Olmo2ForCausalLM"},
          .gguf_architectures = {"olmo2"},
          .from_config = from_config,
          .from_gguf = from_gguf};
}

}  // namespace grist::olmo2
