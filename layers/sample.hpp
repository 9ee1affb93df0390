// Choice of the next token from logits, where the logits are, over a vocabulary that may be split. No sort: thresholds
// are found digit by digit in histograms of the logits' bits, and a draw is the maximum of log-probability plus Gumbel
// noise (Gumbel 1954; Maddison et al. 2014), so that ranks exchange counts and one number per row.
//   logits [rows, columns], the columns first_column ... of the vocabulary    draws [n], at most one per row
//   z_i = (x_i - highest) / temperature    mass_i = floor(2^40 e^z_i), integers: sums have the same bits in any order
//   highest, chosen [rows], [n] Choices    histograms [n, digit_values], zero between searches
// forward:
//   penalize reads penalties, updates logits
//   highest  reads logits, writes highest (max over tp)
//   for each kind of search, where a draw wants it, and each of its `search_passes` passes:
//     count  reads logits, highest, draws, adds into histograms (sum over tp)
//     narrow reads histograms, updates draws, zeroes histograms
//   draw     reads logits, highest, draws, writes chosen (max over tp)
// Enqueues on exec; no fence, no allocation. Atomics are of integers alone.
#pragma once

#include <grist/core/philox.hpp>
#include <grist/core/view.hpp>

#include <cstdint>

namespace grist::layers {

/// A token and the value that speaks for it as one number. Of two the greater has the higher value, of equal values the
/// lower id; a value that is not finite exceeds all others.
using Choice = Index;

/// A logit of a token seen before: divided by the penalty where it is positive, multiplied otherwise.
struct Penalty {
  Index row;
  Index column;
  float penalty;
};

/// A row's draw. Tokens are kept that are among the top_k most likely, then among the fewest of these whose
/// probabilities reach top_p, and have min_p times the highest probability; of equal ones at a border all are kept.
struct Draw {
  Index row = 0;          // of the logits
  float temperature = 1;  // above 0
  Index top_k = 0;        // 0: all
  float top_p = 1;        // 1: all
  float min_p = 0;
  PhiloxStream random{};
  std::uint32_t position = 0;   // of the new token, in the stream
  std::uint32_t threshold = 0;  // tokens of smaller keys are out
  std::uint32_t digits = 0;     // of the threshold that is being searched
  Index left = 0;               // count or mass that the tokens between the searched threshold and its digits must have
};

enum class Search { top_k, top_p };
constexpr int search_passes = 3;
constexpr Index digit_values = 2048;

void sample_penalize(const Exec& exec, View1<const Penalty> penalties, View2<float> logits);
void sample_highest(const Exec& exec, View2<const float> logits, Index first_column, View1<Choice> highest);
void sample_count(const Exec& exec, Search search, int pass, View2<const float> logits, View1<const Choice> highest,
                  View1<const Draw> draws, View2<Index> histograms);
void sample_narrow(const Exec& exec, Search search, int pass, View2<Index> histograms, View1<Draw> draws);
void sample_draw(const Exec& exec, View2<const float> logits, Index first_column, View1<const Choice> highest,
                 View1<const Draw> draws, View1<Choice> chosen);

/// What a Choice holds.
KOKKOS_INLINE_FUNCTION int token_of(Choice choice) {
  return static_cast<int>(0xFFFFFFFFU - static_cast<std::uint32_t>(choice & 0xFFFFFFFF));
}
enum class Value { finite, minus_infinity, infinity, nan };
KOKKOS_INLINE_FUNCTION Value kind_of(Choice choice) {
  constexpr Index largest = 0x7F800000;  // the bits of infinity, which no finite value reaches
  const Index order = choice >> 32;
  return order < largest ? Value::finite : static_cast<Value>(order - largest + 1);
}

}  // namespace grist::layers
