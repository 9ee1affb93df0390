// The scheduler: what a request gives does not depend on what else is served, on when it comes, or on whether its pages
// were lost; and nobody waits for a long prompt.
#include "generate/scheduling.hpp"
#include "support/refuses.hpp"

#include <gmock/gmock.h>

#include <numeric>
#include <set>

namespace {

using namespace grist;
using namespace grist::test;

TEST_F(Scheduling, ABatchGivesEachRequestWhatItGivesAlone) {
  auto together = scheduler();
  for (const auto& request : many()) together.submit(request);
  finish(together);
  for (std::size_t i = 0; i < many().size(); ++i) {
    EXPECT_EQ(together.completion(static_cast<int>(i)).ids, expected(many()[i])) << "request " << i;
    EXPECT_EQ(together.completion(static_cast<int>(i)).finish, Finish::length);
  }
}

TEST_F(Scheduling, DrawsDependNeitherOnTheBatchNorOnTheOrder) {
  std::vector<Request> requests = many();
  for (auto& request : requests) request.sampling = {.temperature = 1, .top_k = 20, .top_p = 0.9F, .seed = 5};
  auto together = scheduler();
  for (auto request = requests.rbegin(); request != requests.rend(); ++request) together.submit(*request);
  finish(together);
  for (std::size_t i = 0; i < requests.size(); ++i)
    EXPECT_EQ(together.completion(static_cast<int>(requests.size() - 1 - i)).ids, alone(requests[i]).ids)
        << "request " << i;
}

TEST_F(Scheduling, CopiesOfAPromptDrawDifferently) {
  Request request = greedy(9, 12);
  request.sampling = {.temperature = 1};
  auto copy = request;
  copy.copy = 1;
  EXPECT_EQ(alone(request).ids, alone(request).ids);
  EXPECT_NE(alone(request).ids, alone(copy).ids);
}

TEST_F(Scheduling, ARequestThatComesLateGivesTheSame) {
  auto one = scheduler();
  one.submit(greedy(40, 30));
  for (int i = 0; i < 7; ++i) one.step();
  one.submit(greedy(700, 5, 1));
  one.step();
  one.submit(greedy(3, 9, 2));
  finish(one);
  EXPECT_EQ(one.completion(0).ids, expected(greedy(40, 30)));
  EXPECT_EQ(one.completion(1).ids, expected(greedy(700, 5, 1)));
  EXPECT_EQ(one.completion(2).ids, expected(greedy(3, 9, 2)));
}

/// A piece of a prompt leaves room for each of the 31 sequences that may decode beside it.
TEST_F(Scheduling, APassOf516TokensAnd32SequencesTakesFourShortPromptsAndALongOne) {
  auto sizes = limits(32);
  sizes.batch_tokens = 516;
  FakeModel wide(grid, sizes);
  Scheduler together(exec, wide, {});
  std::vector<Request> requests;
  for (int i = 0; i < 4; ++i) requests.push_back(greedy(3, 8, i));
  requests.push_back(greedy(512, 8, 4));
  for (const auto& request : requests) together.submit(request);
  finish(together);
  for (const auto& pass : wide.passes) EXPECT_LE(std::accumulate(pass.begin(), pass.end(), 0), 516);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    Scheduler alone(exec, wide, {});
    alone.submit(requests[i]);
    finish(alone);
    EXPECT_EQ(together.completion(static_cast<int>(i)).ids, alone.completion(0).ids) << "request " << i;
  }
}

TEST_F(Scheduling, ASequenceTakesPagesAsItGrows) {
  // Each may come to take 11 pages, all 33; they end early and take 2.
  auto one = scheduler(12 * 64);
  for (int i = 0; i < 3; ++i) {
    auto request = greedy(100, 600, i);
    request.ignore_eos = false;
    request.eos = {expected(request)[20]};
    one.submit(request);
  }
  one.step();
  EXPECT_EQ(model.passes[0], (std::vector<int>{100, 100, 100}))
      << "none waits for the pages that another may come to take";
  finish(one);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(one.completion(i).finish, Finish::stop);
    EXPECT_EQ(one.completion(i).suspensions, 0);
  }
}

