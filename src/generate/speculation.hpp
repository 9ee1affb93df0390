// Speculative decoding (Leviathan et al. 2023): guessed tokens go through a pass with the last known one, and count as
// far as the model chooses the same. The tokens are those that come one by one.
#pragma once

#include <grist/generate/cached_tokens.hpp>
#include <grist/generate/drafter.hpp>
#include <grist/layers/sample.hpp>

#include <map>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace grist {

/// The guesses of a scheduler's decoding sequences. Between guess() and verify() they stand at the end of their
/// sequence's tokens.
class Speculation {
public:
  /// A decoding sequence: all its tokens but the last are cached, and for that one it has pages.
  struct Candidate {
    DraftQuery query;  // its `ids` are those of `tokens`
    CachedTokens* tokens;
  };

  /// `drafter` null: nothing is guessed.
  explicit Speculation(std::unique_ptr<Drafter> drafter) : drafter_(std::move(drafter)) {}

  [[nodiscard]] bool guesses() const { return drafter_ != nullptr; }

  /// Appends guesses, in the order of the candidates: `pass_left` tokens in all, `cache_left` of the cache, and as far
  /// as there are free pages. Collective, as Drafter::propose.
  void guess(PagedKv& cache, std::span<const Candidate> candidates, Index pass_left, Index cache_left);

  /// How many a sequence has that were not verified.
  [[nodiscard]] int guessed(int sequence) const;

  /// Takes a sequence's guesses away again, their keys and values too, and returns its new tokens: what the model chose
  /// after its last token and after each guess, up to the first that differs from the guess. Throws as Sampler::token,
  /// with `name`: then the guesses are gone.
  std::vector<int> verify(PagedKv& cache, int sequence, CachedTokens& tokens, std::span<const layers::Choice> choices,
                          std::string_view name);

  /// The sequence has ended: takes its guesses away.
  void forget(int sequence, CachedTokens& tokens);

private:
  std::unique_ptr<Drafter> drafter_;
  std::map<int, std::vector<int>> guessed_;  // by sequence
};

}  // namespace grist
