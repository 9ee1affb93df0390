// Chooses the next tokens from logits that lie in device memory, split by vocabulary over tp.
#pragma once

#include <grist/comm/communicator.hpp>
#include <grist/core/staging.hpp>
#include <grist/layers/sample.hpp>

#include <cstdint>
#include <span>
#include <vector>

namespace grist {

/// In the order in which they apply. The defaults are greedy decoding. Tokens that tie at a border are all kept.
struct SamplingOptions {
  float repetition_penalty = 1;  // divides positive and multiplies other logits of tokens seen (Keskar et al. 2019)
  float temperature = 0;         // 0: the most likely token, the first of equals
  int top_k = 0;                 // the k most likely tokens; 0: all
  float top_p = 1;               // the fewest tokens whose probabilities reach p (Holtzman et al. 2020)
  float min_p = 0;               // tokens of at least p times the highest probability (Nguyen et al. 2024)
  std::uint64_t seed = 0;

  /// Throws UsageError naming the option, its range and the value found.
  void check() const;
};

/// A row of logits that is to become a token.
struct SampledRow {
  Index row = 0;              // of the logits
  SamplingOptions options;
  std::span<const int> seen;  // the sequence's tokens so far, for the repetition penalty
  std::uint64_t stream = 0;   // a draw is a function of the logits, the seed, the stream and the position alone
  std::uint32_t position = 0;
};

/// Owns the device memory that sampling takes. The same rows come out as the same tokens in any batch and at any tp.
class Sampler {
public:
  /// For up to `rows` rows of logits, of which this rank has the columns from `first_column` on, and `seen` tokens of
  /// their sequences together.
  Sampler(Index rows, Index first_column, Index seen);

  /// Bytes of device memory that it takes.
  static Index bytes(Index rows, Index seen);

  /// One Choice per row, on all ranks of tp. Collective over tp. logits [.., this rank's columns]: the repetition
  /// penalty changes them. `token()` reads a Choice.
  std::vector<layers::Choice> choose(const Exec& exec, const Communicator& tp, View2<float> logits,
                                     std::span<const SampledRow> rows);

  /// The token of a Choice. Throws NumericalError where a logit is not finite, naming its token; `of` names the
  /// sequence.
  static int token(layers::Choice choice, std::string_view of);

private:
  void penalize(const Exec& exec, View2<float> logits, std::span<const SampledRow> rows);
  void search(const Exec& exec, const Communicator& tp, layers::Search kind, View2<const float> logits);

  Index first_column_, most_penalties_;
  Buffer<layers::Choice> choices_;  // the highest logits [rows], then what is drawn [rows]
  Buffer<layers::Draw> draws_;
  Buffer<Index> histograms_;
  Index drawn_ = 0;  // draws of this call
  Reserve<Memory> penalties_;
  Staging draws_staging_, penalties_staging_, choices_staging_;
};

}  // namespace grist
