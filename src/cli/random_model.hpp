// A model with random weights for a while: what measures a shape needs no download.
#pragma once

#include "runtime.hpp"

#include <filesystem>
#include <string>

namespace grist::cli {

/// Makes it in a temporary folder of each node (TMPDIR), from a config.json, as `grist init` does with seed 0; the
/// folder goes away with this object. Collective.
class RandomModel {
public:
  /// Throws InputError where the config is none, or the folder cannot be written.
  RandomModel(const Runtime& runtime, const std::filesystem::path& config);
  ~RandomModel();
  RandomModel(const RandomModel&) = delete;
  RandomModel& operator=(const RandomModel&) = delete;

  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }

private:
  std::filesystem::path folder_;
  bool made_ = false;  // by this rank
};

}  // namespace grist::cli
