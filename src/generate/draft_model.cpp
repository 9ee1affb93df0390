#include <grist/generate/draft_model.hpp>

#include <grist/core/errors.hpp>
#include <grist/generate/cached_tokens.hpp>

#include <algorithm>
#include <exception>

namespace grist {
namespace {

constexpr int guesses_tag = 2;  // of messages between stages; activations have 0, the scheduler's choices 1

std::string text_of(const text::Tokenizer& tokenizer, int id) { return tokenizer.decode({&id, 1}, false); }

/// Of each sequence how many guesses it has, then these and zeros.
std::size_t message_size(std::span<const DraftQuery> sequences) {
  std::size_t size = 0;
  for (const auto& query : sequences) size += 1 + static_cast<std::size_t>(query.most);
  return size;
}

}  // namespace

void check_same_vocabulary(const NamedVocabulary& draft, const NamedVocabulary& model) {
  if (draft.tokenizer == nullptr || model.tokenizer == nullptr) {
    if (draft.size == model.size) return;
    throw InputError("{}: has a vocabulary of {} tokens, {} has {}: a draft model needs the same", draft.name,
                     draft.size, model.name, model.size);
  }
  const int common = std::min(draft.tokenizer->vocab_size(), model.tokenizer->vocab_size());
  for (int id = 0; id < common; ++id) {
    const auto there = text_of(*draft.tokenizer, id), here = text_of(*model.tokenizer, id);
    if (there != here)
      throw InputError("{}: has another vocabulary than {}: of its {} tokens number {} is '{}', of {} it is '{}'",
                       draft.name, model.name, draft.tokenizer->vocab_size(), id, there,
                       model.tokenizer->vocab_size(), here);
  }
}

ModelLimits draft_limits(const ModelLimits& model, Index context) {
  ModelLimits limits = model;
  limits.context = std::min(model.context, context);
  limits.logit_rows = model.batch_sequences;
  return limits;
}

/// A sequence that is being guessed for.
struct ModelDrafter::Work {
  const DraftQuery* query;
  State* state;
  std::vector<int>* guesses;
  bool done = false;
  Piece piece = {};  // of the next pass
};

ModelDrafter::ModelDrafter(const Exec& exec, const Model& model, Model* draft)
    : exec_(exec), pp_(model.grid().pp()), vocab_size_(model.spec().vocab_size), draft_(draft) {
  if (draft_ == nullptr) return;
  vocab_size_ = std::min<Index>(vocab_size_, draft_->spec().vocab_size);
  cache_ = draft_->make_kv(draft_->limits().kv_tokens);
  sampler_.emplace(draft_->limits().logit_rows, draft_->vocabulary().begin, Index{0});
}

ModelDrafter::~ModelDrafter() {
  if (std::uncaught_exceptions() > 0) return;  // others may be elsewhere, and this rank ends all
  for (auto& transfer : sent_) transfer.wait(exec_);
}

void ModelDrafter::forget(int sequence) {
  const auto found = states_.find(sequence);
  if (found == states_.end()) return;
  cache_->release(found->second.kv);
  states_.erase(found);
}

std::vector<std::vector<int>> ModelDrafter::propose(std::span<const DraftQuery> sequences) {
  if (pp_.rank() != 0) return receive(sequences);
  auto guesses = draft(sequences);
  if (pp_.size() > 1) send(guesses, sequences);
  return guesses;
}

/// Tokens and sequences share passes: a sequence whose tokens are not all in the cache brings those, others their last
/// guess.
std::vector<std::vector<int>> ModelDrafter::draft(std::span<const DraftQuery> sequences) {
  std::vector<std::vector<int>> guesses(sequences.size());
  std::vector<Work> works;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const auto& query = sequences[i];
    if (std::ssize(query.ids) + query.most - 1 > draft_->limits().context || !understands(query.ids)) continue;
    auto& state = states_[query.sequence];
    rewind(state, query.ids);
    works.push_back({&query, &state, &guesses[i]});
  }
  while (true) {
    Index left = draft_->limits().batch_tokens;
    std::vector<Work*> brought;
    for (auto& work : works) {
      if (work.done || left == 0) continue;
      auto& state = *work.state;
      const int begin = state.cached, wanted = static_cast<int>(state.ids.size()) - begin;
      const int count = static_cast<int>(std::min<Index>(wanted, left));
      // Pages for all guesses at once: of a window the keys stay that the first of them sees, should it be wrong.
      const int to_come = count == wanted && work.guesses->empty() ? work.query->most - 1 : 0;
      work.done = !reserve(state, begin + count + to_come, sequences) && !reserve(state, begin + count, sequences);
      if (work.done) continue;
      work.piece = {begin, begin + count, count <= few_tokens, static_cast<int>(work.query->ids.size())};
      left -= count;
      brought.push_back(&work);
    }
    if (brought.empty()) return guesses;
    pass(brought);
  }
}

