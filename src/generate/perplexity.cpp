#include <grist/generate/perplexity.hpp>

#include <grist/core/errors.hpp>
#include <grist/generate/scheduler.hpp>

#include <algorithm>
#include <cmath>

namespace grist {
namespace {

void check(std::span<const int> ids, const PerplexityOptions& options, int vocabulary, int most_context) {
  const auto context = options.context;
  if (context < 2 || context > most_context)
    throw InputError("context {} is out of range: 2 to the model's {}", context, most_context);
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

std::vector<Continuation> cut_windows(std::span<const int> ids, const PerplexityOptions& options, int vocabulary,
                                      int most_context) {
  check(ids, options, vocabulary, most_context);
  const bool in_front = options.bos >= 0 && options.bos_in_front;
  const std::size_t length =
      std::min(static_cast<std::size_t>(options.context - (in_front ? 1 : 0)), ids.size());  // of the text
  const std::size_t given = 1 + (options.second_half ? length / 2 : 0);
  std::vector<Continuation> windows(ids.size() / length);
  if (options.max_windows > 0) windows.resize(std::min(windows.size(), static_cast<std::size_t>(options.max_windows)));
  for (std::size_t w = 0; w < windows.size(); ++w) {
    const auto part = ids.subspan(w * length, length);
    auto& window = windows[w];
    window = {{part.begin(), part.end()}, given};
    if (in_front) window.ids.insert(window.ids.begin(), options.bos);
    else if (options.bos >= 0) window.ids[0] = options.bos;
  }
  return windows;
}

double score_window(LogLikelihood& scorer, const Continuation& window, Index number) {
  try {
    return scorer.sum(window.ids, window.given);
  } catch (const NumericalError& error) {
    throw NumericalError("window {}: {}", number, error.what());
  }
}

void Perplexity::add(const Continuation& window, double log_likelihood) {
  ++windows;
  tokens += static_cast<Index>(window.ids.size() - window.given);
  nll -= log_likelihood;
}

double Perplexity::mean_nll() const { return nll / static_cast<double>(tokens); }
double Perplexity::value() const { return std::exp(mean_nll()); }

ModelLimits limits_for_windows(int context) {
  return {.batch_tokens = std::min<Index>(prefill_tokens, context),
          .batch_sequences = 1,
          .logit_rows = 64,
          .context = context,
          .kv_tokens = context};
}

Perplexity perplexity(const Exec& exec, Model& model, std::span<const int> ids, const PerplexityOptions& options,
                      const std::function<void(const Perplexity&, Index)>& progress) {
  const auto windows = cut_windows(ids, options, model.spec().vocab_size, static_cast<int>(model.limits().context));
  LogLikelihood scorer(exec, model, options.context);
  Perplexity result;
  for (const auto& window : windows) {
    result.add(window, score_window(scorer, window, result.windows));
    if (progress) progress(result, std::ssize(windows));
  }
  return result;
}

}  // namespace grist
