// LLaMA 1, 2, 3.x, SmolLM2 and Mistral: RMSNorm, RoPE, grouped-query attention, gated MLP.
#include <grist/model/common_keys.hpp>
#include <grist/model/family.hpp>

namespace grist::llama {
namespace {

ModelSpec from_config(ConfigReader& config) {
  const std::vector<std::string> names{"MistralForCausalLM"};
  const bool mistral = config.find<std::vector<std::string>>("architectures") == names ||
                       config.get_or<std::string>("model_type", "") == "mistral";
  config.ignore({"layer_types", "use_sliding_window"});  // as the reference does; of LLaMA the window too
  if (!mistral) {
    config.ignore({"sliding_window"});
    return common_spec(config);
  }
  // Mistral's window is 4096 where nothing is said, and none where null is.
  if (!config.has("sliding_window")) config.set_default("sliding_window", 4096);
  return common_spec(config, {.windowed = [](Index) { return true; }, .layer_types = false});
}

ModelSpec from_gguf(GgufReader& gguf) { return common_spec(gguf); }

}  // namespace

Family family() {
  Family family{.name = "llama",
                .architectures = {"LlamaForCausalLM", "MistralForCausalLM"},
                .gguf_architectures = {"llama"},
                .from_config = from_config,
                .from_gguf = from_gguf};
  family.gguf.rope_pairs = true;
  return family;
}

}  // namespace grist::llama
