#include <grist/generate/loglikelihood.hpp>

#include <grist/core/errors.hpp>
#include <grist/generate/scheduler.hpp>
#include <grist/text/unicode.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

namespace grist {
namespace {

/// Bytes of a text without the blanks that end it, as Python's rstrip leaves them.
std::size_t bytes_without_blanks(std::string_view text) {
  auto points = text::code_points(text);
  while (!points.empty() && text::is_space(points.back())) points.pop_back();
  return text::to_utf8(points).size();
}

/// How many tokens all continuations begin with, of those that are read before the first scored one is to be foretold.
std::size_t shared(const ModelSpec& spec, std::span<const Continuation> continuations) {
  // Where RoPE turns by the text's length, so do the keys of its beginning.
  const bool by_length = std::ranges::any_of(spec.ropes, [](const RopeTable& r) { return r.long_after > 0; });
  if (continuations.size() < 2 || by_length) return 0;
  std::size_t common = std::numeric_limits<std::size_t>::max();
  for (const auto& [ids, given] : continuations) {
    const auto& first = continuations.front().ids;
    const auto differs = std::ranges::mismatch(first, ids).in1;
    common = std::min({common, given - 1, static_cast<std::size_t>(differs - first.begin())});
  }
  return common;
}

}  // namespace

Continuation encode_continuation(const text::Tokenizer& tokenizer, std::string_view context,
                                 std::string_view continuation) {
  const int prefix = tokenizer.bos >= 0 ? tokenizer.bos : tokenizer.eos.empty() ? -1 : tokenizer.eos.front();
  Continuation result;
  if (context.empty()) {
    result.ids = tokenizer.encode(continuation, false);
    if (prefix < 0) throw InputError("the context is empty, and the model has no BOS or EOS to stand for it");
    if (result.ids.empty() || result.ids.front() != prefix) result.ids.insert(result.ids.begin(), prefix);
    result.given = 1;
  } else {
    const std::string whole = std::string(context).append(continuation);
    const std::string_view given = context.substr(0, bytes_without_blanks(context));
    const std::string begin = prefix >= 0 ? tokenizer.decode({&prefix, 1}, false) : std::string();
    const auto encode = [&](std::string_view text) {
      return tokenizer.encode(text, begin.empty() || !text.starts_with(begin));
    };
    result.ids = encode(given);
    result.given = result.ids.size();
    if (result.given == 0) throw InputError("the context has no token");
    const auto ids = encode(whole);
    // As in the harness, the context stays as it is encoded alone, also where the whole text begins with other tokens.
    if (ids.size() > result.given)
      result.ids.insert(result.ids.end(), ids.begin() + static_cast<std::ptrdiff_t>(result.given), ids.end());
  }
  if (result.ids.size() == result.given) throw InputError("the continuation has no token of its own");
  return result;
}

bool cut_left(Continuation& continuation, int context) {
  auto& [ids, given] = continuation;
  const std::size_t most = static_cast<std::size_t>(context) + 1;
  if (ids.size() - given >= most)
    throw InputError("the continuation has {} tokens, and the model's context {}", ids.size() - given, context);
  if (ids.size() <= most) return false;
  const std::size_t lost = ids.size() - most;
  ids.erase(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(lost));
  given -= lost;
  return true;
}

Index tokens_read(const ModelSpec& spec, std::span<const Continuation> continuations) {
  const auto common = static_cast<Index>(shared(spec, continuations));
  Index tokens = common;
  for (const auto& [ids, given] : continuations) tokens += std::ssize(ids) - 1 - common;
  return tokens;
}

LogLikelihood::LogLikelihood(const Exec& exec, Model& model, int context)
    : exec_(exec), model_(model), context_(context), cache_(model.make_kv(context)) {}

std::vector<double> LogLikelihood::sums(std::span<const Continuation> continuations) {
  const std::size_t common = shared(model_.spec(), continuations);
  cache_->release(sequence_);
  std::vector<double> sums;
  for (const auto& [ids, given] : continuations)
    sums.push_back(sum_behind({ids, given, static_cast<int>(ids.size()) - 1}, common));
  return sums;
}

double LogLikelihood::sum(std::span<const int> ids, std::size_t given) {
  cache_->release(sequence_);
  return sum_behind({ids, given, static_cast<int>(ids.size())}, 0);
}

double LogLikelihood::sum_behind(const Text& text, std::size_t shared) {
  const auto& [ids, given, length] = text;
  if (given < 1 || given >= ids.size())
    throw InputError("{} of {} tokens are given; one at least, and one to score", given, ids.size());
  if (std::ssize(ids) > context_ + 1)
    throw InputError("a text of {} tokens is longer than the context of {}", ids.size() - 1, context_);
  const auto had = static_cast<std::size_t>(cache_->truncate(sequence_, static_cast<int>(shared)));
  if (had < shared) read(text, had, shared);
  const double sum = read(text, shared, ids.size() - 1);
  if (!std::isfinite(sum)) throw NumericalError("the log-likelihood of {} tokens is not finite", ids.size() - given);
  return sum;
}

/// Reads tokens begin ... end - 1, whose past the cache holds, and adds up what they foretell of the scored ones.
double LogLikelihood::read(const Text& text, std::size_t begin, std::size_t end) {
  const auto& [ids, given, length] = text;
  double total = 0;
  const auto most = static_cast<std::size_t>(std::min<Index>(prefill_tokens, model_.limits().batch_tokens));
  for (std::size_t first = begin; first < end; first += most) {
    const std::size_t count = std::min(most, end - first);
    if (!cache_->reserve(sequence_, static_cast<int>(first + count)))
      throw InternalError("a text of {} tokens was found to fit the KV cache, and does not", ids.size());
    const BatchItem item{.ids = ids.subspan(first, count),
                         .position = static_cast<int>(first),
                         .kv = &sequence_,
                         .few = static_cast<int>(count) <= few_tokens,
                         .prompt_length = length};
    if (first + count < given) {
      model_.run(exec_, cache_.get(), {.items = {&item, 1}});
      continue;
    }
    const auto nll = model_.score(exec_, cache_.get(), item, ids.subspan(first + 1, count));
    for (std::size_t i = given > first + 1 ? given - first - 1 : 0; i < count; ++i) total -= double{nll[i]};
  }
  return total;
}

Preference preferred(std::span<const double> sums, std::span<const std::string> choices) {
  std::vector<double> by_length;
  for (std::size_t i = 0; i < sums.size(); ++i)
    by_length.push_back(sums[i] / static_cast<double>(text::count_code_points(choices[i])));
  const auto best = [](std::span<const double> of) {
    return static_cast<int>(std::ranges::max_element(of) - of.begin());
  };
  return {best(sums), best(by_length)};
}

double standard_error(Index right, Index count) {
  if (count < 2) return std::numeric_limits<double>::quiet_NaN();
  const double n = static_cast<double>(count), mean = static_cast<double>(right) / n;
  return std::sqrt(mean * (1 - mean) / (n - 1));  // of zeros and ones the sum of squares is n * mean * (1 - mean)
}

}  // namespace grist
