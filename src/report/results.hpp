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
  int repetitions = 0;
  int ranks = 1;
  int threads = 0;                  // of a rank; 0 on a device, whose host's threads do not compute
  nlohmann::ordered_json row;       // all of it

  [[nodiscard]] std::optional<double> fraction() const {
    return limit ? std::optional(value / *limit) : std::nullopt;
  }
  /// Of the row: empty, or 0, where the key is not there or has another type.
  [[nodiscard]] std::string text(const char* key) const;
  [[nodiscard]] double number(const char* key) const;
};

/// Like with like: the same problem on as much of the same machine, which is platform, ranks and threads of a rank.
/// Layouts may differ: how the ranks share the work is the application's choice.
bool comparable(const Result& a, const Result& b);

/// Problems in the order of their first results; of each, results that are comparable one after the other.
std::vector<Result> side_by_side(const std::vector<Result>& results);

/// A name for each result: its application and what tells it from comparable ones of that (layout, backend, settings,
/// version, file, time), no more than is needed.
std::vector<std::string> labels_of(const std::vector<Result>& results);

/// "2 ranks x 4 threads", "8 threads"; "2 ranks" where threads do not count.
std::string extent_of(const Result& result);

/// Of files as read_rows() takes them. `application`, `problem`, `platform` and `fom` (or `avg_ts`) must be there, the
/// rest may. A row without a limit takes that of another application's row that is comparable. Throws InputError naming
/// file, row and key.
std::vector<Result> read_results(const std::vector<std::filesystem::path>& files);

}  // namespace grist::report
