// What config.json says: both forms, what is ignored, what is refused.
#include "support/files.hpp"
#include "support/refuses.hpp"

#include <grist/core/errors.hpp>
#include <grist/model/family.hpp>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <format>
#include <sstream>

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
    EXPECT_EQ(now.spec.logit_scale, old.spec.logit_scale);
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

TEST(Config, TheRoutersLossIsTrainedWhereTransformersAddsIt) {
  const test::TemporaryFolder folder;
  for (const char* model : {"mixtral", "qwen2_moe", "qwen3_moe"}) {
    auto config = config_of(model);
    const auto factor = [&] { return read_spec(folder.write("config.json", config.dump())).spec.router_aux_loss; };
    config["router_aux_loss_coef"] = 0.02;
    EXPECT_EQ(factor(), 0) << model;
    config["output_router_logits"] = true;
    EXPECT_EQ(factor(), 0.02F) << model;
    config.erase("router_aux_loss_coef");
    EXPECT_EQ(factor(), 0.001F) << model;
    config["router_aux_loss_coef"] = -1;
    EXPECT_THAT(factor, test::Refuses({"router_aux_loss_coef is -1"}));
  }
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
  EXPECT_THAT(with("quantization_config", {{"quant_method", "fp8"}}), test::Refuses({"quantized by 'fp8'"}));
  EXPECT_THAT(with("hidden_act", "swoosh"), test::Refuses({"hidden_act 'swoosh' is not known"}));
  EXPECT_THAT(with("clip_qkv", 3), test::Refuses({"keys that are not understood", "'clip_qkv'"}));
}

/// A model that was made plain again, and whose config.json was not.
TEST(Config, OfAQuantizedModelWithPlainWeightsIsReadWithANote) {
  const test::TemporaryFolder folder;
  auto config = config_of("llama2");
  config["quantization_config"] = {{"quant_method", "fp8"}};
  folder.write("config.json", config.dump());
  std::filesystem::copy_file(test::data_file("tiny/llama2/model.safetensors"), folder / "model.safetensors");
  const auto files = open_model(folder.path());
  ASSERT_EQ(files.notes.size(), 1U);
  EXPECT_THAT(files.notes[0], testing::HasSubstr("quantized by 'fp8', but its weights are plain numbers"));

  config["intermediate_size"] = config["intermediate_size"].get<int>() + 1;  // as where blocks have other shapes
  folder.write("config.json", config.dump());
  EXPECT_THAT([&] { open_model(folder.path()); }, test::Refuses({"quantized by 'fp8' cannot be read", "has shape"}));
}

TEST(Config, WithoutOneArchitectureOrOfABareDecoderHasThatOfItsType) {
  const test::TemporaryFolder folder;
  for (const auto* model : {"llama2", "qwen2_moe", "gpt2", "cohere"}) {
    auto config = config_of(model);
    const auto family = read_spec(folder.write("config.json", config.dump())).family;
    config["architectures"] = {"A", "B"};
    EXPECT_EQ(read_spec(folder.write("config.json", config.dump())).family, family);
    config["architectures"] = {"XModel"};
    EXPECT_EQ(read_spec(folder.write("config.json", config.dump())).family, family);
    config.erase("architectures");
    EXPECT_EQ(read_spec(folder.write("config.json", config.dump())).family, family);
    config["model_type"] = "unheard_of";
    EXPECT_THAT([&] { read_spec(folder.write("config.json", config.dump())); },
                test::Refuses({"'architectures' names 0 architectures"}));
  }
}

/// As transformers 5 does it.
TEST(Config, ThatTiesAHeadWhichDiffersFromTheEmbeddingIsReadUntiedWithANote) {
  const test::TemporaryFolder folder;
  auto config = config_of("llama2");
  ASSERT_FALSE(config["tie_word_embeddings"].get<bool>());
  config["tie_word_embeddings"] = true;
  folder.write("config.json", config.dump());
  std::filesystem::copy_file(test::data_file("tiny/llama2/model.safetensors"), folder / "model.safetensors");
  const auto files = open_model(folder.path());
  EXPECT_FALSE(files.spec.tied_embeddings);
  ASSERT_EQ(files.notes.size(), 1U);
  EXPECT_THAT(files.notes[0], testing::HasSubstr("they differ: both are used"));
}

