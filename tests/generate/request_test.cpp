// How a request ends, what it is refused for, and what is told of it.
#include "generate/scheduling.hpp"
#include "support/refuses.hpp"

#include <gmock/gmock.h>

namespace {

using namespace grist;
using namespace grist::test;

TEST_F(Scheduling, TheModelsOwnEndTokensEndARequestThatNamesNone) {
  auto request = greedy(20, 40);
  const auto whole = expected(request);
  const auto until = [&](int id) { return std::vector<int>(whole.begin(), std::ranges::find(whole, id) + 1); };
  const int end = whole[11], other = whole[3];
  FakeModel ending(grid, limits(4), 8, {end});
  Scheduler one(exec, ending, {.kv_tokens = context});
  const int ignoring = one.submit(request);
  request.ignore_eos = false;
  const int silent = one.submit(request);
  request.eos = {other};
  const int named = one.submit(request);
  finish(one);
  EXPECT_EQ(one.completion(ignoring).ids, whole);
  EXPECT_EQ(one.completion(silent).ids, until(end));
  EXPECT_EQ(one.completion(silent).finish, Finish::stop);
  EXPECT_EQ(one.completion(named).ids, until(other));
}

TEST_F(Scheduling, TheTokenizersEndTokensJoinTheModels) {
  FakeTokenizer tokenizer;
  auto request = greedy(20, 40);
  const auto whole = expected(request);
  tokenizer.eos = {whole[7]};
  request.ignore_eos = false;
  Scheduler one(exec, model, {.kv_tokens = context, .tokenizer = &tokenizer});
  one.submit(request);
  finish(one);
  const auto end = std::ranges::find(whole, whole[7]);
  EXPECT_EQ(one.completion(0).ids, std::vector<int>(whole.begin(), end + 1));
  EXPECT_EQ(one.completion(0).text, tokenizer.decode(std::vector<int>(whole.begin(), end), true))
      << "an end token is no text";
}

TEST_F(Scheduling, AStopStringEndsAndIsCutOff) {
  const FakeTokenizer tokenizer;
  auto request = greedy(30, 40);
  const auto text = tokenizer.decode(expected(request), true);
  request.stop = {text.substr(text.size() / 2, 3)};
  Scheduler one(exec, model, {.kv_tokens = context, .tokenizer = &tokenizer});
  one.submit(request);
  std::string streamed;
  for (const auto& event : finish(one)) streamed += event.text;
  EXPECT_EQ(one.completion(0).finish, Finish::stop);
  EXPECT_EQ(one.completion(0).text, text.substr(0, text.find(request.stop[0])));
  EXPECT_EQ(streamed, one.completion(0).text);
}

TEST_F(Scheduling, ASpecialTokensTextIsFoundByAStopStringAndNotShown) {
  const FakeTokenizer tokenizer;
  // A prompt whose continuation has a special token that is not its first token.
  auto request = greedy(1, 60);
  std::vector<int> whole;
  for (int kind = 0; kind < 58; ++kind) {
    request.prompt = {kind};
    whole = expected(request);
    if (std::ranges::any_of(whole.begin() + 2, whole.end(), [&](int id) { return tokenizer.is_special(id); })) break;
  }
  const auto special =
      std::ranges::find_if(whole.begin() + 2, whole.end(), [&](int id) { return tokenizer.is_special(id); });
  ASSERT_NE(special, whole.end());
  request.stop = {"<|" + std::to_string(*special) + "|>"};
  Scheduler one(exec, model, {.kv_tokens = context, .tokenizer = &tokenizer});
  one.submit(request);
  request.stop = {"<|nothing|>"};
  one.submit(request);
  finish(one);
  const auto first = std::ranges::find(whole, *special);
  EXPECT_EQ(one.completion(0).finish, Finish::stop);
  EXPECT_EQ(one.completion(0).ids, std::vector<int>(whole.begin(), first + 1));
  EXPECT_EQ(one.completion(0).text, tokenizer.decode(std::vector<int>(whole.begin(), first), true));
  EXPECT_EQ(one.completion(1).text, tokenizer.decode(whole, true));
}

TEST_F(Scheduling, TimesAreCountedFromWhereARequestBegins) {
  const FakeModel narrow(grid, limits(1));
  Scheduler one(exec, const_cast<FakeModel&>(narrow), {.kv_tokens = context});
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 3; ++i) one.submit(greedy(300, 30, i));
  finish(one);
  const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  double before = 0;
  for (int i = 0; i < 3; ++i) {
    const auto& completion = one.completion(i);
    EXPECT_GE(completion.waiting_seconds, 0.99 * before) << "it waited for those before it";
    EXPECT_LE(completion.waiting_seconds + completion.prefill_seconds + completion.decode_seconds, wall);
    before += completion.prefill_seconds + completion.decode_seconds;
  }
  EXPECT_LE(before, wall) << "none counts another's time";
}

