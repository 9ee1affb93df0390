// What is told of a long run: the rate and the time left count tokens as they come, not what has ended.
#include "work_progress.hpp"

#include <gtest/gtest.h>

namespace {

using grist::cli::WorkProgress;
using std::chrono::milliseconds;
using std::chrono::seconds;

const WorkProgress::Clock::time_point start{};

/// Three prompts of 100 tokens, which may bring 900, 500 and 100 new ones.
WorkProgress three_prompts() { return {{"answered", "prompts"}, 3, 1800, seconds(60), start}; }

TEST(WorkProgress, KnowsNoTimeBeforeThereIsAToken) {
  EXPECT_EQ(three_prompts().line(start + seconds(5)), "0 of 3 prompts answered, 0 tok/s");
}

TEST(WorkProgress, CountsTokensOfWhatHasNotEnded) {
  auto progress = three_prompts();
  progress.add({.worked_on = 200, .told = 100});
  progress.add({.worked_on = 100, .told = 100});
  // 1500 of 1800 are left, at 30 a second.
  EXPECT_EQ(progress.line(start + seconds(10)), "0 of 3 prompts answered, 20 tok/s, 0:00:50 left");
  EXPECT_EQ(progress.pace(start + seconds(1000)), "0 tok/s, 1:23:20 left");
}

/// The longest has ended: of three, one. By prompts two thirds of the time would be left.
TEST(WorkProgress, TellsTheTimeLeftByTokensWhereTheLongestGoFirst) {
  auto progress = three_prompts();
  progress.add({.worked_on = 1000, .told = 900});
  progress.finish(1000, 1000);
  EXPECT_EQ(progress.line(start + seconds(10)), "1 of 3 prompts answered, 90 tok/s, 0:00:08 left");
}

/// It might have taken 1000 and took 250: of the other 800 a fourth is expected, of which 50 are there.
TEST(WorkProgress, ExpectsAsMuchOfTheirBoundsOfTheOthers) {
  auto progress = three_prompts();
  progress.add({.worked_on = 300, .told = 200});
  progress.finish(1000, 250);
  EXPECT_EQ(progress.expected(), 450);
  EXPECT_EQ(progress.pace(start + seconds(10)), "20 tok/s, 0:00:05 left");
  progress.add({.worked_on = 200, .told = 200});
  EXPECT_EQ(progress.expected(), 500) << "what is there was needed";
}

TEST(WorkProgress, IsDueOnceAPeriod) {
  auto progress = three_prompts();
  EXPECT_FALSE(progress.due(start + seconds(59)));
  EXPECT_TRUE(progress.due(start + seconds(61)));
  EXPECT_FALSE(progress.due(start + seconds(62)));
  EXPECT_FALSE(progress.due(start + seconds(61) + milliseconds(59999)));
  EXPECT_TRUE(progress.due(start + seconds(121)));
}

TEST(WorkProgress, EndsWithASum) {
  auto progress = three_prompts();
  progress.add({.worked_on = 900, .told = 600});
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(progress.all_done());
    progress.finish(600, 300);
  }
  EXPECT_TRUE(progress.all_done());
  EXPECT_EQ(progress.sum(start + seconds(4)), "3 prompts answered, 600 tokens, 150 tok/s");
  EXPECT_EQ(progress.pace(start + seconds(4)), "150 tok/s, 0:00:00 left");
}

}  // namespace
