// Runs the program as a user does and keeps what it says.
#pragma once

#include "support/files.hpp"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace grist::test {

/// Then memory is not what the plan says, and all takes many times as long.
constexpr bool sanitized = GRIST_SANITIZED;

struct Outcome {
  int code = -1;  // exit code; 128 + signal where a signal ended it; 124 where it did not end by itself
  std::string out;
  std::string err;
  bool all_gone = false;  // whether 2 seconds later at most no process that it started was left
};

/// A command of words, with `input` on its stdin. What it started is killed after `seconds`.
Outcome run_command(const std::vector<std::string>& words, const std::string& input = "", int seconds = 60);

/// Ranks that a test of several starts: one in a build without MPI, where what needs two is not run (CMakeLists.txt).
int most_ranks();
/// What one rank says of a layout of two.
inline std::string too_few_ranks() {
  return most_ranks() > 1 ? "needs 2 ranks, 1 were started" : "needs 2 ranks, and this grist was built without MPI";
}

/// `grist ARGUMENTS`, on so many ranks.
Outcome grist(const std::vector<std::string>& arguments, int ranks = 1, const std::string& input = "");

/// Runs `grist ARGUMENTS` and expects success without a word on stderr; gives what it printed.
std::string quiet(const std::vector<std::string>& arguments, int ranks = 1, const std::string& input = "");

/// Whether `grist info` says so: of the MPI, or of a device that the host does not reach.
inline bool told_by_info(const std::string& words) { return quiet({"info"}).find(words) != std::string::npos; }

/// Where a small model lies that the tests bring.
inline std::string tiny(const std::string& name = "llama2") { return data_file("tiny/" + name).string(); }

/// A copy of a model's folder that may be written.
void copy_model(const std::filesystem::path& from, const std::filesystem::path& to);

/// Changes a JSON file.
void edit_json(const std::filesystem::path& file, const std::function<void(nlohmann::json&)>& edit);

}  // namespace grist::test
