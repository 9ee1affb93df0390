#include "work_progress.hpp"

#include <algorithm>
#include <cmath>
#include <format>
#include <utility>

namespace grist::cli {

WorkProgress::WorkProgress(Names names, std::size_t things, Index at_most, Clock::duration period,
                           Clock::time_point begin)
    : names_(std::move(names)), things_(things), at_most_(at_most), period_(period), begin_(begin), last_(begin) {}

void WorkProgress::finish(Index at_most, Index took) {
  ++done_;
  done_at_most_ += at_most;
  done_took_ += took;
}

bool WorkProgress::due(Clock::time_point now) {
  if (now - last_ < period_) return false;
  last_ = now;
  return true;
}

Index WorkProgress::expected() const {
  const double taken =
      done_at_most_ > 0 ? static_cast<double>(done_took_) / static_cast<double>(done_at_most_) : 1.0;
  const auto rest = static_cast<Index>(std::llround(taken * static_cast<double>(at_most_ - done_at_most_)));
  return std::max(tokens_.worked_on, done_took_ + rest);
}

double WorkProgress::seconds(Clock::time_point now) const {
  return std::max(1e-9, std::chrono::duration<double>(now - begin_).count());
}

std::string WorkProgress::rate(Clock::time_point now) const {
  return std::format("{:.0f} tok/s", static_cast<double>(tokens_.told) / seconds(now));
}

std::string WorkProgress::pace(Clock::time_point now) const {
  if (tokens_.worked_on == 0) return rate(now);
  const double each = seconds(now) / static_cast<double>(tokens_.worked_on);
  const auto left = static_cast<long>(each * static_cast<double>(expected() - tokens_.worked_on));
  return std::format("{}, {}:{:02}:{:02} left", rate(now), left / 3600, left / 60 % 60, left % 60);
}

std::string WorkProgress::line(Clock::time_point now) const {
  return std::format("{} of {} {} {}, {}", done_, things_, names_.things, names_.done, pace(now));
}

std::string WorkProgress::sum(Clock::time_point now) const {
  return std::format("{} {} {}, {} tokens, {}", done_, names_.things, names_.done, tokens_.told, rate(now));
}

}  // namespace grist::cli
