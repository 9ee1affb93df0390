// Which sequences have pages of the KV cache: who begins, takes over a beginning, grows, and gives way.
#include <grist/generate/scheduler.hpp>

#include <grist/core/errors.hpp>

#include <algorithm>

namespace grist {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

/// Sequences begin in the order of their age, as long as their next piece fits; one that was suspended wants all that
/// it lost.
void Scheduler::admit() {
  while (!waiting_.empty() && std::ssize(running_) < most_running_) {
    const int request = *waiting_.begin();
    auto& sequence = sequences_.at(request);
    const auto lacks_pages = [&] {
      for (std::size_t pool = 0; pool < sequence.pages_lost.size(); ++pool)
        if (cache_->free_pages(static_cast<int>(pool)) < sequence.pages_lost[pool]) return true;
      return false;
    };
    while (!running_.empty()) {
      if (cached_tokens() + sequence.tokens_lost > options_.kv_tokens) {
        if (!evict(sequence)) return;
      } else if (lacks_pages()) {
        if (!kept_.give_back(*cache_) && !evict(sequence)) return;
      } else {
        break;
      }
    }
    // It takes over what is there before room for the rest is made; while it waits it wants no room.
    if (!waits_for_beginning(request) && !reserve(sequence, next(sequence).end)) {
      if (running_.empty())
        throw InternalError("request {} was found to fit the KV cache, and does not", request);
      return;
    }
    waiting_.erase(request);
    running_.insert(request);
    prefill_order_.push_back(request);
    if (sequence.started == Clock::time_point{}) {
      sequence.started = Clock::now();
      completions_.at(request).waiting_seconds =
          std::chrono::duration<double>(sequence.started - sequence.submitted).count();
    }
  }
}

/// Tokens at the begin of a prompt that fill whole pages of bits that other prompts have too: the last tokens of a
/// prompt, where they are few, are computed by other kernels, and the last one's logits are wanted.
int Scheduler::sharable_tokens(const Sequence& sequence) const {
  const int length = static_cast<int>(sequence.request.prompt.size()), last = length % piece_tokens_;
  return std::min(length - 1, last <= few_tokens ? length - last : length) / kv_page_rows * kv_page_rows;
}

bool Scheduler::shares_beginnings(const Sequence& sequence) const {
  return !sequence.conversation && model_.same_bits_for_same_beginning();
}

/// A sequence of which nothing is cached takes over the pages of the longest beginning that a running sequence has in
/// common with it, or that was kept. It waits, true, where an older one is about to have more.
bool Scheduler::waits_for_beginning(int request) {
  auto& sequence = sequences_.at(request);
  if (sequence.tokens.cached > 0 || !shares_beginnings(sequence)) return false;
  const auto prompt = std::span(sequence.request.prompt).first(static_cast<std::size_t>(sharable_tokens(sequence)));
  auto there = kept_.find(prompt);
  int soon = 0;
  for (const int running : running_) {
    const auto& other = sequences_.at(running);
    if (running == request || !shares_beginnings(other)) continue;
    const auto common = std::ranges::mismatch(prompt, other.request.prompt).in1 - prompt.begin();
    const int shared = std::min(static_cast<int>(common) / kv_page_rows * kv_page_rows, sharable_tokens(other));
    const int cached = std::min(shared, other.tokens.cached / kv_page_rows * kv_page_rows);
    if (running < request && cached < shared) soon = std::max(soon, shared);
    if (cached > 0) there.push_back({cached, &other.tokens.kv});
  }
  std::ranges::stable_sort(there, std::greater(), &KeptBeginnings::Found::tokens);
  if (soon > (there.empty() ? 0 : there.front().tokens)) return true;
  for (const auto& beginning : there)
    if (take_over(request, beginning)) break;
  return false;
}

bool Scheduler::take_over(int request, const KeptBeginnings::Found& beginning) {
  auto& sequence = sequences_.at(request);
  auto& tokens = sequence.tokens;
  if (cached_tokens() - tokens.kv.length() + beginning.tokens > options_.kv_tokens) return false;
  tokens.release(*cache_);
  if (!cache_->share(tokens.kv, *beginning.kv, beginning.tokens)) return false;
  kept_.used(beginning.kv);
  tokens.cached = beginning.tokens;
  if (!tokens.pieces.empty()) return true;  // it was suspended, and goes on as before
  completions_.at(request).cached_tokens = beginning.tokens;
  const int length = static_cast<int>(sequence.request.prompt.size());
  for (int begin = 0; begin < beginning.tokens; begin += piece_tokens_)
    tokens.pieces.push_back({begin, std::min(begin + piece_tokens_, length), false, length});
  return true;
}

/// The pass computes a piece of the prompt: what fills whole pages stays for others.
void Scheduler::keep_beginning(Sequence& sequence, const Piece& piece) {
  const auto& prompt = sequence.request.prompt;
  if (piece.few || piece.begin >= std::ssize(prompt) || !shares_beginnings(sequence)) return;
  const int length = std::min(sharable_tokens(sequence), piece.end / kv_page_rows * kv_page_rows);
  if (length == 0) return;
  if (!sequence.kept) sequence.kept = std::make_shared<const std::vector<int>>(prompt);
  kept_.keep(*cache_, {sequence.kept, length}, sequence.tokens.kv);
}

/// Pages for tokens before `length`, if need be kept ones, then those of sequences that do not run.
bool Scheduler::reserve(Sequence& sequence, int length) {
  auto& kv = sequence.tokens.kv;
  if (kv.length() >= length) return true;
  for (;;) {
    if (cached_tokens() + length - kv.length() <= options_.kv_tokens) {
      if (cache_->reserve(kv, length)) return true;
      if (kept_.give_back(*cache_)) continue;
    }
    if (!evict(sequence)) return false;
  }
}

/// Of all sequences together: a pass may read as many keys as the model was planned for, pages that are not full hide
/// more.
Index Scheduler::cached_tokens() const {
  Index tokens = 0;
  for (const auto& [request, sequence] : sequences_) tokens += sequence.tokens.kv.length();
  for (const auto& [name, history] : conversations_) tokens += history.tokens.kv.length();
  return tokens;
}

/// Takes the pages of the conversation that was not used for longest, or else of the youngest sequence that waits with
/// pages. False where there is none.
bool Scheduler::evict(const Sequence& wanting) {
  CachedTokens* evicted = nullptr;
  int last_used = submitted_;
  for (auto& [name, history] : conversations_) {
    if (history.tokens.kv.length() == 0 || history.last_used >= last_used) continue;
    evicted = &history.tokens;
    last_used = history.last_used;
  }
  for (auto waiting = waiting_.rbegin(); evicted == nullptr && waiting != waiting_.rend(); ++waiting) {
    auto& sequence = sequences_.at(*waiting);
    if (&sequence != &wanting && sequence.tokens.kv.length() > 0) evicted = &sequence.tokens;
  }
  if (evicted != nullptr) evicted->release(*cache_);
  return evicted != nullptr;
}

void Scheduler::suspend(int request) {
  auto& sequence = sequences_.at(request);
  sequence.tokens_lost = sequence.tokens.kv.length();
  sequence.pages_lost.clear();
  for (int pool = 0; pool < cache_->pools(); ++pool) sequence.pages_lost.push_back(-cache_->free_pages(pool));
  sequence.tokens.release(*cache_);
  for (int pool = 0; pool < cache_->pools(); ++pool)
    sequence.pages_lost[static_cast<std::size_t>(pool)] += cache_->free_pages(pool);
  ++completions_.at(request).suspensions;
  running_.erase(request);
  std::erase(prefill_order_, request);
  waiting_.insert(request);
}

}  // namespace grist