TEST_F(Scheduling, WherePagesRunOutTheYoungestGivesWayAndIsComputedAgainToTheSameBits) {
  const std::vector<Request> requests{greedy(70, 150), greedy(515, 90, 1), greedy(3, 200, 2), greedy(130, 200, 3),
                                      greedy(600, 40, 4)};
  for (const auto& request : requests) EXPECT_EQ(alone(request).ids, expected(request));
  // Few pages for all keys, then few for those of the windowed layer.
  for (const auto& [pages, window_sequences] : {std::pair{10, 8}, {40, 1}}) {
    FakeModel scarce(grid, limits(4), window_sequences);
    Scheduler tight(exec, scarce, {.kv_tokens = Index{pages} * kv_page_rows});
    for (const auto& request : requests) tight.submit(request);
    finish(tight);
    int suspensions = 0;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ(tight.completion(static_cast<int>(i)).ids, expected(requests[i]))
          << "request " << i << " of " << pages << " pages";
      suspensions += tight.completion(static_cast<int>(i)).suspensions;
    }
    EXPECT_EQ(tight.completion(0).suspensions, 0) << "the oldest never gives way";
    EXPECT_GE(suspensions, pages == 10 ? 2 : 0);
    // Repeated pieces may end elsewhere; all logits that were computed undisturbed are there, bit for bit.
    for (const auto& [hash, row] : model.computed) {
      ASSERT_TRUE(scarce.computed.contains(hash));
      EXPECT_EQ(scarce.computed.at(hash), row);
    }
  }
}

TEST_F(Scheduling, APassKeepsTheModelsLimits) {
  auto one = scheduler(12 * 64);
  for (int i = 0; i < 9; ++i) one.submit(greedy(60 * i + 1, 20 + i, i));
  finish(one);
  std::size_t largest = 0;
  for (const auto& pass : model.passes) {
    EXPECT_LE(std::reduce(pass.begin(), pass.end()), model.limits().batch_tokens);
    largest = std::max(largest, pass.size());
  }
  EXPECT_EQ(largest, 4U);
}

TEST_F(Scheduling, ALongPromptBlocksNobody) {
  auto one = scheduler();
  one.submit(greedy(10, 40));
  one.step();
  one.submit(greedy(1900, 3, 1));  // four pieces
  one.step();
  const int brief = one.submit(greedy(20, 2, 2));
  for (int step = 0; step < 3; ++step) {
    bool decoded = false;
    for (const auto& event : one.step()) decoded = decoded || event.request == 0;
    EXPECT_TRUE(decoded) << "step " << step;
  }
  EXPECT_GE(one.completion(brief).ids.size(), 1U) << "a short prompt that comes later does not wait for the long one";
  EXPECT_EQ(one.completion(1).ids.size(), 0U);
  finish(one);
  EXPECT_EQ(one.completion(0).ids, expected(greedy(10, 40)));
  EXPECT_EQ(one.completion(1).ids, expected(greedy(1900, 3, 1)));
}

TEST_F(Scheduling, LongPromptsTakeTurns) {
  auto one = scheduler();
  for (int i = 0; i < 3; ++i) one.submit(greedy(1500, 1, i));  // three pieces each
  std::vector<std::vector<int>> steps;
  for (int step = 0; step < 9; ++step) {
    steps.emplace_back();
    for (const auto& event : one.step()) steps.back().push_back(event.request);
  }
  EXPECT_TRUE(one.idle());
  EXPECT_THAT(steps, testing::ElementsAre(testing::IsEmpty(), testing::IsEmpty(), testing::IsEmpty(),
                                          testing::IsEmpty(), testing::IsEmpty(), testing::IsEmpty(),
                                          testing::ElementsAre(0), testing::ElementsAre(1), testing::ElementsAre(2)));
}

