// Generates text for a batch of prompts, token by token. Prompts of different lengths share each forward pass, and what
// a prompt gives does not depend on the others.
#pragma once

#include <grist/generate/scheduler.hpp>

#include <deque>
#include <functional>
#include <iterator>
#include <optional>
#include <span>
#include <vector>

namespace grist {

/// The limits of a model that serves these requests, up to `max_sequences` of them at a time, in a context of so many
/// tokens, with `draft_tokens` as in SchedulerOptions. Where `kv_tokens` says how many tokens fit in memory, the cache
/// takes no more, so that requests may wait or be suspended; the longest one must fit.
ModelLimits limits_for(std::span<const Request> requests, Index context, int max_sequences = 32,
                       std::optional<Index> kv_tokens = {}, int draft_tokens = 0);

/// A running batch; collective over the model's grid. Use it as a range of events, or call run(). Leaving a range early
/// is allowed; a further loop goes on where it was left.
///   for (const TokenEvent& event : generation) std::cout << event.text << std::flush;
class Generation {
public:
  /// Throws as Scheduler does, and its submit.
  Generation(const Exec& exec, Model& model, SchedulerOptions options, std::vector<Request> requests);

  /// The next event, none when all requests are done.
  std::optional<TokenEvent> next();

  /// Runs to the end and calls `on_token` with each event.
  void run(const std::function<void(const TokenEvent&)>& on_token = {});

  /// Ends a request where it stands, by its index.
  void cancel(int request) { scheduler_.cancel(request); }

  /// What became of a request so far, by its index.
  [[nodiscard]] const Completion& completion(int request) const { return scheduler_.completion(request); }

  [[nodiscard]] const PassTimes& pass_times() const { return scheduler_.pass_times(); }

  class Iterator {
  public:
    using value_type = TokenEvent;
    using difference_type = std::ptrdiff_t;
    explicit Iterator(Generation* generation) : generation_(generation) { ++*this; }
    const TokenEvent& operator*() const { return *event_; }
    Iterator& operator++() {
      event_ = generation_->next();
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(std::default_sentinel_t) const { return !event_; }

  private:
    Generation* generation_;
    std::optional<TokenEvent> event_;
  };
  Iterator begin() { return Iterator(this); }
  static std::default_sentinel_t end() { return {}; }

private:
  Scheduler scheduler_;
  std::deque<TokenEvent> events_;
};

}  // namespace grist