TEST(Config, LayersBeyondItsCountAreLeftOutWithANote) {
  const test::TemporaryFolder folder;
  auto config = config_of("llama2");
  const int layers = config["num_hidden_layers"].get<int>() - 1;
  config["num_hidden_layers"] = layers;
  config.erase("layer_types");
  folder.write("config.json", config.dump());
  std::filesystem::copy_file(test::data_file("tiny/llama2/model.safetensors"), folder / "model.safetensors");
  const auto files = open_model(folder.path());
  EXPECT_EQ(files.spec.layer_count(), layers);
  ASSERT_EQ(files.notes.size(), 1U);
  EXPECT_THAT(files.notes[0], testing::HasSubstr(std::format("layers beyond the {} of its config", layers)));
}

TEST(Config, AFamilyRefusesByNameWhatItDoesNotCompute) {
  const test::TemporaryFolder folder;
  const auto with = [&](const char* model, const nlohmann::json& changes) {
    auto config = config_of(model);
    config.update(changes);
    return [&folder, config] { read_spec(folder.write("config.json", config.dump())); };
  };
  const std::vector<std::string> sliding(config_of("qwen2")["num_hidden_layers"].get<std::size_t>(),
                                         "sliding_attention");
  EXPECT_THAT(with("qwen2", {{"layer_types", sliding}, {"use_sliding_window", true}, {"sliding_window", nullptr}}),
              test::Refuses({"sliding window", "names no size"}));
  EXPECT_THAT(with("stablelm", {{"qk_layernorm", true}}),
              test::Refuses({"'qk_layernorm' is true, supported is false"}));
  EXPECT_THAT(with("phi", {{"qk_layernorm", true}}), test::Refuses({"'qk_layernorm' is true, supported is false"}));
  EXPECT_THAT(with("cohere", {{"use_qk_norm", true}}), test::Refuses({"'use_qk_norm' is true, supported is false"}));
  EXPECT_THAT(with("falcon", {{"alibi", true}}), test::Refuses({"'alibi' is true, supported is false"}));
  EXPECT_THAT(with("falcon", {{"num_ln_in_parallel_attn", 2}}),
              test::Refuses({"num_ln_in_parallel_attn is 2, supported is 1"}));
  EXPECT_THAT(with("falcon_40b", {{"parallel_attn", false}}),
              test::Refuses({"new_decoder_architecture without parallel_attn"}));
  EXPECT_THAT(with("qwen2_moe", {{"use_sliding_window", true}, {"sliding_window", 8}}),
              test::Refuses({"'use_sliding_window' is true, supported is false"}));
}

TEST(Config, ReadmeNamesEveryArchitecture) {
  const test::TemporaryFolder folder;
  auto config = config_of("llama2");
  config["architectures"] = {"Nobody"};
  const auto readme = test::contents_of(test::data_file("../../README.md"));
  try {
    read_spec(folder.write("config.json", config.dump()));
    FAIL() << "nobody was read";
  } catch (const InputError& error) {
    const std::string said = error.what();
    std::istringstream known(said.substr(said.find("known are ") + 10));
    int count = 0;
    for (std::string name; std::getline(known >> std::ws, name, ','); ++count)
      EXPECT_NE(readme.find(name), std::string::npos) << name;
    EXPECT_GE(count, 16);
  }
}

