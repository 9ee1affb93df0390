#include "sampling.hpp"

#include "runtime.hpp"

#include <grist/model/config_reader.hpp>

#include <format>

namespace grist::cli {
namespace {

using nlohmann::json;

/// What else transformers obeys, and the value with which it has no effect; some of it only where it samples.
struct LeftOut {
  const char* key;
  const char* nothing;
  bool always;
};
constexpr LeftOut keys_left_out[] = {
    {"no_repeat_ngram_size", "0", true},
    {"encoder_no_repeat_ngram_size", "0", true},
    {"encoder_repetition_penalty", "1.0", true},
    {"bad_words_ids", "[]", true},
    {"suppress_tokens", "[]", true},
    {"begin_suppress_tokens", "[]", true},
    {"forced_bos_token_id", "null", true},
    {"forced_eos_token_id", "null", true},
    {"exponential_decay_length_penalty", "null", true},
    {"sequence_bias", "null", true},
    {"guidance_scale", "1", true},
    {"watermarking_config", "null", true},
    {"stop_strings", "[]", true},
    {"min_length", "0", true},
    {"min_new_tokens", "0", true},
    {"num_beams", "1", true},
    {"penalty_alpha", "0", true},
    {"dola_layers", "null", true},
    {"typical_p", "1.0", false},
    {"epsilon_cutoff", "0.0", false},
    {"eta_cutoff", "0.0", false},
    {"top_h", "null", false},
};

/// Calls f(name, of mine, of other) for each value of two choices.
template <class A, class B, class F>
void each_value(A& a, B& b, F f) {
  f("temperature", a.temperature, b.temperature);
  f("top-k", a.top_k, b.top_k);
  f("top-p", a.top_p, b.top_p);
  f("min-p", a.min_p, b.min_p);
  f("repetition-penalty", a.repetition_penalty, b.repetition_penalty);
}

}  // namespace

std::string SamplingChoice::text() const {
  std::string text;
  each_value(*this, *this, [&](const char* name, const auto& value, const auto&) {
    if (value) text += std::format("{}{} {}", text.empty() ? "" : ", ", name, *value);
  });
  return text;
}

bool SamplingChoice::empty() const { return text().empty(); }

void SamplingChoice::apply_to(SamplingOptions& options) const {
  each_value(*this, options, [](const char*, const auto& value, auto& option) {
    if (value) option = *value;
  });
}

RecommendedSampling recommended_sampling(const std::filesystem::path& model, bool greedy) {
  const auto file = model / "generation_config.json";
  RecommendedSampling recommended;
  if (!std::filesystem::exists(file)) return recommended;
  ConfigReader config(file);
  auto& choice = recommended.choice;
  const bool samples = config.get_or<bool>("do_sample", false) && !greedy;
  if (samples) {  // temperature and top-k: what transformers samples with where they are not named
    choice.temperature = config.get_or<float>("temperature", 1.0F);
    choice.top_k = config.get_or<int>("top_k", 50);
    choice.top_p = config.find<float>("top_p");
    choice.min_p = config.find<float>("min_p");
  }
  choice.repetition_penalty = config.find<float>("repetition_penalty");
  if (greedy || choice.repetition_penalty == 1.0F) choice.repetition_penalty.reset();
  for (const auto& [key, nothing, always] : keys_left_out)
    if ((always || samples) && config.has_other(key, json::parse(nothing))) recommended.left_out.emplace_back(key);
  return recommended;
}

void SamplingGroup::add_to(CLI::App& app) {
  app.add_option(
      "--temperature", choice.temperature,
      "0: always the most likely token. Default of these five: as the model's generation_config.json says, else 0 and "
      "no limits");
  app.add_option("--top-k", choice.top_k, "Choose among the K most likely tokens; 0: all");
  app.add_option("--top-p", choice.top_p, "Choose among the fewest tokens that together reach P");
  app.add_option("--min-p", choice.min_p, "Choose among tokens of at least P times the highest probability");
  app.add_option("--repetition-penalty", choice.repetition_penalty, "Above 1: tokens seen become less likely");
  app.add_option("--seed", seed, "The same seed gives the same text; in f32 at any layout")->capture_default_str();
}

SamplingOptions SamplingGroup::options_for(const std::filesystem::path& model, bool speaks) const {
  const bool greedy = choice.temperature == 0.0F;
  auto [recommended, left_out] = recommended_sampling(model, greedy);
  each_value(recommended, choice, [](const char*, auto& value, const auto& chosen) {
    if (chosen) value.reset();
  });
  SamplingOptions options{.seed = seed};
  recommended.apply_to(options);
  choice.apply_to(options);
  if (speaks && !recommended.empty())
    note(std::format("{} says how to choose tokens: {} (--temperature 0: always the most likely one)",
                     (model / "generation_config.json").string(), recommended.text()));
  if (speaks && !left_out.empty()) {
    std::string keys;
    for (const auto& key : left_out) keys += (keys.empty() ? "" : ", ") + key;
    note(std::format("{} asks for {}, which grist does not do",
                     (model / "generation_config.json").string(), keys));
  }
  options.check();
  return options;
}

}  // namespace grist::cli
