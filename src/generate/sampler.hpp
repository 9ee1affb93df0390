// Chooses the next token from logits.
#pragma once

#include <grist/core/view.hpp>

#include <cstdint>
#include <span>
#include <vector>

namespace grist {

/// In the order in which they apply. The defaults are greedy decoding.
struct SamplingOptions {
  float repetition_penalty = 1;  // divides positive and multiplies negative logits of tokens seen (Keskar et al. 2019)
  float temperature = 0;         // 0: the most likely token
  int top_k = 0;                 // the k most likely tokens; 0: all
  float top_p = 1;               // the fewest tokens whose probabilities reach p (Holtzman et al. 2020)
  float min_p = 0;               // tokens of at least p times the highest probability (Nguyen et al. 2024)
  std::uint64_t seed = 0;

  /// Throws UsageError naming the option, its range and the value found.
  void check() const;
};

class Sampler {
public:
  explicit Sampler(Index vocab_size);

  /// A token id. `seen` are the sequence's tokens so far. The draw is a function of the seed, `stream` and `position`
  /// alone. Throws NumericalError where the logits are not finite.
  int sample(const Exec& exec, std::span<const float> logits, const SamplingOptions& options, std::span<const int> seen,
             std::uint64_t stream, std::uint64_t position);

private:
  int draw(const Exec& exec, const SamplingOptions& options, std::uint64_t stream, std::uint64_t position);

  std::vector<float> logits_;
  std::vector<int> order_;
  Buffer<float> probabilities_;
};

/// The highest logit's token, the first of equals. Throws NumericalError where one is not finite.
int argmax(std::span<const float> logits);

}  // namespace grist
