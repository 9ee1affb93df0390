// Speculative decoding as a user asks for it: where guesses come from, and what serves them.
#pragma once

#include "model_options.hpp"

#include <grist/generate/drafter.hpp>
#include <grist/generate/ngram_table.hpp>
#include <grist/generate/pass_times.hpp>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace grist::cli {

struct DraftOptions {
  std::optional<int> tokens;
  std::vector<std::string> corpus;
  std::string model;

  void add_to(CLI::App& app);
  /// Before a model is loaded. The root says where `sampling` leaves nothing to guess. Throws UsageError where nothing
  /// is to be guessed and a source is named, InputError where the corpus is not there.
  void check(const SamplingOptions& sampling, bool root) const;
  /// Guessed at a time; 0: nothing is.
  [[nodiscard]] int draft_tokens() const { return tokens.value_or(corpus.empty() && model.empty() ? 0 : 4); }
};

/// What the drafters of all schedulers of this rank have in common.
class DraftSource {
public:
  /// Counts the corpus, if there is one, a share on each rank. Collective, and so is destroying it. `loaded` must
  /// outlive it. Throws InputError for files that cannot be read or are of another tokenizer.
  DraftSource(Runtime& runtime, const LoadedModel& loaded, const DraftOptions& options);

  [[nodiscard]] int draft_tokens() const { return draft_tokens_; }
  /// Of a new scheduler; null where nothing is guessed.
  [[nodiscard]] std::unique_ptr<Drafter> drafter() const;

private:
  const Runtime& runtime_;
  const LoadedModel& loaded_;
  int draft_tokens_;
  std::optional<NgramTable> table_;
};

/// What guesses gave, over some answers, and how long the passes with them took.
class GuessCount {
public:
  void add(std::size_t tokens, int guessed, int right);
  void add(const PassTimes::Compared& times);
  /// "guessed 120 tokens, 80 of them right: 1.67 tokens a pass; 1.31 x as fast as passes without guesses"
  [[nodiscard]] std::string text() const;

private:
  std::size_t tokens_ = 0, guessed_ = 0, right_ = 0;
  PassTimes::Compared times_;
};

}  // namespace grist::cli
