#include "deadline.hpp"

#include <algorithm>
#include <cstdlib>
#include <ctime>

namespace grist::cli {
namespace {

constexpr double ending = 3;  // seconds that a program takes to end after its last save

}  // namespace

void Deadline::stepped(double seconds) {
  // The first step of a run is slower than others: in time it is forgotten.
  step_ = std::max(seconds, 0.9 * step_);
}

bool Deadline::reached(Clock::time_point now) const {
  if (!end_) return false;
  return std::chrono::duration<double>(*end_ - now).count() < 2 * save_ + 1.25 * step_ + ending;
}

double first_save_seconds(double bytes, int nodes, std::optional<Deadline::Clock::time_point> end,
                          Deadline::Clock::time_point now) {
  constexpr double rate = 100e6;  // bytes per second of a node
  const double seconds = 1 + bytes / (rate * nodes);
  return end ? std::min(seconds, std::max(0.0, std::chrono::duration<double>(*end - now).count()) / 10) : seconds;
}

std::optional<Deadline::Clock::time_point> end_of_job(std::optional<std::chrono::seconds> limit,
                                                      Deadline::Clock::time_point begin) {
  std::optional<Deadline::Clock::time_point> end;
  if (limit) end = begin + *limit;
  if (const char* slurm = std::getenv("SLURM_JOB_END_TIME"); slurm != nullptr && std::atoll(slurm) > 0) {
    const auto told = Deadline::Clock::now() + std::chrono::seconds(std::atoll(slurm) - std::time(nullptr));
    end = std::min(end.value_or(told), told);
  }
  return end;
}

}  // namespace grist::cli