/// transformers obeys a key of windows in those families alone that have windows.
TEST(Config, WindowsAreThoseOfTheReference) {
  const test::TemporaryFolder folder;
  const auto window = [&](const char* model, const nlohmann::json& changes) {
    auto config = config_of(model);
    config.update(changes);
    return read_spec(folder.write("config.json", config.dump())).spec.layers[0].attention.window;
  };
  EXPECT_EQ(window("llama31", {{"sliding_window", 4}}), 0);
  EXPECT_EQ(window("llama31", {{"sliding_window", 4}, {"layer_types", {"sliding_attention"}}}), 0);
  const int usual = window("mistral", nlohmann::json::object());
  EXPECT_GT(usual, 0);
  EXPECT_EQ(window("mistral", {{"use_sliding_window", false}}), usual);
  EXPECT_EQ(window("mistral", {{"sliding_window", nullptr}}), 0);
  EXPECT_THAT([&] { window("mistral", {{"sliding_window", -1}}); }, test::Refuses({"'sliding_window' is -1"}));
  EXPECT_THAT([&] { window("gemma2", {{"sliding_window", nullptr}}); }, test::Refuses({"'sliding_window'"}));
  EXPECT_THAT([&] { window("olmo2", {{"sliding_window", 4}}); }, test::Refuses({"not understood", "sliding_window"}));
  EXPECT_EQ(window("mistral", {{"model_type", nullptr}}), usual);
}

TEST(Config, QwensHaveWindowsWhereTheirKeySaysSo) {
  const test::TemporaryFolder folder;
  const auto windows = [&](const char* model, const nlohmann::json& changes) {
    auto config = config_of(model);
    config.erase("sliding_window");
    config.erase("layer_types");
    config.update(changes);
    std::vector<int> found;
    for (const auto& layer : read_spec(folder.write("config.json", config.dump())).spec.layers)
      found.push_back(layer.attention.window);
    found.resize(2);
    return found;
  };
  const nlohmann::json used = {{"use_sliding_window", true}, {"max_window_layers", 1}};
  nlohmann::json four = used, unused = {{"sliding_window", 4}, {"layer_types", nlohmann::json::array()}};
  four["sliding_window"] = 4;
  for (const auto* model : {"qwen2", "qwen3"}) {
    EXPECT_EQ(windows(model, used), (std::vector{0, 4096})) << model << ": the window that is not named";
    EXPECT_EQ(windows(model, four), (std::vector{0, 4}));
    EXPECT_EQ(windows(model, {{"sliding_window", 4}}), (std::vector{0, 0}));
  }
  EXPECT_EQ(windows("qwen3_moe", used), (std::vector{4096, 4096})) << "in all layers";
  for (std::size_t i = 0; i < config_of("qwen3_moe")["num_hidden_layers"]; ++i)
    unused["layer_types"].push_back("sliding_attention");
  EXPECT_EQ(windows("qwen3_moe", unused), (std::vector{0, 0})) << "whose layer_types nobody reads";
  unused["layer_types"] = std::vector<std::string>(config_of("qwen2")["num_hidden_layers"], "sliding_attention");
  EXPECT_THAT([&] { windows("qwen2", unused); }, test::Refuses({"layer_types", "use_sliding_window is false"}));
}

/// transformers chooses by the type.
TEST(Config, OfATypeThatIsNotItsArchitecturesIsRefused) {
  const test::TemporaryFolder folder;
  auto config = config_of("llama2");
  for (const auto* type : {"gemma", "granite", "phi3", "mistral"}) {
    config["model_type"] = type;
    EXPECT_THAT([&] { read_spec(folder.write("config.json", config.dump())); },
                test::Refuses({std::format("model_type '{}' is not that of architecture 'LlamaForCausalLM'", type)}));
  }
}

TEST(Config, OfTwoContextsThatRopeBeganWithIsRefused) {
  const test::TemporaryFolder folder;
  auto config = config_of("llama_longrope");
  config["original_max_position_embeddings"] = 8;
  EXPECT_THAT([&] { read_spec(folder.write("config.json", config.dump())); },
              test::Refuses({"'original_max_position_embeddings' is"}));
}

/// transformers scales from max_position_embeddings.
TEST(Config, DynamicRopeDoesNotAskWhereItBegan) {
  const test::TemporaryFolder folder;
  auto config = config_of("llama_dynamic");
  const auto context = config["max_position_embeddings"].get<int>();
  for (const auto* object : {"rope_parameters", "rope_scaling"})
    if (config.contains(object)) config[object]["original_max_position_embeddings"] = context / 2;
  EXPECT_EQ(read_spec(folder.write("config.json", config.dump())).spec.ropes[0].long_after, context);
}

