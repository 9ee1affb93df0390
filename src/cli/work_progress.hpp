// How far shared work is, in tokens, and how it is told: a rate, the time left, the lines of a log.
#pragma once

#include <grist/core/view.hpp>

#include <chrono>
#include <cstddef>
#include <string>

namespace grist::cli {

struct TokenCount {
  Index worked_on = 0;  // tokens that are read, and new ones
  Index told = 0;       // those of them that "tok/s" counts
  TokenCount& operator+=(const TokenCount& more) {
    worked_on += more.worked_on;
    told += more.told;
    return *this;
  }
};

/// Things of very different lengths, which are worked on by several at a time, the longest first: done ones say little
/// of what is left, tokens more.
class WorkProgress {
public:
  using Clock = std::chrono::steady_clock;
  /// What is told of: "answered", "prompts".
  struct Names {
    std::string done, things;
  };

  /// `at_most`: tokens that all `things` may take together. A line is due every `period`.
  WorkProgress(Names names, std::size_t things, Index at_most, Clock::duration period, Clock::time_point begin);

  /// So many tokens more were worked on.
  void add(const TokenCount& tokens) { tokens_ += tokens; }
  /// A thing is done, which might have taken `at_most` tokens and took `took`; add() knows of them.
  void finish(Index at_most, Index took);

  [[nodiscard]] std::size_t done() const { return done_; }
  [[nodiscard]] bool all_done() const { return done_ == things_; }

  /// Whether a period is over since the last time that it was; then the next one begins.
  bool due(Clock::time_point now);

  /// Tokens that were worked on, and that all is expected to take: what is not done as much of its bound as what is.
  [[nodiscard]] Index worked_on() const { return tokens_.worked_on; }
  [[nodiscard]] Index expected() const;
  /// "120 tok/s, 0:01:30 left"; no time before there was a token.
  [[nodiscard]] std::string pace(Clock::time_point now) const;
  /// "3 of 10 prompts answered, 120 tok/s, 0:01:30 left"
  [[nodiscard]] std::string line(Clock::time_point now) const;
  /// "10 prompts answered, 4000 tokens, 120 tok/s"
  [[nodiscard]] std::string sum(Clock::time_point now) const;

private:
  [[nodiscard]] double seconds(Clock::time_point now) const;
  [[nodiscard]] std::string rate(Clock::time_point now) const;

  Names names_;
  std::size_t things_, done_ = 0;
  Index at_most_, done_at_most_ = 0, done_took_ = 0;
  TokenCount tokens_;
  Clock::duration period_;
  Clock::time_point begin_, last_;
};

}  // namespace grist::cli
