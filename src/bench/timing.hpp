// How a test is timed: everywhere the same.
#pragma once

#include <grist/comm/communicator.hpp>
#include <grist/core/clock.hpp>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

namespace grist::bench {

/// Seconds of f on the slowest rank: all begin together, and wait for their device before and after.
template <class F>
double timed(const Exec& exec, const Communicator& ranks, F&& f) {
  exec.fence("grist::bench: what came before");
  ranks.barrier();
  const auto begin = std::chrono::steady_clock::now();
  f();
  exec.fence("grist::bench: what is measured");
  const double seconds = seconds_since(begin);
  return ranks.all_reduce(seconds, Reduction::max);
}

/// "2026-11-26T14:03:00Z"
std::string utc_time();

}  // namespace grist::bench
