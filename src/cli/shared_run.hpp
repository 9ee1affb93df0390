// Work that the replicas of a model share: items that rank 0 gives to those who ask, what comes of them on its way
// back, a line of progress, and an early end.
#pragma once

#include "deadline.hpp"
#include "progress.hpp"
#include "runtime.hpp"
#include "verbs.hpp"
#include "work_progress.hpp"

#include <grist/comm/shared_work.hpp>

#include <nlohmann/json_fwd.hpp>

#include <unistd.h>

#include <chrono>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace grist::cli {

/// --max-walltime.
CLI::Option* add_walltime_to(CLI::App& app, std::string& walltime);

/// The end of a job that saves nothing, by that option and Slurm. `begin`: of the program. Collective. All ranks leave
/// where the option is not understood.
Deadline deadline_of(const Runtime& runtime, const std::string& walltime, Deadline::Clock::time_point begin);

/// Made by all ranks. The signals that an Interrupt hears, and the deadline, stop all replicas, whichever rank they
/// come to.
class SharedRun {
public:
  /// Takes in what came of an item, on rank 0.
  using OnResult = std::function<void(std::string_view result)>;

  /// `items`, `at_most` (tokens that all of them may take together) and `on_result` are rank 0's. `replica`: the ranks
  /// of this one, which must outlive it.
  SharedRun(const Communicator& world, const Communicator& replica, std::span<const std::string> items, Index at_most,
            const Deadline& deadline, WorkProgress::Names names, OnResult on_result);

  /// At most `wanted` items for this replica, on all its ranks, and asks for the rest, so that it is there at a later
  /// call; nothing where all have to stop. `wait`, where there is nothing else to do: none only where none is left.
  std::optional<std::vector<std::string>> take(std::size_t wanted, bool wait);

  /// What came of an item that might have taken `at_most` tokens and took `took`, all of them told to count(). The
  /// replica's first rank sends it, others send nothing.
  void send(const std::string& result, Index at_most, Index took);

  /// Tokens that were worked on.
  void count(const TokenCount& tokens) { unsent_ += tokens; }

  /// Takes items one at a time, the next one while `work` does with one, until nothing is left or all have to stop.
  void one_by_one(const std::function<void(const std::string& item)>& work);

  /// A step has taken so long. Rank 0 takes in what has arrived.
  void stepped(double seconds);

  /// Waits until every replica is here. Whether all items have come to something, on all ranks.
  bool finish();

  /// Rank 0's: how many items have come to something.
  [[nodiscard]] std::size_t done() const { return progress_.done(); }

private:
  using Clock = Deadline::Clock;

  void send_counted(nlohmann::json&& message);
  void pass_on_stop();
  void poll();
  void report();

  const Communicator& world_;
  const Communicator& replica_;
  SharedWork work_;
  ToRoot results_;
  Deadline deadline_;
  OnResult on_result_;
  bool root_;
  bool terminal_ = on_terminal(STDERR_FILENO);
  WorkProgress progress_;  // rank 0's
  std::optional<ProgressLine> line_;
  TokenCount unsent_;
  Clock::time_point sent_ = Clock::now();
  int replicas_left_;
  bool stop_sent_ = false;
};

}  // namespace grist::cli
