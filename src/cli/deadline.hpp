// When a job has to stop: its wall time, less what the next step and a save take.
#pragma once

#include <chrono>
#include <optional>

namespace grist::cli {

class Deadline {
public:
  using Clock = std::chrono::steady_clock;

  /// `end` of the job; without one it is never reached. `save_seconds` is what a save is expected to take before there
  /// was one; 0: the run saves nothing.
  Deadline(std::optional<Clock::time_point> end, double save_seconds) : end_(end), save_(save_seconds) {}

  /// A step has taken so long, with what belongs to it (evaluation) and without a save.
  void stepped(double seconds);
  /// A save has taken so long. The last one is what the next one is expected to be.
  void saved(double seconds) { save_ = seconds; }

  /// Whether another step could leave too little time for a save that takes twice as long as the last one, and for the
  /// end of the program.
  [[nodiscard]] bool reached(Clock::time_point now) const;

private:
  std::optional<Clock::time_point> end_;
  double save_;
  double step_ = 0;  // the longest of late
};

/// What a first save is expected to take: of so many bytes from so many nodes to a slow file system; no more than a
/// tenth of the time until `end`, so that a job always trains for most of it.
double first_save_seconds(double bytes, int nodes, std::optional<Deadline::Clock::time_point> end,
                          Deadline::Clock::time_point now);

/// When the job ends: after `limit` from `begin` on, or as Slurm says (SLURM_JOB_END_TIME, seconds since 1970),
/// whichever comes first. Nothing where neither is known.
std::optional<Deadline::Clock::time_point> end_of_job(std::optional<std::chrono::seconds> limit,
                                                      Deadline::Clock::time_point begin);

}  // namespace grist::cli
