// Work that the replicas of a model share: texts that rank 0 gives to those who ask, what comes of them on its way
// back, a line of progress, and an early end.
#pragma once

#include "deadline.hpp"
#include "progress.hpp"
#include "runtime.hpp"
#include "verbs.hpp"

#include <grist/comm/shared_work.hpp>

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
  /// What progress speaks of: "answered", "prompts".
  struct Names {
    std::string done, things;
  };
  /// Takes in what came of a text, on rank 0, and tells how many tokens it stands for.
  using Collect = std::function<std::size_t(std::string_view result)>;

  /// `texts` and `collect` are rank 0's. `replica`: the ranks of this one, which must outlive it.
  SharedRun(const Communicator& world, const Communicator& replica, std::span<const std::string> texts,
            const Deadline& deadline, Names names, Collect collect);

  /// At most `wanted` texts for this replica, on all its ranks, and asks for the rest, so that it is there at a later
  /// call; nothing where all have to stop. `wait`, where there is nothing else to do: none only where none is left.
  std::optional<std::vector<std::string>> take(std::size_t wanted, bool wait);

  /// What came of a text, not empty: the replica's first rank sends it, others send nothing.
  void send(std::string result);

  /// A step has taken so long. Rank 0 takes in what has arrived.
  void stepped(double seconds);

  /// Waits until every replica is here. Whether all texts have come to something, on all ranks.
  bool finish();

  /// Rank 0's: how many texts have come to something.
  [[nodiscard]] std::size_t collected() const { return collected_; }

private:
  using Clock = Deadline::Clock;

  void pass_on_stop();
  void collect();
  void tell();
  [[nodiscard]] std::string rate() const;

  const Communicator& world_;
  const Communicator& replica_;
  SharedWork work_;
  ToRoot results_;
  Deadline deadline_;
  Names names_;
  Collect take_in_;
  std::optional<ProgressLine> line_;
  bool root_;
  std::size_t texts_, collected_ = 0, tokens_ = 0;
  int replicas_left_;
  bool told_ = false;
  Clock::time_point begin_ = Clock::now(), shown_ = begin_;
};

}  // namespace grist::cli