bool ModelDrafter::understands(std::span<const int> ids) const {
  return std::ranges::all_of(ids, [&](int id) { return id < vocab_size_; });
}

/// The state's tokens become these: what differs, the guesses that were wrong, is taken from the cache.
void ModelDrafter::rewind(State& state, std::span<const int> ids) {
  const auto common = std::ranges::mismatch(state.ids, ids).in2 - ids.begin();
  state.cached = std::min({state.cached, static_cast<int>(common), static_cast<int>(ids.size()) - 1});
  if (state.kv.length() > state.cached) state.cached = cache_->truncate(state.kv, state.cached);
  state.ids.assign(ids.begin(), ids.end());
}

/// Pages before `length`, if need be those of sequences that nothing is guessed for now.
bool ModelDrafter::reserve(State& state, int length, std::span<const DraftQuery> sequences) {
  if (state.kv.length() >= length) return true;
  const auto fits = [&] {
    Index held = length - state.kv.length();
    for (const auto& [sequence, other] : states_) held += other.kv.length();
    return held <= draft_->limits().kv_tokens && cache_->reserve(state.kv, length);
  };
  while (!fits()) {
    const auto idle = std::ranges::find_if(states_, [&](const auto& entry) {
      return std::ranges::find(sequences, entry.first, &DraftQuery::sequence) == sequences.end();
    });
    if (idle == states_.end()) return false;
    forget(idle->first);
  }
  return true;
}

/// One pass over the pieces of some sequences; those that are whole with it have another guess.
void ModelDrafter::pass(std::vector<Work*>& works) {
  std::ranges::stable_partition(works, [](const Work* work) { return work->piece.few; });
  std::vector<BatchItem> items;
  std::vector<SampledRow> rows;
  std::vector<Work*> guessing;
  for (Work* const work : works) {
    const auto& [begin, end, few, prompt_length] = work->piece;
    const auto& ids = work->state->ids;
    if (end == std::ssize(ids)) {
      rows.push_back({.row = std::ssize(items),
                      .options = work->query->sampling,
                      .stream = work->query->stream,
                      .position = static_cast<std::uint32_t>(end)});
      guessing.push_back(work);
    }
    items.push_back({std::span(ids).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)),
                     begin, &work->state->kv, few, prompt_length});
  }
  draft_->run(exec_, cache_.get(), {.items = items});
  for (Work* const work : works) work->state->cached = work->piece.end;
  if (rows.empty()) return;
  const auto choices = sampler_->choose(exec_, draft_->grid().tp(), draft_->logits(exec_), rows);
  for (std::size_t i = 0; i < guessing.size(); ++i) {
    auto& work = *guessing[i];
    const int id = layers::token_of(choices[i]);
    work.done = layers::kind_of(choices[i]) != layers::Value::finite || id >= vocab_size_;
    if (work.done) continue;
    work.guesses->push_back(id);
    work.done = std::ssize(*work.guesses) == work.query->most;
    if (!work.done) work.state->ids.push_back(id);
  }
}

void ModelDrafter::send(const std::vector<std::vector<int>>& guesses, std::span<const DraftQuery> sequences) {
  for (auto& transfer : sent_) transfer.wait(exec_);
  sent_.clear();
  message_.assign(message_size(sequences), 0);
  auto at = message_.begin();
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    *at = static_cast<int>(guesses[i].size());
    std::ranges::copy(guesses[i], at + 1);
    at += 1 + sequences[i].most;
  }
  for (int stage = 1; stage < pp_.size(); ++stage)
    sent_.push_back(pp_.start_send(exec_, View1<const int>(message_.data(), message_.size()), stage, guesses_tag));
}

std::vector<std::vector<int>> ModelDrafter::receive(std::span<const DraftQuery> sequences) {
  message_.resize(message_size(sequences));
  pp_.recv(exec_, View1<int>(message_.data(), message_.size()), 0, guesses_tag);
  std::vector<std::vector<int>> guesses;
  auto at = message_.begin();
  for (const auto& query : sequences) {
    guesses.emplace_back(at + 1, at + 1 + *at);
    at += 1 + query.most;
  }
  return guesses;
}

}  // namespace grist
