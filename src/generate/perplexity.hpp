// Perplexity of a text: e to the mean negative log-likelihood of its tokens.
#pragma once

#include <grist/model/model.hpp>

#include <functional>
#include <span>

namespace grist {

/// Ids are cut into windows of `context` tokens that do not overlap. Of each, every token but the first is scored,
/// given those before it in the window. llama.cpp's protocol is {.bos = its BOS, .second_half = true} over a text that
/// begins with BOS.
struct PerplexityOptions {
  int context = 0;
  Index max_windows = 0;     // 0: all of them
  int bos = -1;              // takes the place of each window's first token; -1: none does
  bool bos_in_front = false;  // it is put in front of context - 1 tokens of the text instead
  bool second_half = false;  // only tokens after context / 2 others are scored: those with a longer past
};

struct Perplexity {
  Index windows = 0;
  Index tokens = 0;     // scored
  double mean_nll = 0;  // nats
  [[nodiscard]] double value() const;
};

/// A shorter rest counts only where it is all there is, and nothing but every token is to be scored. Collective. Throws
/// InputError for too few ids, ids out of range, or a context beyond the model's; NumericalError.
Perplexity perplexity(const Exec& exec, Model& model, std::span<const int> ids, const PerplexityOptions& options,
                      const std::function<void(const Perplexity&, Index windows)>& progress = {});

/// The limits of a model that scores windows of so many tokens.
ModelLimits limits_for_windows(int context);

}  // namespace grist
