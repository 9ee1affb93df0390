#include <grist/bench/passes.hpp>

#include <grist/bench/timing.hpp>
#include <grist/core/errors.hpp>
#include <grist/generate/cached_tokens.hpp>

#include <algorithm>

namespace grist::bench {

Passes::Passes(const Exec& exec, Model& model)
    : exec_(exec),
      model_(model),
      kv_(model.make_kv(model.limits().kv_tokens)),
      sequences_(static_cast<std::size_t>(model.limits().batch_sequences)) {
  model_.finish_loading();
  // A sequence begins a number further on than the one before: equal sequences would choose the same experts.
  for (Index i = 0; i < model.limits().context + model.limits().batch_sequences; ++i)
    ids_.push_back(static_cast<int>(i * 37 % model.spec().vocab_size));
}

void Passes::prepare(Index batch, Index depth, const Progress& progress) {
  for (auto s = static_cast<std::size_t>(batch); s < sequences_.size(); ++s) kv_->release(sequences_[s]);
  std::vector<std::size_t> missing;
  for (std::size_t s = 0; s < static_cast<std::size_t>(batch); ++s) {
    KvSequence& sequence = sequences_[s];
    const bool longer = sequence.length() > depth;
    if (longer && kv_->truncate(sequence, static_cast<int>(depth)) == depth) continue;
    if (sequence.length() == depth) continue;
    kv_->release(sequence);
    missing.push_back(s);
  }
  if (!missing.empty() && depth > 0) prefill(missing, 0, static_cast<int>(depth), progress);
  exec_.fence("grist::bench: the depth is there");
  batch_ = batch, depth_ = depth;
}

void Passes::run(const std::vector<Piece>& pieces, bool few, int prompt_length, bool logits) {
  std::vector<BatchItem> items;
  for (const auto& [s, begin, end] : pieces) {
    if (!kv_->reserve(sequences_[s], end)) throw InternalError("the KV cache is too small for its tests");
    items.push_back({.ids = {ids_.data() + s + begin, ids_.data() + s + end},
                     .position = begin,
                     .kv = &sequences_[s],
                     .few = few,
                     .prompt_length = prompt_length});
  }
  model_.run(exec_, kv_.get(), {.items = items});
  if (logits) model_.logits(exec_);
}

/// Passes are full: a sequence's last piece shares its pass with the next one's first.
void Passes::prefill(const std::vector<std::size_t>& sequences, int begin, int end, const Progress& progress) {
  const auto most = static_cast<int>(model_.limits().batch_tokens);
  const bool few = end - begin <= few_tokens;
  const Index total = static_cast<Index>(sequences.size()) * (end - begin);
  std::vector<Piece> pieces;
  int room = most;
  bool ends = false;  // a sequence in this pass
  Index done = 0;
  const auto flush = [&] {
    if (pieces.empty()) return;
    run(pieces, few, end, ends);
    done += most - room;
    if (progress) progress(done, total);
    pieces.clear();
    room = most;
    ends = false;
  };
  for (const std::size_t s : sequences) {
    for (int at = begin; at < end;) {
      const int count = std::min(room, end - at);
      pieces.push_back({s, at, at + count});
      at += count;
      room -= count;
      ends = ends || at == end;
      if (room == 0) flush();
    }
  }
  flush();
}

double Passes::prompt(Index tokens) {
  std::vector<std::size_t> all;
  for (std::size_t s = 0; s < static_cast<std::size_t>(batch_); ++s) all.push_back(s);
  return timed(exec_, model_.grid().world(),
               [&] { prefill(all, static_cast<int>(depth_), static_cast<int>(depth_ + tokens), {}); });
}

double Passes::generate(Index tokens) {
  std::vector<Piece> pieces(static_cast<std::size_t>(batch_));
  return timed(exec_, model_.grid().world(), [&] {
    for (int at = static_cast<int>(depth_); at < depth_ + tokens; ++at) {
      for (std::size_t s = 0; s < pieces.size(); ++s) pieces[s] = {s, at, at + 1};
      run(pieces, true, 1, true);
      hand_on_token();
    }
  });
}

/// The first stage cannot begin a step before the last one has chosen a token.
void Passes::hand_on_token() {
  const Communicator& stages = model_.grid().pp();
  if (stages.size() == 1) return;
  exec_.fence("grist::bench: a step");
  int token = 0;
  stages.broadcast(&token, 1, stages.size() - 1);
}

}  // namespace grist::bench
