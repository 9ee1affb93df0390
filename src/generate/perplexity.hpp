// Perplexity of a text: e to the mean negative log-likelihood of its tokens.
#pragma once

#include <grist/generate/loglikelihood.hpp>
#include <grist/model/model.hpp>

#include <functional>
#include <span>
#include <vector>

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

/// A shorter rest counts only where it is all there is, and nothing but every token is to be scored. Throws InputError
/// for too few ids, and for ids, BOS or a context out of range of the vocabulary and of `most_context`.
std::vector<Continuation> cut_windows(std::span<const int> ids, const PerplexityOptions& options, int vocabulary,
                                      int most_context);

/// The log-likelihood of the window with this number. Collective over the scorer's model. Throws NumericalError, which
/// names the window.
double score_window(LogLikelihood& scorer, const Continuation& window, Index number);

/// Sums over windows: added in the windows' order they have the same bits whoever scored them.
struct Perplexity {
  Index windows = 0;
  Index tokens = 0;  // scored
  double nll = 0;    // nats

  void add(const Continuation& window, double log_likelihood);
  [[nodiscard]] double mean_nll() const;
  [[nodiscard]] double value() const;
};

/// Of all windows, one after the other. Collective. Throws as cut_windows and score_window.
Perplexity perplexity(const Exec& exec, Model& model, std::span<const int> ids, const PerplexityOptions& options,
                      const std::function<void(const Perplexity&, Index windows)>& progress = {});

/// The limits of a model that scores windows of so many tokens.
ModelLimits limits_for_windows(int context);

}  // namespace grist
