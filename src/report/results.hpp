// Results as `grist bench` writes them, of several files; rows of other programs with the same keys are peers.
#pragma once

#include <nlohmann/json.hpp>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace grist::report {

/// One row. What a program did not tell is empty, 0 or nothing.
struct Result {
  std::string application, problem, platform, test, unit, limit_name, date, file;
  double value = 0, deviation = 0;  // of `unit` per second
  std::optional<double> limit{};    // of `unit` per second
  double flops = 0, bytes = 0;      // of one repetition
  double seconds = 0;               // of one repetition
  int ranks = 1, threads = 0;
  nlohmann::ordered_json row;       // all of it

  [[nodiscard]] std::optional<double> fraction() const {
    return limit ? std::optional(value / *limit) : std::nullopt;
  }
};

/// Of a JSON array, or of JSON lines. `application`, `problem`, `platform` and `fom` (or `avg_ts`) must be there, the
/// rest may. A row without a limit takes that of another application's row of the same problem on the same platform.
/// Throws InputError naming file, row and key.
std::vector<Result> read_results(const std::vector<std::filesystem::path>& files);

}  // namespace grist::report
