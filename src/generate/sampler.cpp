#include <grist/generate/sampler.hpp>

#include <grist/core/errors.hpp>

#include <algorithm>
#include <cmath>

namespace grist {
namespace {

void within(const char* option, double value, bool holds, const char* range) {
  if (!holds) throw UsageError("--{} is {}, expected {}", option, value, range);
}

}  // namespace

void SamplingOptions::check() const {
  within("temperature", temperature, temperature >= 0 && std::isfinite(temperature), "0 (greedy) or more");
  within("top-k", top_k, top_k >= 0, "0 (all) or more");
  within("top-p", top_p, top_p > 0 && top_p <= 1, "above 0, at most 1");
  within("min-p", min_p, min_p >= 0 && min_p <= 1, "0 to 1");
  within("repetition-penalty", repetition_penalty, repetition_penalty >= 0.01F && repetition_penalty <= 100,
         "0.01 to 100");
}

Sampler::Sampler(Index rows, Index first_column, Index seen)
    : first_column_(first_column),
      most_penalties_(seen),
      choices_("choices", 2 * rows),
      draws_("draws", rows),
      histograms_("histograms", rows * layers::digit_values) {
  Kokkos::deep_copy(histograms_.view(), Index{0});
}

Index Sampler::bytes(Index rows, Index seen) {
  return rows * static_cast<Index>(2 * sizeof(layers::Choice) + sizeof(layers::Draw) +
                                   layers::digit_values * sizeof(Index)) +
         seen * static_cast<Index>(sizeof(layers::Penalty));
}

std::vector<layers::Choice> Sampler::choose(const Exec& exec, const Communicator& tp, View2<float> logits,
                                            std::span<const SampledRow> rows) {
  const Index all = logits.extent(0);
  if (all > draws_.size())
    throw ShapeError("Sampler: {} rows of logits given, {} at most expected", all, draws_.size());
  penalize(exec, logits, rows);
  const View1<layers::Choice> highest(choices_.data(), all);
  layers::sample_highest(exec, as_const(logits), first_column_, highest);
  tp.all_reduce(exec, highest, Reduction::max);

  std::vector<layers::Draw> draws;
  bool by_k = false, by_p = false;
  for (const auto& [row, options, seen, stream, position] : rows) {
    if (options.temperature == 0) continue;
    draws.push_back(
        {row, options.temperature, options.top_k, options.top_p, options.min_p, {options.seed, stream}, position});
    by_k = by_k || options.top_k > 0;
    by_p = by_p || options.top_p < 1;
  }
  drawn_ = std::ssize(draws);
  const View1<layers::Choice> drawn(choices_.data() + all, drawn_);
  if (drawn_ > 0) {
    const View1<layers::Draw> on_device(draws_.data(), drawn_);
    std::ranges::copy(draws, draws_staging_.room(on_device));
    draws_staging_.store(exec, on_device);
    if (by_k) search(exec, tp, layers::Search::top_k, as_const(logits));
    if (by_p) search(exec, tp, layers::Search::top_p, as_const(logits));
    layers::sample_draw(exec, as_const(logits), first_column_, as_const(highest), as_const(on_device), drawn);
    tp.all_reduce(exec, drawn, Reduction::max);
  }

  const auto* const host = choices_staging_.load(exec, View1<const layers::Choice>(choices_.data(), all + drawn_));
  std::vector<layers::Choice> choices;
  const auto* next = host + all;
  for (const auto& row : rows) {
    const auto best = host[row.row];
    const bool draws_this = row.options.temperature != 0;
    choices.push_back(draws_this && layers::kind_of(best) == layers::Value::finite ? *next : best);
    if (draws_this) ++next;
  }
  return choices;
}

int Sampler::token(layers::Choice choice, std::string_view of) {
  using layers::Value;
  const Value value = layers::kind_of(choice);
  const int token = layers::token_of(choice);
  if (value != Value::finite)
    throw NumericalError("{}: the logit of token {} is {}: the weights or the computation are broken", of, token,
                         value == Value::nan ? "nan" : value == Value::infinity ? "inf" : "-inf");
  return token;
}

/// Each token seen counts once.
void Sampler::penalize(const Exec& exec, View2<float> logits, std::span<const SampledRow> rows) {
  std::vector<layers::Penalty> penalties;
  const Index columns = logits.extent(1);
  for (const auto& row : rows) {
    if (row.options.repetition_penalty == 1) continue;
    std::vector<int> once(row.seen.begin(), row.seen.end());
    std::ranges::sort(once);
    once.erase(std::ranges::unique(once).begin(), once.end());
    for (const int id : once)
      if (id >= first_column_ && id < first_column_ + columns)
        penalties.push_back({row.row, id - first_column_, row.options.repetition_penalty});
  }
  if (penalties.empty()) return;
  const auto count = std::ssize(penalties);
  const View1<layers::Penalty> on_device(penalties_.room<layers::Penalty>(count, most_penalties_), count);
  std::ranges::copy(penalties, penalties_staging_.room(on_device));
  penalties_staging_.store(exec, on_device);
  layers::sample_penalize(exec, as_const(on_device), logits);
}

/// Finds the lowest token that each draw's top-k or top-p keeps.
void Sampler::search(const Exec& exec, const Communicator& tp, layers::Search kind, View2<const float> logits) {
  const View1<layers::Draw> draws(draws_.data(), drawn_);
  const View1<const layers::Choice> highest(choices_.data(), logits.extent(0));
  const View2<Index> histograms(histograms_.data(), drawn_, layers::digit_values);
  for (int pass = 0; pass < layers::search_passes; ++pass) {
    layers::sample_count(exec, kind, pass, logits, highest, as_const(draws), histograms);
    tp.all_reduce(exec, flat(histograms));
    layers::sample_narrow(exec, kind, pass, histograms, draws);
  }
}

}  // namespace grist
