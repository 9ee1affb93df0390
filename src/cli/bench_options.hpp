// The options of `grist bench`, and what follows from them alone.
#pragma once

#include "model_options.hpp"

#include <grist/bench/result.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace grist::cli {

struct BenchOptions {
  ModelOptionsGroup model;
  std::string config;
  std::vector<std::int64_t> prompts{512}, tokens{128}, batches{1}, depths{0}, sequences{512};
  int repetitions = 5;
  bool train = false, comm = false, kernels = false;
  std::string io;
  std::string output = "md";
  bool passes = true;  // prompts and tokens are measured

  void add_to(CLI::App& app, Action& action);
  /// To be called once `app` has parsed the command line. Throws UsageError for options that do not go together.
  void complete(const CLI::App& app);

  [[nodiscard]] bool has_model() const { return !model.model.empty() || !config.empty(); }
  /// What names the model, for its spec.
  [[nodiscard]] const std::string& named() const { return config.empty() ? model.model : config; }
  [[nodiscard]] bench::Output format() const;
  /// Of the model that runs all prompts and tokens. Throws UsageError where it has too few positions for them.
  [[nodiscard]] ModelLimits limits(const ModelSpec& spec) const;
};

}  // namespace grist::cli
