// Log-likelihoods of continuations, as EleutherAI's lm-evaluation-harness takes them of a causal model
// (lm_eval/api/model.py, lm_eval/models/huggingface.py), and what its multiple-choice tasks make of them.
#pragma once

#include <grist/model/model.hpp>
#include <grist/text/tokenizer.hpp>

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace grist {

/// Tokens of a text, of which those behind the first `given` are scored.
struct Continuation {
  std::vector<int> ids;
  std::size_t given = 0;  // 1 or more
};

/// The tokens of context and continuation, encoded as one text with what the tokenizer puts around it, unless the
/// text begins with the prefix token itself. Blanks that end the context belong to the continuation. An empty context
/// is the prefix token: BOS, or EOS where there is none. Throws InputError where either part is left without a token.
Continuation encode_continuation(const text::Tokenizer& tokenizer, std::string_view context,
                                 std::string_view continuation);

/// Forgets what stands before the last `context` + 1 tokens: the last one is scored and not read. Returns whether there
/// was anything. Throws InputError where not a token of the context would be left.
bool cut_left(Continuation& continuation, int context);

/// How many tokens LogLikelihood::sums() reads of them: what all begin with counts once, where the model allows it.
Index tokens_read(const ModelSpec& spec, std::span<const Continuation> continuations);

/// Sums of log-likelihoods through a KV cache of its own. The model must outlive it. Collective over the model's grid.
class LogLikelihood {
public:
  /// For texts of at most `context` tokens that are read: one less than there are.
  LogLikelihood(const Exec& exec, Model& model, int context);

  /// For each continuation the sum over its scored tokens, each given all before it, in nats. What all of them begin
  /// with is computed once, where the model allows it; the sums do not depend on earlier calls. Throws InputError for
  /// ids out of range, NumericalError for a sum that is not finite.
  std::vector<double> sums(std::span<const Continuation> continuations);

  /// Of one text alone; where RoPE turns by a text's length, that of all ids counts, the last one too.
  double sum(std::span<const int> ids, std::size_t given);

private:
  struct Text {
    std::span<const int> ids;
    std::size_t given;
    int length;  // by which RoPE may turn
  };
  double sum_behind(const Text& text, std::size_t shared);
  double read(const Text& text, std::size_t begin, std::size_t end);

  const Exec& exec_;
  Model& model_;
  int context_;
  std::unique_ptr<PagedKv> cache_;
  KvSequence sequence_;
};

/// The choice that a model finds most likely: the first of the largest sums, and of the largest sums divided by the
/// choice's characters (code points).
struct Preference {
  int choice = 0;
  int choice_by_length = 0;
};
Preference preferred(std::span<const double> sums, std::span<const std::string> choices);

/// The standard error of the mean of `count` values of which `right` are 1 and the others 0: their sample standard
/// deviation divided by the root of their number. NaN for fewer than two.
double standard_error(Index right, Index count);

}  // namespace grist
