// How the next token is chosen: by options, else as the model's generation_config.json says.
#pragma once

#include <CLI/CLI.hpp>

#include <grist/generate/sampler.hpp>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace grist::cli {

/// What a model's authors recommend, or a user asks for; what is not set is left to the next one.
struct SamplingChoice {
  std::optional<float> temperature, top_p, min_p, repetition_penalty;
  std::optional<int> top_k;

  [[nodiscard]] bool empty() const;
  /// "temperature 0.6, top-p 0.9"
  [[nodiscard]] std::string text() const;
  void apply_to(SamplingOptions& options) const;
};

struct SamplingGroup {
  SamplingChoice choice;
  std::uint64_t seed = 0;

  void add_to(CLI::App& app);
  /// The user's choice before the model's. A note tells what the model's files decided, on the rank that `speaks`.
  /// Throws InputError for values of the file that are no numbers, UsageError for those out of range.
  [[nodiscard]] SamplingOptions options_for(const std::filesystem::path& model, bool speaks) const;
};

/// What generation_config.json beside a model's config.json says, as transformers takes it: without do_sample of
/// penalties alone, with it top-k 50 where it names none.
struct RecommendedSampling {
  SamplingChoice choice;
  std::vector<std::string> left_out;  // keys with an effect that grist does not have
};
/// Of `greedy` choices only the keys with an effect are left.
RecommendedSampling recommended_sampling(const std::filesystem::path& model, bool greedy);

}  // namespace grist::cli
