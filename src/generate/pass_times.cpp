#include <grist/generate/pass_times.hpp>

namespace grist {

void PassTimes::add(int sequences, bool guessed, Index new_tokens, double seconds) {
  auto& [plain, with_guesses] = by_sequences_[sequences];
  auto& sum = guessed ? with_guesses : plain;
  ++sum.passes;
  sum.tokens += new_tokens;
  sum.seconds += seconds;
}

PassTimes::Compared PassTimes::compared() const {
  constexpr Index enough = 4;
  Compared compared;
  for (const auto& [sequences, pair] : by_sequences_) {
    const auto& [plain, guessed] = pair;
    if (plain.passes < enough || plain.tokens == 0) continue;
    compared.with_guesses += guessed.seconds;
    compared.without += static_cast<double>(guessed.tokens) * plain.seconds / static_cast<double>(plain.tokens);
  }
  return compared;
}

}  // namespace grist
