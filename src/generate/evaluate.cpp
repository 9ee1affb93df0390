#include <grist/generate/evaluate.hpp>

#include <grist/core/errors.hpp>
#include <grist/generate/generation.hpp>

#include <algorithm>
#include <cmath>

namespace grist {

double Perplexity::value() const { return std::exp(mean_nll); }

ModelLimits limits_for_windows(int context) {
  return {.cache_tokens = context, .batch_tokens = std::min<Index>(prefill_chunk, context), .batch_sequences = 1, .logit_rows = 64};
}

Perplexity perplexity(const Exec& exec, Model& model, std::span<const int> ids, int context, Index max_windows,
                      const std::function<void(const Perplexity&, Index)>& progress) {
  const auto& spec = model.spec();
  if (context < 2 || context > spec.max_positions)
    throw InputError("context {} is out of range: 2 to the model's {}", context, spec.max_positions);
  if (ids.size() < 2) throw InputError("a text of {} tokens has no token to score; two are needed", ids.size());
  for (const int id : ids)
    if (id < 0 || id >= spec.vocab_size)
      throw InputError("token id {} is out of range, the vocabulary has {}", id, spec.vocab_size);

  const auto length = std::min(static_cast<std::size_t>(context), ids.size());
  Index windows = static_cast<Index>(ids.size() / length);
  if (max_windows > 0) windows = std::min(windows, max_windows);
  Perplexity result;
  double total = 0;
  for (Index w = 0; w < windows; ++w) {
    const auto window = ids.subspan(static_cast<std::size_t>(w) * length, length);
    for (std::size_t first = 0; first + 1 < length; first += static_cast<std::size_t>(model.limits().batch_tokens)) {
      const auto count = std::min(static_cast<std::size_t>(model.limits().batch_tokens), length - 1 - first);
      const BatchItem item{window.subspan(first, count), static_cast<int>(first), 0};
      for (const float nll : model.score(exec, item, window.subspan(first + 1, count))) {
        if (!std::isfinite(nll)) throw NumericalError("window {}: a token's likelihood is not finite", w);
        total += nll;
      }
      result.tokens += static_cast<Index>(count);
    }
    result.windows = w + 1;
    result.mean_nll = total / static_cast<double>(result.tokens);
    if (progress) progress(result, windows);
  }
  return result;
}

}  // namespace grist
