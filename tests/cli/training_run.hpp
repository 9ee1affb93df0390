// Runs of `grist train` over a tiny model: what they are given, and what they leave.
#pragma once

#include "program.hpp"
#include "support/files.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <format>
#include <future>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace grist::test {

using Words = std::vector<std::string>;

/// Whether it holds within 30 seconds.
template <class F>
bool soon(F&& holds) {
  for (int tries = 0; tries < 6000; ++tries) {
    if (holds()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

class TrainingRun : public testing::Test {
protected:
  /// `grist WORDS` for a few steps of a tiny model; `more` may name options that are among them anyway.
  [[nodiscard]] Words words(const Words& more = {}) const {
    Words all = {"train"};
    for (const auto& [name, value] : std::vector<std::pair<std::string, std::string>>{{"--model", model},
                                                                                      {"--data", text},
                                                                                      {"--sequence", "32"},
                                                                                      {"--batch", "4"},
                                                                                      {"--order", "sequential"},
                                                                                      {"--lr", "1e-3"},
                                                                                      {"--schedule", "constant"},
                                                                                      {"--warmup", "0"},
                                                                                      {"--metrics", metrics},
                                                                                      {"--steps", "6"}})
      if (std::ranges::find(more, name) == more.end()) all.insert(all.end(), {name, value});
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  Outcome train(const Words& more = {}, int ranks = 1) const { return grist::test::grist(words(more), ranks); }
  [[nodiscard]] std::vector<nlohmann::json> lines() const {
    std::vector<nlohmann::json> found;
    std::ifstream in(metrics);
    for (std::string line; std::getline(in, line) && !in.eof();) found.push_back(nlohmann::json::parse(line));
    return found;
  }
  /// Step and loss of each line that has one, in their order.
  [[nodiscard]] std::vector<std::pair<int, double>> losses() const {
    std::vector<std::pair<int, double>> found;
    for (const auto& line : lines())
      if (line.contains("loss")) found.emplace_back(line.at("step"), line.at("loss"));
    return found;
  }

  /// `grist WORDS` beside the test, its processes known by pid_of(). `before` is shell that each rank runs first,
  /// `launcher` what starts the program in its place.
  std::future<Outcome> start(const Words& more, int ranks, const std::string& before = "",
                             const std::string& launcher = "") const {
    return start_words(words(more), ranks, before, launcher);
  }
  std::future<Outcome> start_words(const Words& given, int ranks, const std::string& before = "",
                                   const std::string& launcher = "") const {
    for (int rank = 0; rank < ranks; ++rank) std::filesystem::remove(pid_file(rank));
    std::string command = "echo $$ >" + (folder / "pid").string() + ".${PMI_RANK:-${OMPI_COMM_WORLD_RANK:-0}}; " +
                          before + " exec " + launcher + " '" GRIST_PROGRAM "'";
    for (const auto& word : given) command += " '" + word + "'";
    Words all;
    if (ranks > 1) all = {GRIST_MPIEXEC, "-n", std::to_string(ranks)};
    all.insert(all.end(), {"bash", "-c", command});
    return std::async(std::launch::async, [all] { return run_command(all); });
  }
  /// Of a rank of what start() started, once there is one.
  [[nodiscard]] int pid_of(int rank) const {
    std::string pid;
    const bool there = soon([&] {
      if (std::filesystem::exists(pid_file(rank))) pid = contents_of(pid_file(rank));
      return pid.ends_with('\n');
    });
    return there ? std::stoi(pid) : 0;
  }
  /// Whether a process takes SIGUSR2 as a question by now.
  [[nodiscard]] static bool listens(int pid) {
    std::ifstream status("/proc/" + std::to_string(pid) + "/status");
    for (std::string line; std::getline(status, line);)
      if (line.starts_with("SigCgt:")) return (std::stoull(line.substr(7), nullptr, 16) >> (SIGUSR2 - 1) & 1) != 0;
    return false;
  }
  /// The newest checkpoint's step; 0 where there is none. Its name alone says that it is complete.
  [[nodiscard]] int newest() const {
    int step = 0;
    if (std::filesystem::exists(checkpoints))
      for (const auto& entry : std::filesystem::directory_iterator(checkpoints))
        if (const std::string name = entry.path().filename(); name.ends_with(".h5"))
          step = std::max(step, std::stoi(name.substr(5)));
    return step;
  }
  [[nodiscard]] std::string checkpoint(int step) const { return std::format("{}/step_{:09}.h5", checkpoints, step); }
  [[nodiscard]] std::string pid_file(int rank) const { return folder / ("pid." + std::to_string(rank)); }

  const std::string model = tiny(), text = data_file("text/sample.txt");
  TemporaryFolder folder;
  const std::string metrics = folder / "metrics.jsonl", checkpoints = folder / "checkpoints";
};

}  // namespace grist::test
