#include "sampling.hpp"

#include "runtime.hpp"

#include <grist/model/config_reader.hpp>

#include <format>

namespace grist::cli {
namespace {

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

SamplingChoice recommended_sampling(const std::filesystem::path& model) {
  const auto file = model / "generation_config.json";
  SamplingChoice choice;
  if (!std::filesystem::exists(file)) return choice;
  ConfigReader config(file);
  if (!config.get_or<bool>("do_sample", false)) return choice;
  choice.temperature =
      config.get_or<float>("temperature", 1.0F);  // what transformers samples with where it is not named
  choice.top_k = config.find<int>("top_k");
  choice.top_p = config.find<float>("top_p");
  choice.min_p = config.find<float>("min_p");
  choice.repetition_penalty = config.find<float>("repetition_penalty");
  return choice;
}

void SamplingGroup::add_to(CLI::App& app) {
  app.add_option(
      "--temperature", choice.temperature,
      "0: always the most likely token. Default of these five: the model's generation_config.json where it says "
      "do_sample, else 0 and no limits");
  app.add_option("--top-k", choice.top_k, "Choose among the K most likely tokens; 0: all");
  app.add_option("--top-p", choice.top_p, "Choose among the fewest tokens that together reach P");
  app.add_option("--min-p", choice.min_p, "Choose among tokens of at least P times the highest probability");
  app.add_option("--repetition-penalty", choice.repetition_penalty, "Above 1: tokens seen become less likely");
  app.add_option("--seed", seed, "The same seed gives the same text; in f32 at any layout")->capture_default_str();
}

SamplingOptions SamplingGroup::options_for(const std::filesystem::path& model, bool speaks) const {
  const bool greedy = choice.temperature == 0.0F;
  SamplingChoice recommended = greedy ? SamplingChoice() : recommended_sampling(model);
  each_value(recommended, choice, [](const char*, auto& value, const auto& chosen) {
    if (chosen) value.reset();
  });
  SamplingOptions options{.seed = seed};
  recommended.apply_to(options);
  choice.apply_to(options);
  if (speaks && !recommended.empty())
    note(std::format("{} says how to choose tokens: {} (--temperature 0: always the most likely one)",
                     (model / "generation_config.json").string(), recommended.text()));
  options.check();
  return options;
}

}  // namespace grist::cli