TEST_F(Scheduling, ACancelledRequestGivesItsPagesToOthers) {
  auto one = scheduler(20 * 64);
  const int first = one.submit(greedy(1000, 200)), waiting = one.submit(greedy(600, 100, 1)),
            last = one.submit(greedy(900, 5, 2));
  for (int i = 0; i < 6; ++i) one.step();
  EXPECT_GT(one.completion(first).ids.size(), 0U);
  one.cancel(first);
  one.cancel(waiting);
  one.cancel(first);
  EXPECT_EQ(one.completion(first).finish, Finish::cancelled);
  EXPECT_EQ(one.completion(waiting).finish, Finish::cancelled);
  for (const auto& event : finish(one)) EXPECT_EQ(event.request, last);
  EXPECT_EQ(one.completion(last).ids, expected(greedy(900, 5, 2)));
  EXPECT_EQ(one.completion(last).suspensions, 0);
  const int largest = one.submit(greedy(20 * 64 - 8, 9));  // every page there is
  finish(one);
  EXPECT_EQ(one.take(largest).ids, expected(greedy(20 * 64 - 8, 9)));
  EXPECT_THROW(one.take(largest), UsageError);
}

TEST_F(Scheduling, TwoSchedulersOfOneModelDoNotDisturbEachOther) {
  auto one = scheduler(), other = scheduler(12 * 64);
  for (int i = 0; i < 4; ++i) {
    one.submit(greedy(200 * i + 3, 20, i));
    other.submit(greedy(150 * i + 9, 25, i + 1));
  }
  while (!one.idle() || !other.idle()) {
    one.step();
    other.step();
  }
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(one.completion(i).ids, expected(greedy(200 * i + 3, 20, i)));
    EXPECT_EQ(other.completion(i).ids, expected(greedy(150 * i + 9, 25, i + 1)));
  }
}

TEST_F(Scheduling, AnyOrderOfRequestsAndCancellationsInAnyCacheGivesTheSame) {
  std::uint32_t state = 1;
  const auto draw = [&](int below) {  // the same on all ranks
    state = philox({{state, 0, 0, 0}}, 3).word[0];
    return static_cast<int>(state % static_cast<std::uint32_t>(below));
  };
  int suspensions = 0;
  for (int round = 0; round < 30; ++round) {
    model.same_beginnings = round >= 20;  // then prompts of one kind share pages
    const int kinds = model.same_beginnings ? 3 : 50, pages = 4 + draw(14);
    auto one = scheduler(Index{pages} * kv_page_rows);
    std::vector<Request> requests;
    std::set<int> cancelled;
    while (requests.size() < 12 || !one.idle()) {
      if (requests.size() < 12 && draw(3) == 0) {
        const int new_tokens = 1 + draw(90), longest = std::min(600, pages * kv_page_rows - new_tokens);
        requests.push_back(greedy(1 + draw(longest), new_tokens, draw(kinds)));
        one.submit(requests.back());
      }
      if (!requests.empty() && draw(40) == 0) {
        const int request = draw(static_cast<int>(requests.size()));
        one.cancel(request);
        if (one.completion(request).finish == Finish::cancelled) cancelled.insert(request);
      }
      one.step();
    }
    for (int i = 0; i < 12; ++i) {
      auto ids = expected(requests[static_cast<std::size_t>(i)]);
      if (cancelled.contains(i)) ids.resize(one.completion(i).ids.size());
      EXPECT_EQ(one.completion(i).ids, ids) << "request " << i << " of round " << round;
      suspensions += one.completion(i).suspensions;
    }
    one.submit(greedy(pages * kv_page_rows - 1, 2));  // all pages came back
    finish(one);
    EXPECT_EQ(one.completion(12).suspensions, 0);
  }
  EXPECT_GT(suspensions, 40);
}

}  // namespace
