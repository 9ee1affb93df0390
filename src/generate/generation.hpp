// Generates text for a batch of prompts, token by token. Prompts of different lengths share each forward pass, and what a
// prompt gives does not depend on the others.
#pragma once

#include <grist/generate/sampler.hpp>
#include <grist/generate/stop_filter.hpp>
#include <grist/io/tokenizer.hpp>
#include <grist/model/model.hpp>

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace grist {

struct Request {
  std::vector<int> prompt;  // one token or more
  int max_new_tokens = 128;
  SamplingOptions sampling;
  std::vector<std::string> stop;  // texts that end the generation and are not part of its text
  std::vector<int> eos;           // tokens that do the same
};

enum class Finish { running, stop, length };

/// One new token. `text` is what became certain with it: whole characters, nothing of a stop string.
struct TokenEvent {
  int sequence = 0;  // index of the request
  int id = 0;
  std::string text;
  Finish finish = Finish::running;
};

/// What became of a request.
struct Completion {
  std::vector<int> ids;  // new tokens, the ending one included
  std::string text;
  Finish finish = Finish::running;
  std::size_t cached_tokens = 0;  // of the prompt, that the conversation's cache held
  double prefill_seconds = 0;  // until the first new token
  double decode_seconds = 0;   // from there to the last one
};

/// Tokens whose keys and values lie in the cache, kept from one generation to the next: a chat's history. Holds as long
/// as no other Generation uses the model.
struct Conversation {
  std::vector<int> cached;
};

/// Prompts go through the model in pieces of so many tokens.
constexpr Index prefill_chunk = 512;

/// The limits of a model that serves these requests, up to `max_sequences` of them at a time.
ModelLimits limits_for(std::span<const Request> requests, int max_positions, int max_sequences = 32);

/// A running batch; collective over the model's grid. Use it as a range of events, or call run().
///   for (const TokenEvent& event : generation) std::cout << event.text << std::flush;
class Generation {
public:
  /// Throws InputError for an empty prompt, a token outside the vocabulary, or a prompt longer than the context, and
  /// UsageError for options out of range. `tokenizer` may be null: then there is no text. With `conversation` there is
  /// one request, and what its prompt has in common with the conversation is not computed again.
  Generation(const Exec& exec, Model& model, const io::Tokenizer* tokenizer, std::vector<Request> requests,
             Conversation* conversation = nullptr);

  /// The next event, none when all requests are done.
  std::optional<TokenEvent> next();

  /// Runs to the end and calls `on_token` with each event.
  void run(const std::function<void(const TokenEvent&)>& on_token = {});

  [[nodiscard]] const std::vector<Completion>& completions() const { return completions_; }

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
  struct Sequence {
    Request request;
    std::vector<int> ids;  // prompt and new tokens
    std::uint64_t stream = 0;  // of random numbers
    std::size_t cached = 0;  // ids whose keys and values are in the cache
    int slot = -1;           // -1: waiting or done
    std::optional<io::StreamDecoder> decoder;
    StopFilter filter{{}};
  };

  void step();
  void admit();
  void accept(int index, int id);
  [[nodiscard]] double seconds() const;

  Exec exec_;
  Model& model_;
  Conversation* conversation_;
  Sampler sampler_;
  std::vector<Sequence> sequences_;
  std::vector<Completion> completions_;
  std::deque<int> waiting_;
  std::vector<int> running_;
  std::vector<int> free_slots_;
  Index slot_tokens_ = 0;
  std::deque<TokenEvent> events_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace grist
