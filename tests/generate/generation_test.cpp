// Generation: a batch as a range of events, and the sizes that serve it.
#include "generate/scheduling.hpp"

#include <grist/generate/generation.hpp>

namespace {

using namespace grist;
using namespace grist::test;

class Generating : public Scheduling {};

TEST_F(Generating, IteratorAndCallbackGiveTheSameEvents) {
  std::vector<TokenEvent> called, iterated;
  Generation first(exec, model, {}, many());
  first.run([&](const TokenEvent& event) { called.push_back(event); });
  Generation second(exec, model, {}, many());
  for (const TokenEvent& event : second) iterated.push_back(event);
  ASSERT_EQ(called.size(), iterated.size());
  for (std::size_t i = 0; i < called.size(); ++i) {
    EXPECT_EQ(called[i].request, iterated[i].request);
    EXPECT_EQ(called[i].id, iterated[i].id);
  }
  for (std::size_t i = 0; i < many().size(); ++i)
    EXPECT_EQ(second.completion(static_cast<int>(i)).ids, expected(many()[i]));
}

TEST_F(Generating, ALoopThatIsLeftEarlyGoesOnLater) {
  Generation generation(exec, model, {}, {greedy(20, 10), greedy(40, 10, 1)});
  int seen = 0;
  for (const TokenEvent& event : generation)
    if (++seen == 7 && event.id >= 0) break;
  EXPECT_LT(generation.completion(0).ids.size(), 10U);
  generation.cancel(1);
  generation.run();
  EXPECT_EQ(generation.completion(0).ids, expected(greedy(20, 10)));
  EXPECT_EQ(generation.completion(1).finish, Finish::cancelled);
}

TEST_F(Generating, EqualPromptsDrawDifferently) {
  auto request = greedy(20, 10);
  request.sampling = {.temperature = 1};
  Generation generation(exec, model, {}, {request, request});
  generation.run();
  EXPECT_NE(generation.completion(0).ids, generation.completion(1).ids);
  EXPECT_EQ(generation.completion(0).ids, alone(request).ids);
}

TEST_F(Generating, LimitsAreEnoughForTheLongestThatAreServedAtATime) {
  const std::vector<Request> requests{greedy(10, 20), greedy(700, 30), greedy(100, 5), greedy(50, 100000)};
  const auto all = limits_for(requests, context);
  EXPECT_EQ(all.batch_sequences, 4);
  EXPECT_EQ(all.batch_tokens, 512 + 3);
  EXPECT_EQ(all.kv_tokens, 30 + 730 + 105 + context);
  EXPECT_EQ(limits_for(requests, context, 2).kv_tokens, 730 + context);
  EXPECT_EQ(limits_for(requests, context, 32, 2500).kv_tokens, 2500) << "memory has no room for more";
  EXPECT_EQ(limits_for(requests, context, 32, 500).kv_tokens, context) << "the longest one must fit";
  EXPECT_EQ(limits_for({}, context).batch_sequences, 1);
  const std::vector<Request> brief{greedy(5), greedy(9)};
  EXPECT_EQ(limits_for(brief, context).batch_tokens, 16) << "short prompts take no scratch for long ones";
  FakeModel small(grid, limits_for(brief, context));
  Generation generation(exec, small, {}, brief);
  generation.run();
  for (int i = 0; i < 2; ++i) EXPECT_EQ(generation.completion(i).ids, expected(brief[static_cast<std::size_t>(i)]));
}

}  // namespace
