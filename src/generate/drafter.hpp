// Guesses of the next tokens for speculative decoding (Leviathan et al. 2023), whatever makes them. The model checks a
// guess (speculation.hpp); a wrong one costs time alone.
#pragma once

#include <grist/generate/sampler.hpp>

#include <cstdint>
#include <span>
#include <vector>

namespace grist {

/// A sequence whose next tokens are to be guessed.
struct DraftQuery {
  int sequence = 0;          // its number, the same from call to call
  std::span<const int> ids;  // all its tokens so far
  int most = 0;              // tokens that are wanted at most, 1 or more
  SamplingOptions sampling;  // how the model will choose them,
  std::uint64_t stream = 0;  // by which random numbers (SampledRow)
};

/// Serves the sequences of one scheduler.
class Drafter {
public:
  virtual ~Drafter() = default;

  /// For each sequence none to `most` tokens, of the model's vocabulary. Collective over the model's grid: all ranks
  /// ask the same and are told the same.
  virtual std::vector<std::vector<int>> propose(std::span<const DraftQuery> sequences) = 0;

  /// A sequence has ended; nothing happens where it is not known.
  virtual void forget(int /*sequence*/) {}
};

}  // namespace grist
