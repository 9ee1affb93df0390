// Perplexity of a text.
#pragma once

#include <grist/model/model.hpp>

#include <functional>
#include <span>

namespace grist {

struct Perplexity {
  Index windows = 0;
  Index tokens = 0;      // scored
  double mean_nll = 0;   // nats
  [[nodiscard]] double value() const;
};

/// Cuts ids into windows of `context` tokens that do not overlap and scores each token but a window's first one, given
/// those before it in the window. A shorter rest counts only where it is all there is. `max_windows` 0: all of them.
/// Collective. Throws InputError for fewer than two ids, ids out of range, or a context beyond the model's.
Perplexity perplexity(const Exec& exec, Model& model, std::span<const int> ids, int context, Index max_windows,
                      const std::function<void(const Perplexity&, Index windows)>& progress = {});

/// The limits of a model that scores windows of so many tokens.
ModelLimits limits_for_windows(int context);

}  // namespace grist
