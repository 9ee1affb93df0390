#include <grist/generate/perplexity.hpp>

#include <grist/core/errors.hpp>
#include <grist/generate/loglikelihood.hpp>
#include <grist/generate/scheduler.hpp>

#include <algorithm>
#include <cmath>

namespace grist {
namespace {

void check(std::span<const int> ids, const PerplexityOptions& options, const Model& model) {
  const auto context = options.context;
  const auto vocabulary = model.spec().vocab_size;
  if (context < 2 || context > model.limits().context)
    throw InputError("context {} is out of range: 2 to the model's {}", context, model.limits().context);
  if (options.second_half && std::ssize(ids) < context)
    throw InputError("a text of {} tokens is no window of {}", ids.size(), context);
  if (ids.size() < 2) throw InputError("a text of {} tokens has no token to score; two are needed", ids.size());
  for (const int id : ids)
    if (id < 0 || id >= vocabulary)
      throw InputError("token id {} is out of range, the vocabulary has {}", id, vocabulary);
  if (options.bos >= vocabulary)
    throw InputError("BOS {} is out of range, the vocabulary has {}", options.bos, vocabulary);
}

}  // namespace

double Perplexity::value() const { return std::exp(mean_nll); }

ModelLimits limits_for_windows(int context) {
  return {.batch_tokens = std::min<Index>(prefill_tokens, context),
          .batch_sequences = 1,
          .logit_rows = 64,
          .context = context,
          .kv_tokens = context};
}

Perplexity perplexity(const Exec& exec, Model& model, std::span<const int> ids, const PerplexityOptions& options,
                      const std::function<void(const Perplexity&, Index)>& progress) {
  check(ids, options, model);
  const bool in_front = options.bos >= 0 && options.bos_in_front;
  const std::size_t length =
      std::min(static_cast<std::size_t>(options.context - (in_front ? 1 : 0)), ids.size());  // of the text
  const std::size_t unscored = options.second_half ? length / 2 : 0;
  Index windows = static_cast<Index>(ids.size() / length);
  if (options.max_windows > 0) windows = std::min(windows, options.max_windows);
  LogLikelihood scorer(exec, model, options.context);
  Perplexity result;
  double total = 0;
  for (Index w = 0; w < windows; ++w) {
    const auto part = ids.subspan(static_cast<std::size_t>(w) * length, length);
    std::vector<int> window(part.begin(), part.end());
    if (in_front) window.insert(window.begin(), options.bos);
    else if (options.bos >= 0) window[0] = options.bos;
    try {
      total -= scorer.sum(window, unscored + 1);
    } catch (const NumericalError& error) {
      throw NumericalError("window {}: {}", w, error.what());
    }
    result.windows = w + 1;
    result.tokens += static_cast<Index>(window.size() - 1 - unscored);
    result.mean_nll = total / static_cast<double>(result.tokens);
    if (progress) progress(result, windows);
  }
  return result;
}

}  // namespace grist