TEST_F(Scheduling, ABrokenLogitEndsItsRequestAloneAndIsNamedOnEveryRank) {
  auto one = scheduler();
  for (int i = 0; i < 3; ++i) one.submit(greedy(50 + i, 10, i));
  model.broken_token = 40;
  std::vector<std::uint64_t> hashes;
  (void)model.continuation(greedy(51, 10, 1).prompt, 4, &hashes);
  model.broken_hash = hashes[3];  // what request 1's fourth token comes of
  EXPECT_THAT([&] { finish(one); }, Refuses<NumericalError>({"request 1", "token 40 is nan"}));
  finish(one);
  EXPECT_EQ(one.completion(1).finish, Finish::cancelled);
  EXPECT_EQ(one.completion(1).ids.size(), 3U);
  EXPECT_EQ(one.completion(0).ids, expected(greedy(50, 10, 0)));
  EXPECT_EQ(one.completion(2).ids, expected(greedy(52, 10, 2)));
}

TEST_F(Scheduling, RefusesAtSubmitWhatCanNeverBeServed) {
  auto one = scheduler(10 * 64);
  const auto submitting = [&](Request request) { return [&one, request] { one.submit(request); }; };
  EXPECT_THAT(submitting(greedy(0)), Refuses({"prompt 0 has no tokens"}));
  EXPECT_THAT(submitting({.prompt = {1, 61}}), Refuses({"token id 61 is out of range, the vocabulary has 61"}));
  EXPECT_THAT(submitting({.prompt = {-1}}), Refuses({"token id -1"}));
  EXPECT_THAT(submitting(greedy(context)), Refuses({"prompt 0 has 2000 tokens, the context is 2000"}));
  EXPECT_THAT(submitting(greedy(600, 50)), Refuses<UsageError>({"600 tokens", "50 new ones", "649", "which has 640"}));
  EXPECT_THAT(submitting(greedy(5, 0)), Refuses<UsageError>({"--max-new-tokens is 0"}));
  auto request = greedy(5);
  request.sampling.top_p = 1.5F;
  EXPECT_THAT(submitting(request), Refuses<UsageError>({"--top-p is 1.5"}));
  request = greedy(5);
  request.stop = {"x"};
  EXPECT_THAT(submitting(request), Refuses<UsageError>({"stop strings need a tokenizer"}));
  EXPECT_TRUE(one.idle());
  EXPECT_EQ(one.submit(greedy(600, 41)), 0) << "a request that was refused is not counted";
  finish(one);
  EXPECT_EQ(one.completion(0).ids, expected(greedy(600, 41)));
}

TEST_F(Scheduling, RefusesAModelThatServesNoSequence) {
  FakeModel narrow(
      grid, {.batch_tokens = 3, .batch_sequences = 4, .logit_rows = 4, .context = context, .kv_tokens = context});
  EXPECT_THAT([&] { Scheduler(exec, narrow, {.kv_tokens = 64}); },
              Refuses<UsageError>({"a pass of 3 tokens, 4 sequences"}));
  EXPECT_THAT([&] { Scheduler(exec, model, {.kv_tokens = 8 * context + 1}); },
              Refuses<UsageError>({"a KV cache of 16001 tokens is asked for, the model was planned for 1 to 16000"}));
}

TEST_F(Scheduling, TheContextEndsARequest) {
  const auto completion = alone(greedy(context - 5, 100000));
  EXPECT_EQ(completion.ids, model.continuation(prompt_of(context - 5), 5));
  EXPECT_EQ(completion.finish, Finish::length);
}

}  // namespace