/// Of the first releases; as transformers reads it since 5.19.
TEST(Config, AFirstGemmasGeluIsTheOneByTanh) {
  const test::TemporaryFolder folder;
  auto config = config_of("gemma1");
  config["hidden_act"] = "gelu";
  const auto activation = [&] {
    return read_spec(folder.write("config.json", config.dump())).spec.layers[0].mlp.activation;
  };
  EXPECT_EQ(activation(), layers::Activation::gelu_tanh);
  config["hidden_activation"] = "gelu";
  EXPECT_EQ(activation(), layers::Activation::gelu) << "named by today's key";
}

TEST(Config, AMixtralsEpsilonIsItsOwnWhereNoneIsNamed) {
  const test::TemporaryFolder folder;
  auto config = config_of("mixtral");
  config.erase("rms_norm_eps");
  EXPECT_EQ(read_spec(folder.write("config.json", config.dump())).spec.final_norm.eps, 1e-5F);
}

TEST(Config, NumbersThatGiveNoModelAreRefused) {
  const test::TemporaryFolder folder;
  const auto with = [&](const char* model, const nlohmann::json& changes) {
    auto config = config_of(model);
    config.update(changes);
    return [&folder, config] { read_spec(folder.write("config.json", config.dump())); };
  };
  nlohmann::json old_gemma3 = {
      {"sliding_window_pattern", 0}, {"_sliding_window_pattern", nullptr}, {"layer_types", nullptr}};
  EXPECT_THAT(with("gemma3", old_gemma3), test::Refuses({"'sliding_window_pattern' is 0"}));
  old_gemma3["sliding_window_pattern"] = -6;
  EXPECT_THAT(with("gemma3", old_gemma3), test::Refuses({"'sliding_window_pattern' is -6"}));
  EXPECT_THAT(with("gemma2", {{"query_pre_attn_scalar", 0}}), test::Refuses({"the scale of attention is inf"}));
  EXPECT_THAT(with("gemma2", {{"final_logit_softcapping", 1e308}}), test::Refuses({"the soft cap of logits is inf"}));
  EXPECT_THAT(with("llama2", {{"num_hidden_layers", 2147483647}}),
              test::Refuses({"'num_hidden_layers' is 2147483647, expected 10000 at most"}));
  EXPECT_THAT(with("llama2", {{"rms_norm_eps", true}}), test::Refuses({"'rms_norm_eps' is true, expected a number"}));
  const auto rope = [&](const nlohmann::json& parameters) {
    return with("llama2", {{"rope_parameters", parameters}, {"rope_scaling", nullptr}});
  };
  EXPECT_THAT(rope({{"rope_type", "default"}, {"partial_rotary_factor", 1e300}}),
              test::Refuses({"partial_rotary_factor is 1e+300"}));
  for (const char* name : {"llama2", "llama31"})
    EXPECT_THAT(with(name, {{"partial_rotary_factor", 0.5}}), test::Refuses({"'partial_rotary_factor' is not 1"}));
  EXPECT_THAT(rope({{"rope_type", "yarn"}, {"rope_theta", 1}, {"factor", 4}}), test::Refuses({"a frequency of RoPE"}));
  EXPECT_THAT(rope({{"rope_type", "yarn"}, {"factor", 4}, {"original_max_position_embeddings", 0}}),
              test::Refuses({"'original_max_position_embeddings' is 0"}));
  EXPECT_THAT(with("llama2", {{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 1e4}}},
                              {"rope_scaling", {{"rope_type", "linear"}, {"factor", 4}}}}),
              test::Refuses({"rope_parameters and rope_scaling are both there and differ"}));
  EXPECT_THAT(with("bloom", {{"n_embed", 8}, {"hidden_size", 16}}), test::Refuses({"'n_embed' is 8", "'hidden_size'"}));
}

TEST(Config, AnUnknownArchitectureIsRefusedWithTheNearestAndAllKnown) {
  const test::TemporaryFolder folder;
  auto config = config_of("llama2");
  config["architectures"] = {"LlamaForCausalLN"};
  EXPECT_THAT([&] { read_spec(folder.write("config.json", config.dump())); },
              test::Refuses({"'LlamaForCausalLN' is not known; the nearest is 'LlamaForCausalLM'; known are",
                             "MistralForCausalLM"}));
}

}  // namespace
