// What guessing wins, measured: passes with guesses beside passes without, in which sequences do nothing but decode.
#pragma once

#include <grist/core/view.hpp>

#include <map>

namespace grist {

/// Passes of as many sequences take alike, so these alone are compared.
class PassTimes {
public:
  /// A pass of so many decoding sequences, with guesses of at least one of them or without any, gave so many new
  /// tokens. The time of its drafter is part of it.
  void add(int sequences, bool guessed, Index new_tokens, double seconds);

  /// Seconds of the passes with guesses, and what their tokens take by passes without: the mean of those of as many
  /// sequences in this run. Passes to which there are fewer than four such are left out; nothing is left: zeros.
  struct Compared {
    double with_guesses = 0, without = 0;
  };
  [[nodiscard]] Compared compared() const;

private:
  struct Sum {
    Index passes = 0, tokens = 0;
    double seconds = 0;
  };
  struct Pair {
    Sum plain, guessed;
  };
  std::map<int, Pair> by_sequences_;
};

}  // namespace grist
