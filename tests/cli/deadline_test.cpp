// When a job stops so that it can still be saved.
#include "deadline.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>
#include <string>

namespace {

using grist::cli::Deadline;
using Clock = Deadline::Clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

const Clock::time_point zero{};

TEST(Deadline, IsNeverReachedWithoutAnEnd) {
  Deadline deadline({}, 1e9);
  deadline.stepped(1e9);
  EXPECT_FALSE(deadline.reached(zero));
}

TEST(Deadline, LeavesBeforeTheFirstStepTwiceWhatAFirstSaveMayTake) {
  const Deadline deadline(zero + seconds(100), 20);
  EXPECT_FALSE(deadline.reached(zero + seconds(57)));
  EXPECT_TRUE(deadline.reached(zero + seconds(58))) << "and three seconds to end";
}

TEST(Deadline, LearnsFromTheLastSave) {
  Deadline deadline(zero + seconds(100), 20);
  deadline.saved(1);
  EXPECT_FALSE(deadline.reached(zero + seconds(95)));
  EXPECT_TRUE(deadline.reached(zero + milliseconds(95100)));
  deadline.saved(40);
  EXPECT_TRUE(deadline.reached(zero + seconds(18)));
}

/// With saves of a second, a margin of saves alone would begin a step of 30 seconds at second 94.
TEST(Deadline, LeavesTheTimeOfAStepThatIsLongerThanASave) {
  Deadline deadline(zero + seconds(100), 1);
  deadline.stepped(30);
  const auto last_begin = zero + seconds(57);
  EXPECT_FALSE(deadline.reached(last_begin));
  EXPECT_TRUE(deadline.reached(zero + seconds(58)));
  EXPECT_LT(last_begin + seconds(30 + 2 * 1), zero + seconds(100)) << "step and save end in time";
}

TEST(Deadline, CountsOnTheLongestStepOfLate) {
  Deadline deadline(zero + seconds(100), 0);
  deadline.stepped(40);  // with an evaluation
  deadline.stepped(8);
  EXPECT_TRUE(deadline.reached(zero + seconds(60))) << "the next one may evaluate too";
  for (int i = 0; i < 20; ++i) deadline.stepped(8);
  EXPECT_FALSE(deadline.reached(zero + seconds(60)));
}

TEST(Deadline, OfARunThatSavesNothingIsTheLastStep) {
  Deadline deadline(zero + seconds(100), 0);
  EXPECT_FALSE(deadline.reached(zero + seconds(97)));
  deadline.stepped(4);
  EXPECT_TRUE(deadline.reached(zero + seconds(93)));
}

TEST(Deadline, GuessesTheFirstSaveByItsSize) {
  const auto guess = [](double bytes, int nodes, int left) {
    return grist::cli::first_save_seconds(bytes, nodes, zero + seconds(left), zero);
  };
  EXPECT_DOUBLE_EQ(grist::cli::first_save_seconds(12e9, 1, {}, zero), 121);
  EXPECT_DOUBLE_EQ(guess(0, 1, 86400), 1);
  EXPECT_DOUBLE_EQ(guess(12e9, 4, 86400), 31);
  EXPECT_DOUBLE_EQ(guess(5e12, 4, 3600), 360) << "a job trains for most of its time";
  EXPECT_DOUBLE_EQ(guess(0, 1, -5), 0);
}

TEST(EndOfJob, IsTheEarlierOfWallTimeAndSlurmsEnd) {
  unsetenv("SLURM_JOB_END_TIME");
  EXPECT_FALSE(grist::cli::end_of_job({}, zero));
  EXPECT_EQ(grist::cli::end_of_job(seconds(60), zero), zero + seconds(60)) << "from the begin of the program on";
  setenv("SLURM_JOB_END_TIME", std::to_string(std::time(nullptr) + 100).c_str(), 1);
  const auto now = Clock::now();
  const auto told = grist::cli::end_of_job({}, now);
  ASSERT_TRUE(told);
  EXPECT_NEAR(std::chrono::duration<double>(*told - now).count(), 100, 2);
  EXPECT_EQ(grist::cli::end_of_job(seconds(60), now), now + seconds(60));
  EXPECT_LT(*grist::cli::end_of_job(seconds(200), now), now + seconds(150));
  unsetenv("SLURM_JOB_END_TIME");
}

}  // namespace
