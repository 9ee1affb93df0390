// Conversations: what was computed is not computed again, and never taken for what it is not.
#include "generate/scheduling.hpp"
#include "support/refuses.hpp"

#include <gmock/gmock.h>

namespace {

using namespace grist;
using namespace grist::test;

class Conversations : public Scheduling {
protected:
  static std::vector<int> joined(std::vector<int> ids, const std::vector<int>& more) {
    ids.insert(ids.end(), more.begin(), more.end());
    return ids;
  }
  /// A request of a conversation, to its end.
  Completion say(Scheduler& in, Conversation conversation, const std::vector<int>& prompt, int new_tokens = 6) {
    const int number = in.submit({.prompt = prompt, .max_new_tokens = new_tokens, .ignore_eos = true}, conversation);
    finish(in);
    return in.take(number);
  }
};

TEST_F(Conversations, WhatWasComputedIsNotComputedAgain) {
  auto one = scheduler();
  const auto talk = one.open_conversation();
  const auto first = say(one, talk, prompt_of(100));
  EXPECT_EQ(first.cached_tokens, 0);
  EXPECT_EQ(first.ids, expected({.prompt = prompt_of(100), .max_new_tokens = 6}));
  const auto history = joined(prompt_of(100), first.ids);
  model.passes.clear();
  const auto second = say(one, talk, joined(history, prompt_of(30, 2)));
  EXPECT_EQ(second.cached_tokens, 105) << "all but the last new token, which was never fed";
  EXPECT_EQ(model.passes[0], std::vector<int>{31});
  // A history that was changed is computed again from where it differs.
  auto changed = joined(history, prompt_of(30, 2));
  changed[3] = (changed[3] + 1) % 58;
  EXPECT_EQ(say(one, talk, changed).cached_tokens, 3);
}

TEST_F(Conversations, OneThatWasLeftEarlyLeavesNoStaleRows) {
  // A is cached, B shares a beginning with it and is left early, C follows A again.
  const auto a = prompt_of(150), shared = prompt_of(90);
  const auto b = joined(shared, prompt_of(70, 3)), c = joined(a, prompt_of(11, 4));
  for (const int steps : {0, 1, 3}) {
    auto one = scheduler();
    const auto talk = one.open_conversation();
    say(one, talk, a);
    const int left = one.submit({.prompt = b, .max_new_tokens = 20, .ignore_eos = true}, talk);
    for (int i = 0; i < steps; ++i) one.step();
    EXPECT_EQ(one.completion(left).cached_tokens, 90);
    one.cancel(left);
    const auto third = say(one, talk, c);
    EXPECT_EQ(third.cached_tokens, 90) << "what B overwrote is not taken for A's";
    EXPECT_EQ(third.ids, model.continuation(c, 6, nullptr, 90, {0, 150, false, 150})) << "after " << steps << " steps";
  }
}

TEST_F(Conversations, BitsDoNotDependOnPagePressure) {
  const auto turns = [&](Scheduler& in, bool pressed) {
    const auto talk = in.open_conversation();
    auto history = prompt_of(520);
    std::vector<std::vector<int>> answers;
    for (int turn = 0; turn < 3; ++turn) {
      if (pressed) {  // a request that wants all pages
        in.submit(greedy(16 * 64 - 10, 4, turn));
        finish(in);
      }
      const auto completion = say(in, talk, history, 20);
      EXPECT_EQ(completion.cached_tokens, pressed || turn == 0 ? 0 : static_cast<int>(history.size()) - 41);
      answers.push_back(completion.ids);
      history = joined(joined(history, answers.back()), prompt_of(40, turn));
    }
    return answers;
  };
  auto wide = scheduler(), tight = scheduler(16 * 64);
  EXPECT_EQ(turns(wide, false), turns(tight, true));
}

TEST_F(Conversations, TakeOneRequestAtATimeAndDoNotMix) {
  auto one = scheduler();
  const auto talk = one.open_conversation(), other = one.open_conversation();
  one.submit(greedy(100, 5), talk);
  EXPECT_THAT([&] { one.submit(greedy(100, 5), talk); }, Refuses<UsageError>({"one request at a time", "request 0"}));
  one.submit(greedy(100, 5, 1), other);
  finish(one);
  EXPECT_EQ(one.completion(0).ids, expected(greedy(100, 5)));
  EXPECT_EQ(one.completion(1).ids, expected(greedy(100, 5, 1)));
  EXPECT_EQ(say(one, other, prompt_of(100)).cached_tokens, 0);
}

TEST_F(Conversations, AClosedOneGivesItsPagesBack) {
  auto one = scheduler(4 * 64);
  const auto talk = one.open_conversation();
  say(one, talk, prompt_of(100));
  const int going = one.submit({.prompt = prompt_of(120), .max_new_tokens = 50}, talk);
  one.step();
  one.close_conversation(talk);
  EXPECT_EQ(one.completion(going).finish, Finish::cancelled);
  one.submit(greedy(4 * 64 - 9, 10));
  finish(one);
  EXPECT_EQ(one.completion(2).ids, expected(greedy(4 * 64 - 9, 10)));
}

}  // namespace
