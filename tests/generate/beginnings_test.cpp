// Prompts that begin alike: the beginning is computed once, whether the one who computed it is at work or has ended;
// its pages cost nobody a place, and every answer is the one that comes alone.
#include "generate/scheduling.hpp"

#include <gmock/gmock.h>

#include <numeric>

namespace {

using namespace grist;
using namespace grist::test;

class Beginnings : public Scheduling {
protected:
  Beginnings() { model.same_beginnings = true; }
  /// `length` tokens, of which those behind `common` are the number's own.
  static Request begins(int length, int common, int number, int new_tokens = 4) {
    auto request = greedy(length, new_tokens);
    for (int at = common; at < length; ++at)
      request.prompt[static_cast<std::size_t>(at)] = (at * (number + 2) + 5 * number + 1) % 58;
    request.prompt[static_cast<std::size_t>(common)] = number % 58;
    return request;
  }
  [[nodiscard]] int computed() const {
    int tokens = 0;
    for (const auto& pass : model.passes) tokens += std::reduce(pass.begin(), pass.end());
    return tokens;
  }
  static int cached(const Scheduler& scheduler, int requests) {
    int tokens = 0;
    for (int i = 0; i < requests; ++i) tokens += scheduler.completion(i).cached_tokens;
    return tokens;
  }
};

TEST_F(Beginnings, AreComputedOnce) {
  auto one = scheduler();
  std::vector<Request> requests;
  for (int i = 0; i < 4; ++i) {
    auto request = greedy(700, 5);
    for (int at = 600 + i; at < 700; ++at) request.prompt[static_cast<std::size_t>(at)] = (at + i) % 58;
    requests.push_back(request);
    one.submit(request);
  }
  finish(one);
  EXPECT_EQ(computed(), 700 + 3 * (700 - 576) + 4 * 4) << "nine pages of 64 once, the rest by each, and the new tokens";
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(one.completion(i).ids, expected(requests[static_cast<std::size_t>(i)]));
    EXPECT_EQ(one.completion(i).cached_tokens, i == 0 ? 0 : 576);
  }
}

TEST_F(Beginnings, OutliveTheOneWhoComputedThem) {
  auto one = scheduler();
  const int first = one.submit(greedy(300, 3));
  one.step();
  const int second = one.submit(greedy(300, 60));
  one.step();
  EXPECT_EQ(one.completion(second).cached_tokens, 256);
  one.cancel(first);
  const int third = one.submit(greedy(290, 60));
  finish(one);
  EXPECT_EQ(one.completion(third).cached_tokens, 256);
  EXPECT_EQ(one.completion(second).ids, expected(greedy(300, 60)));
  EXPECT_EQ(one.completion(third).ids, expected(greedy(290, 60)));
}

/// Four places; between those that begin alike come others, while which none of them runs.
TEST_F(Beginnings, AreComputedOnceByMorePromptsThanAreServedAtATime) {
  auto one = scheduler();
  std::vector<Request> requests;
  int own = 0;
  for (int i = 0; i < 24; ++i) {
    const bool alike = i / 4 % 2 == 0;
    requests.push_back(alike ? begins(140 + 13 * ((i * 7) % 20), 128, i, 3) : greedy(150 + i, 3, i));
    own += static_cast<int>(requests.back().prompt.size()) - (alike ? 128 : 0) + 2;
    one.submit(requests.back());
  }
  finish(one);
  EXPECT_EQ(computed(), 128 + own);
  for (int i = 0; i < 24; ++i)
    EXPECT_EQ(one.completion(i).ids, expected(requests[static_cast<std::size_t>(i)])) << "request " << i;
}

TEST_F(Beginnings, StayForARequestThatComesWhenNoneIsLeft) {
  auto one = scheduler();
  one.submit(begins(200, 128, 0));
  finish(one);
  ASSERT_TRUE(one.idle());
  const int later = one.submit(begins(300, 150, 1));
  const int other = one.submit(greedy(300, 4, 3));
  finish(one);
  EXPECT_EQ(one.completion(later).cached_tokens, 128);
  EXPECT_EQ(one.completion(other).cached_tokens, 0);
  EXPECT_EQ(one.completion(later).ids, expected(begins(300, 150, 1)));
  EXPECT_EQ(one.completion(other).ids, expected(greedy(300, 4, 3)));
}

