#include <grist/generate/scheduler.hpp>

#include <grist/core/errors.hpp>

#include <algorithm>
#include <format>
#include <utility>

namespace grist {
namespace {

using Clock = std::chrono::steady_clock;

double seconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

/// One of so many decoding passes is computed without guesses, so that their gain is measured.
constexpr int measured_passes = 32;

constexpr int choices_tag = 1;  // of messages; activations have 0

bool contains(const std::vector<int>& ids, int id) { return std::ranges::find(ids, id) != ids.end(); }

/// Tokens that the sequences of a pass have together; their last ones are not in the cache.
Index tokens_seen(const ModelLimits& limits) { return limits.kv_tokens + limits.batch_sequences; }

/// Draws depend on the prompt and its copy, not on what else is served.
std::uint64_t stream_of(const Request& request) {
  std::string bytes(reinterpret_cast<const char*>(request.prompt.data()), request.prompt.size() * sizeof(int));
  bytes.append(reinterpret_cast<const char*>(&request.copy), sizeof request.copy);
  return hash_name(bytes);
}

}  // namespace

void check(const Request& request, std::string_view name, Index vocabulary, Index context) {
  request.sampling.check();
  const auto length = std::ssize(request.prompt);
  if (request.max_new_tokens < 1)
    throw UsageError("--max-new-tokens is {}, expected 1 or more", request.max_new_tokens);
  if (length == 0) throw InputError("{} has no tokens, and the model has no BOS token to begin with", name);
  if (length >= context)
    throw InputError("{} has {} tokens, the context is {}: one token must be left to generate", name, length, context);
  for (const int id : request.prompt)
    if (id < 0 || id >= vocabulary)
      throw InputError("{}: token id {} is out of range, the vocabulary has {}", name, id, vocabulary);
}

Scheduler::Scheduler(const Exec& exec, Model& model, SchedulerOptions options)
    : exec_(exec),
      model_(model),
      options_(std::move(options)),
      most_running_(static_cast<int>(
          std::min<Index>(model.limits().batch_sequences, model.limits().logit_rows / (1 + options_.draft_tokens)))),
      // Beside a whole piece every other sequence has room to decode.
      piece_tokens_(std::min(prefill_tokens, static_cast<int>(model.limits().batch_tokens) - most_running_ + 1)),
      context_(static_cast<int>(model.limits().context)),
      speculation_(std::move(options_.drafter)) {
  const auto& limits = model.limits();
  if (most_running_ < 1 || piece_tokens_ < 1)
    throw UsageError(
        "a pass of {} tokens, {} sequences and {} rows of logits serves no request: 1 sequence and row, and a "
        "token for each sequence, are needed",
        limits.batch_tokens, limits.batch_sequences, limits.logit_rows);
  if (options_.kv_tokens == 0) options_.kv_tokens = limits.kv_tokens;
  if (options_.kv_tokens < 1 || options_.kv_tokens > limits.kv_tokens)
    throw UsageError("a KV cache of {} tokens is asked for, the model was planned for 1 to {}", options_.kv_tokens,
                     limits.kv_tokens);
  end_tokens_ = model.end_tokens();
  if (options_.tokenizer != nullptr)
    for (const int id : options_.tokenizer->end_tokens()) end_tokens_.push_back(id);
  cache_ = model.make_kv(options_.kv_tokens);
  if (model.last_stage()) sampler_.emplace(limits.logit_rows, model.vocabulary().begin, tokens_seen(limits));
}

MemoryPlan scheduler_plan(const ModelFiles& files, const Layout& layout, int pp_rank, int tp_rank,
                          const ModelNumbers& numbers, const ModelLimits& limits, Products& products) {
  MemoryPlan plan = memory_plan(files, layout, pp_rank, tp_rank, numbers, limits, products);
  if (pp_rank + 1 == layout.pp)
    plan.sampling = static_cast<std::uint64_t>(Sampler::bytes(limits.logit_rows, tokens_seen(limits)));
  return plan;
}

int Scheduler::submit(Request request, std::optional<Conversation> conversation) {
  check(request, submitted_);
  if (conversation && conversations_.at(*conversation).request)
    throw UsageError("a conversation takes one request at a time, and request {} has not ended",
                     *conversations_.at(*conversation).request);
  const int number = submitted_++;
  auto& sequence = sequences_[number];
  completions_[number] = {};
  sequence.stream = stream_of(request);
  sequence.conversation = conversation;
  sequence.request = std::move(request);
  if (conversation) continue_conversation(sequence, number);
  sequence.tokens.ids = sequence.request.prompt;
  if (options_.tokenizer != nullptr) sequence.decoder.emplace(*options_.tokenizer, true);
  sequence.filter = StopFilter(sequence.request.stop);
  sequence.submitted = Clock::now();
  waiting_.insert(number);
  return number;
}

void Scheduler::check(const Request& request, int number) const {
  grist::check(request, std::format("prompt {}", number), model_.spec().vocab_size, context_);
  const auto length = std::ssize(request.prompt);
  if (options_.tokenizer == nullptr && !request.stop.empty())
    throw UsageError("stop strings need a tokenizer, and the model has none");
  // The last new token is not computed.
  const int rows = static_cast<int>(std::min<Index>(length + request.max_new_tokens, context_)) - 1;
  if (rows > options_.kv_tokens || !cache_->fits(rows))
    throw UsageError("prompt {} has {} tokens; with up to {} new ones it takes {} tokens of KV cache, which has {}",
                     number, length, request.max_new_tokens, rows, options_.kv_tokens);
}

/// The sequence takes over what its prompt has in common with the history. The last prompt token is always computed:
/// its logits are needed.
void Scheduler::continue_conversation(Sequence& sequence, int number) {
  auto& history = conversations_.at(*sequence.conversation);
  const auto& prompt = sequence.request.prompt;
  const auto common = std::ranges::mismatch(history.tokens.ids, prompt).in2 - prompt.begin();
  history.tokens.truncate(*cache_, static_cast<int>(std::min(common, std::ssize(prompt) - 1)));
  history.request = number;
  sequence.tokens = std::exchange(history.tokens, {});
  completions_[number].cached_tokens = sequence.tokens.cached;
}

void Scheduler::cancel(int request) {
  if (sequences_.contains(request)) finish(request, Finish::cancelled);
}

const Completion& Scheduler::completion(int request) const { return completions_.at(request); }

Completion Scheduler::take(int request) {
  if (sequences_.contains(request)) throw UsageError("request {} has not ended", request);
  auto node = completions_.extract(request);
  if (node.empty()) throw UsageError("request {} is not known, or was taken before", request);
  return std::move(node.mapped());
}

Conversation Scheduler::open_conversation() {
  const auto conversation = static_cast<Conversation>(conversations_opened_++);
  conversations_[conversation] = {};
  return conversation;
}

void Scheduler::close_conversation(Conversation conversation) {
  auto& history = conversations_.at(conversation);
  if (history.request) cancel(*history.request);
  history.tokens.release(*cache_);
  conversations_.erase(conversation);
}

std::vector<TokenEvent> Scheduler::step() {
  begin_step();
  return end_step();
}

void Scheduler::begin_step() {
  step_begin_ = Clock::now();
  admit();
  const auto shares = this->shares();
  std::vector<BatchItem> items;
  std::vector<SampledRow> rows;
  Index logits = 0;  // rows of them
  for (const auto& [request, piece] : shares) {
    const auto& sequence = sequences_.at(request);
    const auto& [ids, pieces, cached, kv] = sequence.tokens;
    const int wanted = 1 + speculation_.guessed(request);
    items.push_back(
        {std::span(ids).subspan(static_cast<std::size_t>(piece.begin), static_cast<std::size_t>(piece.size())),
         piece.begin, &kv, piece.few, piece.prompt_length, wanted});
    if (piece.end == std::ssize(ids)) {
      for (int i = 0; i < wanted; ++i) {
        const int seen = piece.end - wanted + 1 + i;
        rows.push_back({logits + i, sequence.request.sampling, std::span(ids).first(static_cast<std::size_t>(seen)),
                        sequence.stream, static_cast<std::uint32_t>(seen)});
      }
      choosing_.emplace_back(request, wanted);
    }
    logits += wanted;
  }
  guesses_ = logits > std::ssize(items);
  if (!items.empty()) model_.run(exec_, cache_.get(), {.items = items});
  for (const auto& [request, piece] : shares) {
    auto& sequence = sequences_.at(request);
    sequence.tokens.add(piece);
    keep_beginning(sequence, piece);
  }
  if (!rows.empty()) start_choosing(rows);
}

std::vector<TokenEvent> Scheduler::end_step() {
  const auto choosing = std::exchange(choosing_, {});
  if (choosing.empty()) return std::exchange(events_, {});
  finish_choosing();
  std::optional<NumericalError> broken;
  std::size_t first = 0;
  const auto events_before = std::ssize(events_);
  for (const auto& [request, count] : choosing) {
    const auto choices = std::span(choices_).subspan(first, count);
    first += count;
    if (!sequences_.contains(request)) continue;  // cancelled meanwhile
    try {
      verify(request, choices);
    } catch (const NumericalError& error) {
      finish(request, Finish::cancelled);
      completions_.at(request).broken = error.what();
      if (!broken) broken = error;
    }
  }
  if (only_decodes_)
    pass_times_.add(static_cast<int>(choosing.size()), guesses_, std::ssize(events_) - events_before,
                    seconds(step_begin_, Clock::now()));
  if (broken) throw *broken;
  return std::exchange(events_, {});
}

Piece Scheduler::next(const Sequence& sequence) const {
  return sequence.tokens.next(piece_tokens_, static_cast<int>(sequence.request.prompt.size()));
}

/// Whether nothing of a running sequence but its last token is left to compute: its pages were not lost.
bool Scheduler::decodes(int request, const Piece& piece) const {
  return running_.contains(request) && piece.few && piece.size() == 1 &&
         piece.end == std::ssize(sequences_.at(request).tokens.ids);
}

/// What the next pass computes, with pages for it: few tokens first.
std::vector<Scheduler::Share> Scheduler::shares() {
  std::map<int, Piece> pieces;  // by age: whoever must give way comes last
  for (const int request : running_)
    if (const Piece piece = next(sequences_.at(request)); piece.size() == 1) pieces[request] = piece;
  Index left = model_.limits().batch_tokens - std::ssize(pieces);
  std::deque<int> passed, served;
  for (const int request : prefill_order_) {
    const bool waits = waits_for_beginning(request);
    const Piece piece = next(sequences_.at(request));
    const bool serves = !waits && piece.size() > 1 && piece.size() <= left;  // a piece that does not fit waits whole
    (serves ? served : passed).push_back(request);
    if (!serves) continue;
    pieces[request] = piece;
    left -= piece.size();
  }
  prefill_order_ = std::move(passed);
  prefill_order_.insert(prefill_order_.end(), served.begin(), served.end());

  for (const auto& [request, piece] : pieces)
    while (running_.contains(request) && !reserve(sequences_.at(request), piece.end)) suspend(*running_.rbegin());
  only_decodes_ = std::ranges::all_of(pieces, [&](const auto& entry) {
    const auto& [request, piece] = entry;
    return !running_.contains(request) || (decodes(request, piece) && !completions_.at(request).ids.empty());
  });
  const bool measures = only_decodes_ && ++decoding_passes_ % measured_passes == 0;
  if (speculation_.guesses() && !measures) guess(pieces, left);
  std::vector<Share> shares;
  for (const bool few : {true, false})
    for (const auto& [request, piece] : pieces)
      if (running_.contains(request) && piece.few == few) shares.push_back({request, piece});
  return shares;
}

/// Decoding sequences guess what comes next; the pass checks it in the room that is left in it, of tokens and of pages.
void Scheduler::guess(std::map<int, Piece>& pieces, Index left) {
  std::vector<Speculation::Candidate> candidates;
  for (const auto& [request, piece] : pieces) {
    auto& sequence = sequences_.at(request);
    auto& tokens = sequence.tokens;
    const auto known = std::ssize(tokens.ids);
    const auto& asked = sequence.request;
    // A penalty wants the tokens before each guess apart, for which the sampler has no room.
    if (!decodes(request, piece) || asked.sampling.repetition_penalty != 1) continue;
    const auto may_come = std::min<Index>(asked.max_new_tokens - std::ssize(completions_.at(request).ids),
                                          context_ - known);
    const auto most = static_cast<int>(std::min<Index>({options_.draft_tokens, left, may_come - 1}));
    if (most < 1) continue;
    candidates.push_back({{request, tokens.ids, most, asked.sampling, sequence.stream}, &tokens});
  }
  speculation_.guess(*cache_, candidates, left, options_.kv_tokens - cached_tokens());
  for (const auto& candidate : candidates)
    pieces.at(candidate.query.sequence).end = static_cast<int>(candidate.tokens->ids.size());
}

/// The last stage chooses the next tokens, and sends them on their way to the others.
void Scheduler::start_choosing(const std::vector<SampledRow>& rows) {
  choices_.resize(rows.size());
  const auto logits = model_.logits(exec_);
  if (!sampler_) return;
  choices_ = sampler_->choose(exec_, model_.grid().tp(), logits, rows);
  const auto& pp = model_.grid().pp();
  for (int stage = 0; stage + 1 < pp.size(); ++stage)
    sent_.push_back(
        pp.start_send(exec_, View1<const layers::Choice>(choices_.data(), choices_.size()), stage, choices_tag));
}

/// The next tokens are there, on all ranks.
void Scheduler::finish_choosing() {
  const auto& pp = model_.grid().pp();
  if (!sampler_)
    pp.recv(exec_, View1<layers::Choice>(choices_.data(), choices_.size()), pp.size() - 1, choices_tag);
  for (auto& transfer : sent_) transfer.wait(exec_);
  sent_.clear();
}

/// A sequence's new tokens: the guesses that the model chose too, and one more.
void Scheduler::verify(int request, std::span<const layers::Choice> choices) {
  auto& completion = completions_.at(request);
  const int guessed = speculation_.guessed(request);
  const auto chosen = speculation_.verify(*cache_, request, sequences_.at(request).tokens, choices,
                                          std::format("request {}", request));
  completion.guessed += guessed;
  for (std::size_t i = 0; i < chosen.size() && sequences_.contains(request); ++i) {
    accept(request, chosen[i]);
    if (i > 0) ++completion.guessed_right;
  }
}

/// A sequence's new token: its text, whether it is the last, the event.
void Scheduler::accept(int request, int id) {
  auto& sequence = sequences_.at(request);
  auto& completion = completions_.at(request);
  const auto now = Clock::now();
  if (completion.ids.empty()) {
    sequence.first_token = now;
    completion.prefill_seconds = seconds(sequence.started, now);
  }
  completion.decode_seconds = seconds(sequence.first_token, now);
  sequence.tokens.ids.push_back(id);
  completion.ids.push_back(id);
  TokenEvent event{request, id, {}, Finish::running};

  const auto& asked = sequence.request;
  const bool ends = !asked.ignore_eos && contains(asked.eos.empty() ? end_tokens_ : asked.eos, id);
  auto& filter = sequence.filter;
  if (sequence.decoder && !ends) {
    event.text = filter.put(sequence.decoder->put(id));
    if (options_.tokenizer->is_special(id)) event.text += filter.put_hidden(options_.tokenizer->special_text(id));
  }
  const bool full = std::ssize(completion.ids) == asked.max_new_tokens || std::ssize(sequence.tokens.ids) >= context_;
  if (ends || filter.stopped()) event.finish = Finish::stop;
  else if (full) event.finish = Finish::length;
  if (event.finish != Finish::running && sequence.decoder && !filter.stopped()) {
    event.text += filter.put(sequence.decoder->finish());
    event.text += filter.finish();
    if (filter.stopped()) event.finish = Finish::stop;
  }
  completion.text += event.text;
  const Finish how = event.finish;
  events_.push_back(std::move(event));
  if (how != Finish::running) finish(request, how);
}

/// Gives back the pages, or leaves them with the conversation.
void Scheduler::finish(int request, Finish how) {
  auto& sequence = sequences_.at(request);
  completions_.at(request).finish = how;
  auto& tokens = sequence.tokens;
  speculation_.forget(request, tokens);
  if (sequence.conversation) {
    auto& history = conversations_.at(*sequence.conversation);
    const int computed = tokens.pieces.empty() ? 0 : tokens.pieces.back().end;
    tokens.truncate(*cache_, std::min(computed, static_cast<int>(tokens.ids.size())));
    history = {std::move(tokens), {}, request};
  } else {
    tokens.release(*cache_);
  }
  running_.erase(request);
  waiting_.erase(request);
  std::erase(prefill_order_, request);
  sequences_.erase(request);
}

}  // namespace grist
