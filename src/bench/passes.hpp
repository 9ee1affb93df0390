// A model's passes without a tokenizer and without sampling: prompts and single tokens of several sequences.
#pragma once

#include <grist/model/model.hpp>

#include <functional>
#include <memory>
#include <vector>

namespace grist::bench {

/// Sequences of a model, and what is timed of them. Its methods are collective over the model's grid.
class Passes {
public:
  /// Called now and then with the tokens done and those to do.
  using Progress = std::function<void(Index done, Index total)>;

  /// Makes a cache of the model's limits. The model must outlive it.
  Passes(const Exec& exec, Model& model);

  /// Brings `batch` sequences to `depth` tokens in the cache; those that are there stay.
  void prepare(Index batch, Index depth, const Progress& progress);
  /// Seconds of a prompt of `tokens` for each of the sequences after their depth, by passes of limits().batch_tokens,
  /// with the logits after each prompt. prepare() before every call.
  double prompt(Index tokens);
  /// Seconds of `tokens` steps of one token for each sequence, with logits. prepare() before every call.
  double generate(Index tokens);

private:
  struct Piece {
    std::size_t sequence;
    int begin, end;
  };
  void run(const std::vector<Piece>& pieces, bool few, int prompt_length, bool logits);
  void prefill(const std::vector<std::size_t>& sequences, int begin, int end, const Progress& progress);
  void hand_on_token();

  const Exec& exec_;
  Model& model_;
  std::unique_ptr<PagedKv> kv_;
  std::vector<KvSequence> sequences_;
  std::vector<int> ids_{};  // of every sequence, by position
  Index batch_ = 0, depth_ = 0;
};

}  // namespace grist::bench
