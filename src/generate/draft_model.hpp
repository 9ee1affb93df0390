// Guesses by a smaller model of the same vocabulary (Leviathan et al. 2023), which runs on the ranks of the first
// stage: where the guesses are wanted first.
#pragma once

#include <grist/generate/drafter.hpp>
#include <grist/model/model.hpp>
#include <grist/text/tokenizer.hpp>

#include <map>
#include <memory>
#include <optional>
#include <string_view>

namespace grist {

/// A vocabulary by name: where the files lie, the tokens of the model, the tokenizer or null.
struct NamedVocabulary {
  std::string_view name;
  Index size = 0;
  const text::Tokenizer* tokenizer = nullptr;
};

/// Throws InputError naming both, and the first token that differs, where a token has another text. Tokens that one
/// side alone has are never guessed, and nothing is guessed after them: vocabularies of one family end in different
/// numbers of unused ones. Without a tokenizer on either side the sizes must be equal.
void check_same_vocabulary(const NamedVocabulary& draft, const NamedVocabulary& model);

/// What a draft model is built for beside a model with these limits; its context may be shorter.
ModelLimits draft_limits(const ModelLimits& model, Index context);

/// The draft model draws as the model will: with the same options and random numbers, so that of two models that think
/// alike both draw alike. It keeps the keys and values of the sequences in a cache of its own, as long as its pages
/// last; where they do not, it guesses nothing.
class ModelDrafter final : public Drafter {
public:
  /// `draft`: on the ranks of the model's first stage, over their tp, with draft_limits; null on others. Both models
  /// must outlive it; several drafters of one draft model do not disturb each other.
  ModelDrafter(const Exec& exec, const Model& model, Model* draft);
  ~ModelDrafter() override;

  /// Guesses on the first stage go to the others ahead of the pass that checks them.
  std::vector<std::vector<int>> propose(std::span<const DraftQuery> sequences) override;
  void forget(int sequence) override;

private:
  struct State {
    std::vector<int> ids;  // known ones and guesses
    int cached = 0;        // of them, the draft's cache holds
    KvSequence kv;
  };
  struct Work;

  [[nodiscard]] std::vector<std::vector<int>> draft(std::span<const DraftQuery> sequences);
  [[nodiscard]] bool understands(std::span<const int> ids) const;
  void rewind(State& state, std::span<const int> ids);
  bool reserve(State& state, int length, std::span<const DraftQuery> sequences);
  void pass(std::vector<Work*>& works);
  void send(const std::vector<std::vector<int>>& guesses, std::span<const DraftQuery> sequences);
  [[nodiscard]] std::vector<std::vector<int>> receive(std::span<const DraftQuery> sequences);

  Exec exec_;
  const Communicator& pp_;
  Index vocab_size_;  // that both models know
  Model* draft_;
  std::unique_ptr<PagedKv> cache_;
  std::optional<Sampler> sampler_;
  std::map<int, State> states_;  // by sequence
  std::vector<int> message_;     // on its way to other stages
  std::vector<Transfer> sent_;
};

}  // namespace grist
