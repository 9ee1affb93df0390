// What config.json and GGUF metadata say: both forms, what is ignored, what is refused.
#include "support/files.hpp"
#include "support/refuses.hpp"

#include <grist/core/errors.hpp>
#include <grist/model/family.hpp>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace {

using namespace grist;

nlohmann::json config_of(const std::string& model) {
  return nlohmann::json::parse(test::contents_of(test::data_file("tiny/" + model + "/config.json")));
}

TEST(Config, TheOldFormGivesTheSameSpecAsTransformers5) {
  int compared = 0;
  for (const auto& entry : std::filesystem::directory_iterator(test::data_file("tiny"))) {
    if (!std::filesystem::exists(entry.path() / "config_old.json")) continue;
    SCOPED_TRACE(entry.path().string());
    const auto now = read_spec(entry.path() / "config.json"), old = read_spec(entry.path() / "config_old.json");
    ASSERT_EQ(now.spec.ropes.size(), old.spec.ropes.size());
    for (std::size_t i = 0; i < now.spec.ropes.size(); ++i) {
      EXPECT_EQ(now.spec.ropes[i].inverse_frequencies, old.spec.ropes[i].inverse_frequencies);
      EXPECT_EQ(now.spec.ropes[i].scale, old.spec.ropes[i].scale);
    }
    for (std::size_t i = 0; i < now.spec.layers.size(); ++i) {
      const LayerSpec &a = now.spec.layers[i], &b = old.spec.layers[i];
      EXPECT_EQ(a.attention.window, b.attention.window) << i;
      EXPECT_EQ(a.attention.kv_heads, b.attention.kv_heads) << i;
      EXPECT_EQ(a.attention.scale, b.attention.scale) << i;
      EXPECT_EQ(a.attention.softcap, b.attention.softcap) << i;
      EXPECT_EQ(a.norm.eps, b.norm.eps) << i;
      EXPECT_EQ(a.mlp.activation, b.mlp.activation) << i;
      EXPECT_EQ(a.parallel, b.parallel) << i;
      EXPECT_EQ(a.shared_norm, b.shared_norm) << i;
    }
    EXPECT_EQ(now.stored, old.stored);
    EXPECT_EQ(now.tokens.eos, old.tokens.eos);
    EXPECT_EQ(now.spec.tied_embeddings, old.spec.tied_embeddings);
    EXPECT_EQ(parameter_count(now.spec), parameter_count(old.spec));
    ++compared;
  }
  EXPECT_GE(compared, 2);
}

TEST(Config, WhatChangesNothingIsIgnored) {
  const test::TemporaryFolder folder;
  auto config = config_of("llama2");
  config["_model_name_or_path"] = "elsewhere";
  config["auto_map"] = {{"AutoConfig", "x.C"}};
  config["unsloth_version"] = "2025.1";
  config["temperature"] = 0.5;
  config["rope_scaling"] = nullptr;
  config["rope_interleaved"] = false;
  EXPECT_NO_THROW(read_spec(folder.write("config.json", config.dump())));
}

TEST(Config, WhatChangesTheMathematicsIsRefused) {
  const test::TemporaryFolder folder;
  const auto with = [&](const std::string& key, const nlohmann::json& value) {
    auto config = config_of("llama2");
    config[key] = value;
    return [&folder, config] { read_spec(folder.write("config.json", config.dump())); };
  };
  EXPECT_THAT(with("rope_interleaved", true),
              test::Refuses({"config.json", "'rope_interleaved' is true, supported is false"}));
  EXPECT_THAT(with("layer_types", {"sliding_attention", "full_attention", "full_attention"}),
              test::Refuses({"sliding window", "names no size"}));
  EXPECT_THAT(with("quantization_config", {{"quant_method", "fp8"}}), test::Refuses({"quantized by 'fp8'"}));
  EXPECT_THAT(with("hidden_act", "swoosh"), test::Refuses({"hidden_act 'swoosh' is not known"}));
  EXPECT_THAT(with("clip_qkv", 3), test::Refuses({"keys that are not understood", "'clip_qkv'"}));
}

TEST(Config, AFamilyRefusesByNameWhatItDoesNotCompute) {
  const test::TemporaryFolder folder;
  const auto with = [&](const char* model, const nlohmann::json& changes) {
    auto config = config_of(model);
    config.update(changes);
    return [&folder, config] { read_spec(folder.write("config.json", config.dump())); };
  };
  EXPECT_THAT(with("stablelm", {{"qk_layernorm", true}}),
              test::Refuses({"'qk_layernorm' is true, supported is false"}));
  EXPECT_THAT(with("falcon", {{"alibi", true}}), test::Refuses({"'alibi' is true, supported is false"}));
  EXPECT_THAT(with("falcon", {{"num_ln_in_parallel_attn", 2}}),
              test::Refuses({"num_ln_in_parallel_attn is 2, supported is 1"}));
  EXPECT_THAT(with("falcon_40b", {{"parallel_attn", false}}),
              test::Refuses({"new_decoder_architecture without parallel_attn"}));
  EXPECT_THAT(with("qwen2_moe", {{"use_sliding_window", true}, {"sliding_window", 8}}),
              test::Refuses({"'use_sliding_window' is true, supported is false"}));
}

TEST(Config, AnUnknownArchitectureIsRefusedWithTheNearestAndAllKnown) {
  const test::TemporaryFolder folder;
  auto config = config_of("llama2");
  config["architectures"] = {"LlamaForCausalLN"};
  EXPECT_THAT([&] { read_spec(folder.write("config.json", config.dump())); },
              test::Refuses({"'LlamaForCausalLN' is not known; the nearest is 'LlamaForCausalLM'; known are",
                             "MistralForCausalLM"}));
}

TEST(Gguf, IsKnownByItsFirstBytesAndFoundInAFolder) {
  const test::TemporaryFolder folder;
  const auto bytes = test::contents_of(test::data_file("gguf/llama2.gguf"));
  EXPECT_EQ(read_spec(folder.write("blob", bytes)).family, "llama");
  folder.write("one.gguf", bytes);
  EXPECT_EQ(read_spec(folder.path()).family, "llama");
  folder.write("other.gguf", bytes);
  EXPECT_THAT([&] { read_spec(folder.path()); }, test::Refuses({"holds 2 GGUF files; give one of them"}));
}

TEST(Gguf, KeysThatNobodyUnderstandsAreListed) {
  const test::TemporaryFolder folder;
  auto bytes = test::contents_of(test::data_file("gguf/llama2.gguf"));
  // A key of the same length in the place of one that has a default.
  const std::string known = "llama.rope.freq_base", unknown = "llama.rope.freq_lure";
  const auto at = bytes.find(known);
  ASSERT_NE(at, std::string::npos);
  bytes.replace(at, known.size(), unknown);
  EXPECT_THAT([&] { read_spec(folder.write("model.gguf", bytes)); },
              test::Refuses({"model.gguf", "keys that are not understood", "'llama.rope.freq_lure'"}));
}

}  // namespace
