// What is asked of a model, and what comes of it.
#pragma once

#include <grist/generate/sampler.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace grist {

struct Request {
  std::vector<int> prompt;  // one token or more
  int max_new_tokens = 128;
  SamplingOptions sampling;
  std::vector<std::string>
      stop;  // texts that end the generation and are not part of its text; special tokens' texts count
  std::vector<int> eos;           // tokens that do the same; none: the model's own
  bool ignore_eos = false;        // no token ends the generation
  int copy = 0;                   // tells equal prompts with equal seeds apart: each copy draws by itself
};

/// Throws InputError naming the prompt for one that is empty, fills the context, or has ids outside the vocabulary;
/// UsageError for options out of range.
void check(const Request& request, std::string_view name, Index vocabulary, Index context);

enum class Finish { running, stop, length, cancelled };
constexpr std::string_view name_of(Finish finish) {
  constexpr std::string_view names[] = {"running", "stop", "length", "cancelled"};
  return names[static_cast<std::size_t>(finish)];
}

/// One new token. `text` is what became certain with it: whole characters, nothing of a stop string or a special token.
struct TokenEvent {
  int request = 0;
  int id = 0;
  std::string text;
  Finish finish = Finish::running;
};

/// What became of a request.
struct Completion {
  std::vector<int> ids;  // new tokens, the ending one included
  std::string text;
  Finish finish = Finish::running;
  std::string broken;          // why it was cancelled, where its logits were not finite
  int cached_tokens = 0;       // of the prompt, that its conversation or another prompt had computed
  int suspensions = 0;         // how often others needed its pages, and it was computed again
  int guessed = 0;             // tokens that were guessed and checked by speculative decoding
  int guessed_right = 0;       // of them, that came without a pass of their own
  double waiting_seconds = 0;  // until it was first computed
  double prefill_seconds = 0;  // from there to the first new token
  double decode_seconds = 0;   // from there to the last one
};

}  // namespace grist