TEST_F(Beginnings, GiveTheirPagesToWhomeverWantsThem) {
  constexpr int pages = 14;
  auto one = scheduler(Index{pages} * kv_page_rows);
  for (int i = 0; i < 4; ++i) one.submit(greedy(190, 3, i));  // two pages of each stay
  finish(one);
  const int again = one.submit(begins(190, 130, 7));
  finish(one);
  EXPECT_EQ(one.completion(again).cached_tokens, 128) << "those of the first kind";
  const auto large = greedy(pages * kv_page_rows - 8, 9, 5);  // every page there is
  const int whole = one.submit(large);
  finish(one);
  EXPECT_EQ(one.completion(whole).ids, expected(large));
  EXPECT_EQ(one.completion(whole).suspensions, 0);
  const int anew = one.submit(begins(190, 130, 8));
  finish(one);
  EXPECT_EQ(one.completion(anew).cached_tokens, 0);
  EXPECT_EQ(one.completion(anew).ids, expected(begins(190, 130, 8)));
}

/// The second waits for eight pages of the first: it wants none of its own meanwhile.
TEST_F(Beginnings, ThatOneWaitsForLeaveOthersWhereTheyAre) {
  auto one = scheduler(16 * kv_page_rows);
  one.submit(greedy(190, 3, 3));  // two pages of it stay
  finish(one);
  const std::vector<Request> alike{begins(600, 560, 0), begins(600, 560, 1)};
  for (const auto& request : alike) one.submit(request);
  finish(one);
  for (const int i : {0, 1}) EXPECT_EQ(one.completion(1 + i).ids, expected(alike[static_cast<std::size_t>(i)]));
  EXPECT_EQ(one.completion(2).cached_tokens, 512);
  const int again = one.submit(greedy(180, 3, 3));
  finish(one);
  EXPECT_EQ(one.completion(again).cached_tokens, 128);
}

TEST_F(Beginnings, CostNoRunningSequenceAPage) {
  const auto suspensions = [&](bool share) {
    model.same_beginnings = share;
    auto tight = scheduler(12 * kv_page_rows);
    int count = 0;
    for (int i = 0; i < 3; ++i) tight.submit(greedy(130, 3, 10 + i));
    finish(tight);
    for (int i = 0; i < 4; ++i) tight.submit(greedy(100, 80, i));  // three pages of each: all
    finish(tight);
    for (int i = 0; i < 7; ++i) count += tight.completion(i).suspensions;
    for (int i = 0; i < 4; ++i) EXPECT_EQ(tight.completion(3 + i).ids, expected(greedy(100, 80, i)));
    return count;
  };
  EXPECT_EQ(suspensions(false), 0);
  EXPECT_EQ(suspensions(true), 0);
}

/// A window of 100 keys leaves pages behind; what was kept piece by piece still has them.
TEST_F(Beginnings, LongerThanAWindowAreTakenOverAtAnyLength) {
  auto one = scheduler();
  for (const int common : {1000, 100, 700, 515, 64, 900, 300}) {
    const auto request = begins(1200, common, common);
    const int number = one.submit(request);
    finish(one);
    EXPECT_EQ(one.completion(number).cached_tokens, number == 0 ? 0 : common / kv_page_rows * kv_page_rows);
    EXPECT_EQ(one.completion(number).ids, expected(request)) << common;
  }
}

TEST_F(Beginnings, AreTakenOverAgainByASequenceThatLostItsPages) {
  auto tight = scheduler(10 * kv_page_rows);
  std::vector<Request> requests;
  for (int i = 0; i < 6; ++i) requests.push_back(begins(140 + i, 128, i, 150 + i));
  for (const auto& request : requests) tight.submit(request);
  finish(tight);
  int suspensions = 0;
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(tight.completion(i).ids, expected(requests[static_cast<std::size_t>(i)])) << "request " << i;
    suspensions += tight.completion(i).suspensions;
  }
  EXPECT_GT(suspensions, 0);
  EXPECT_EQ(cached(tight, 6), 5 * 128);
}

}  // namespace
