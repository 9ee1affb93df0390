#include <grist/generate/sampler.hpp>

#include <grist/core/errors.hpp>
#include <grist/core/philox.hpp>
#include <grist/layers/softmax.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace grist {
namespace {

void within(const char* option, double value, bool holds, const char* range) {
  if (!holds) throw UsageError("--{} is {}, expected {}", option, value, range);
}

void penalize(std::vector<float>& logits, float penalty, std::span<const int> seen) {
  if (penalty == 1) return;
  std::vector<int> once(seen.begin(), seen.end());
  std::ranges::sort(once);
  once.erase(std::ranges::unique(once).begin(), once.end());
  for (const int id : once) {
    float& logit = logits[static_cast<std::size_t>(id)];
    logit = logit > 0 ? logit / penalty : logit * penalty;
  }
}

}  // namespace

void SamplingOptions::check() const {
  within("temperature", temperature, temperature >= 0 && std::isfinite(temperature), "0 (greedy) or more");
  within("top-k", top_k, top_k >= 0, "0 (all) or more");
  within("top-p", top_p, top_p > 0 && top_p <= 1, "above 0, at most 1");
  within("min-p", min_p, min_p >= 0 && min_p <= 1, "0 to 1");
  within("repetition-penalty", repetition_penalty, repetition_penalty >= 0.01F && repetition_penalty <= 100, "0.01 to 100");
}

int argmax(std::span<const float> logits) {
  std::size_t best = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (!std::isfinite(logits[i]))
      throw NumericalError("the logit of token {} is {}: the weights or the computation are broken", i, logits[i]);
    if (logits[i] > logits[best]) best = i;
  }
  return static_cast<int>(best);
}

Sampler::Sampler(Index vocab_size)
    : logits_(static_cast<std::size_t>(vocab_size)), probabilities_("probabilities", vocab_size) {}

int Sampler::sample(const Exec& exec, std::span<const float> logits, const SamplingOptions& options,
                    std::span<const int> seen, std::uint64_t stream, std::uint64_t position) {
  logits_.assign(logits.begin(), logits.end());
  penalize(logits_, options.repetition_penalty, seen);
  const int best = argmax(logits_);
  return options.temperature == 0 ? best : draw(exec, options, stream, position);
}

int Sampler::draw(const Exec& exec, const SamplingOptions& options, std::uint64_t stream, std::uint64_t position) {
  const Index vocab_size = probabilities_.size();
  const Kokkos::View<float*, Kokkos::HostSpace, Kokkos::MemoryUnmanaged> host(logits_.data(), logits_.size());
  Kokkos::deep_copy(exec, probabilities_.view(), host);
  layers::softmax(exec, options.temperature, probabilities_.view(1, vocab_size));
  Kokkos::deep_copy(exec, host, probabilities_.view());
  exec.fence("grist::sampler: probabilities for the host");

  // Descending, equal ones by id: the order, and so the draw, is the same everywhere.
  const auto before = [&](int a, int b) {
    const float pa = logits_[static_cast<std::size_t>(a)], pb = logits_[static_cast<std::size_t>(b)];
    return pa != pb ? pa > pb : a < b;
  };
  order_.resize(logits_.size());
  std::iota(order_.begin(), order_.end(), 0);
  if (options.top_k > 0 && options.top_k < static_cast<int>(order_.size())) {
    std::nth_element(order_.begin(), order_.begin() + options.top_k, order_.end(), before);
    order_.resize(static_cast<std::size_t>(options.top_k));
  }
  std::ranges::sort(order_, before);
  const auto probability = [&](std::size_t i) { return double{logits_[static_cast<std::size_t>(order_[i])]}; };
  double total = 0;
  for (std::size_t i = 0; i < order_.size(); ++i) total += probability(i);

  std::size_t kept = 0;
  double mass = 0;
  while (kept < order_.size() && (kept == 0 || (mass < options.top_p * total && probability(kept) >= options.min_p * probability(0))))
    mass += probability(kept++);

  // Walked by id: two tokens of nearly the same probability, which rounding may swap, do not change the draw.
  order_.resize(kept);
  std::ranges::sort(order_);
  const PhiloxStream draws{options.seed, stream};
  const double target = double{uniform(draws.at(position).word[0])} * mass;
  double reached = 0;
  for (std::size_t i = 0; i + 1 < kept; ++i) {
    reached += probability(i);
    if (target < reached) return order_[i];
  }
  return order_.back();
}

}  // namespace grist
