// Serves requests that come at any time, many in each forward pass, over a KV cache of its own. What a request gives
// depends neither on the others nor on when they come.
#pragma once

#include <grist/generate/cached_tokens.hpp>
#include <grist/generate/kept_beginnings.hpp>
#include <grist/generate/pass_times.hpp>
#include <grist/generate/request.hpp>
#include <grist/generate/speculation.hpp>
#include <grist/generate/stop_filter.hpp>
#include <grist/model/model.hpp>
#include <grist/text/tokenizer.hpp>

#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>

namespace grist {

/// Prompts go through the model in pieces of at most so many tokens.
constexpr int prefill_tokens = 512;

struct SchedulerOptions {
  Index kv_tokens = 0;  // of the KV cache, for all sequences together; 0: what the model was planned for
  const text::Tokenizer* tokenizer = nullptr;  // null: there are no texts, and stop strings are refused
  int draft_tokens = 0;  // guessed at most for a decoding sequence and checked in one pass (speculation.hpp)
  std::unique_ptr<Drafter> drafter = {};  // guesses them; null: nothing is guessed
};

/// A chat's history: what a request's prompt has in common with what the conversation computed before is not computed
/// again.
enum class Conversation : int {};

/// Decoding sequences are in every pass; prompts share the rest of it and take turns piece by piece, so that a long one
/// blocks nobody. A prompt that begins like one that is being worked on, or was, takes those pages over, and computes
/// the rest; pages that no sequence has stay until one wants them. A sequence takes pages as it grows. Where they run
/// out, the youngest running sequence gives its own back and is computed again later, to the same bits.
/// Collective over the model's grid: all ranks make the same calls. Several schedulers on one model do not disturb each
/// other. The model must outlive the scheduler.
class Scheduler {
public:
  /// Throws UsageError where the model's limits serve no sequence or less cache than is asked for, MemoryError.
  Scheduler(const Exec& exec, Model& model, SchedulerOptions options);

  /// Takes a request in and returns its number, which counts from 0. Throws InputError for an empty prompt, one that
  /// fills the context, or ids outside the vocabulary; UsageError for options out of range, a request that the cache
  /// could not hold if it were alone, or a conversation that has a request already.
  int submit(Request request, std::optional<Conversation> conversation = {});

  /// Ends a request where it stands; there is no event. Nothing happens where it has ended already.
  void cancel(int request);

  /// One forward pass, and the tokens that came of it; none where nothing is left to do or only prompts were read.
  /// Throws NumericalError naming request and token where logits are not finite: that request is cancelled, the others'
  /// events come with the next step.
  std::vector<TokenEvent> step();

  /// step() in two halves. Between them a stage of a pipeline is free for another scheduler on the same model: with as
  /// many of them as stages, taking turns, every stage has work. Where nothing was begun, there is nothing to end.
  void begin_step();
  std::vector<TokenEvent> end_step();

  /// No request is left.
  [[nodiscard]] bool idle() const { return sequences_.empty(); }

  /// What has become of a request so far.
  [[nodiscard]] const Completion& completion(int request) const;
  /// The same of one that has ended, to be forgotten here.
  Completion take(int request);

  /// Of the passes so far that read no prompts and compute nothing again.
  [[nodiscard]] const PassTimes& pass_times() const { return pass_times_; }

  Conversation open_conversation();
  /// Cancels its request and forgets its history.
  void close_conversation(Conversation conversation);

private:
  struct Sequence {
    Request request;
    CachedTokens tokens;
    std::uint64_t stream = 0;  // of random numbers
    std::optional<Conversation> conversation;
    std::optional<text::StreamDecoder> decoder;
    StopFilter filter{{}};
    Index tokens_lost = 0;        // by its suspension
    std::vector<int> pages_lost;  // of each pool
    std::shared_ptr<const std::vector<int>> kept;  // its prompt, once a beginning of it was kept
    std::chrono::steady_clock::time_point submitted, started, first_token;
  };
  struct History {
    CachedTokens tokens;
    std::optional<int> request;  // that has the tokens now
    int last_used = 0;           // a request's number
  };
  /// A sequence's share of a pass.
  struct Share {
    int request;
    Piece piece;
  };

  [[nodiscard]] Piece next(const Sequence& sequence) const;
  [[nodiscard]] bool decodes(int request, const Piece& piece) const;
  void check(const Request& request, int number) const;
  void continue_conversation(Sequence& sequence, int number);
  void admit();
  [[nodiscard]] std::vector<Share> shares();
  [[nodiscard]] int sharable_tokens(const Sequence& sequence) const;
  [[nodiscard]] bool shares_beginnings(const Sequence& sequence) const;
  bool waits_for_beginning(int request);
  bool take_over(int request, const KeptBeginnings::Found& beginning);
  void keep_beginning(Sequence& sequence, const Piece& piece);
  bool reserve(Sequence& sequence, int length);
  [[nodiscard]] Index cached_tokens() const;
  bool evict(const Sequence& wanting);
  void suspend(int request);
  void guess(std::map<int, Piece>& pieces, Index left);
  void verify(int request, std::span<const layers::Choice> choices);
  void start_choosing(const std::vector<SampledRow>& rows);
  void finish_choosing();
  void accept(int request, int id);
  void finish(int request, Finish how);

  Exec exec_;
  Model& model_;
  SchedulerOptions options_;
  std::vector<int> end_tokens_;  // the model's and the tokenizer's
  int most_running_;
  int piece_tokens_;  // of a prompt, at most
  int context_;
  std::unique_ptr<PagedKv> cache_;
  KeptBeginnings kept_;
  std::optional<Sampler> sampler_;  // of the last stage
  Speculation speculation_;
  int submitted_ = 0;
  int conversations_opened_ = 0;
  std::map<int, Sequence> sequences_;  // by age, as the next two
  std::set<int> waiting_;
  std::set<int> running_;
  std::deque<int> prefill_order_;  // running ones, the longest not served first
  std::map<Conversation, History> conversations_;
  std::map<int, Completion> completions_;
  std::vector<TokenEvent> events_;
  PassTimes pass_times_;
  Index decoding_passes_ = 0;
  // Of a step that was begun:
  std::chrono::steady_clock::time_point step_begin_;
  bool only_decodes_ = false;
  bool guesses_ = false;
  std::vector<std::pair<int, std::size_t>> choosing_;  // requests whose next tokens come of it, rows of each
  std::vector<layers::Choice> choices_;
  std::vector<Transfer> sent_;
};

/// What a rank needs to run a model with a scheduler on it.
MemoryPlan scheduler_plan(const ModelFiles& files, const Layout& layout, int pp_rank, int tp_rank,
                          const ModelNumbers& numbers, const ModelLimits& limits, Products& products);

}  // namespace grist
