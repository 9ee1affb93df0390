// What guessing wins is measured against passes of as many sequences, where there are enough of them.
#include <grist/generate/pass_times.hpp>

#include <gtest/gtest.h>

namespace {

using grist::PassTimes;

TEST(PassTimes, CompareThePassesOfAsManySequences) {
  PassTimes times;
  for (int i = 0; i < 4; ++i) {
    times.add(1, false, 1, 0.010);
    times.add(8, false, 8, 0.030);
  }
  times.add(1, true, 3, 0.012);
  times.add(8, true, 16, 0.040);
  const auto compared = times.compared();
  EXPECT_DOUBLE_EQ(compared.with_guesses, 0.052);
  EXPECT_DOUBLE_EQ(compared.without, 0.030 + 0.060);
}

TEST(PassTimes, LeaveOutPassesWithoutFourOfTheirKind) {
  PassTimes times;
  for (int i = 0; i < 3; ++i) times.add(2, false, 2, 0.010);
  for (int i = 0; i < 9; ++i) times.add(2, true, 4, 0.010);
  EXPECT_EQ(times.compared().with_guesses, 0);
  EXPECT_EQ(times.compared().without, 0);
  times.add(2, false, 2, 0.010);
  EXPECT_DOUBLE_EQ(times.compared().without, 9 * 0.020);
}

/// Of a pass whose request was cancelled meanwhile comes a token less.
TEST(PassTimes, CountPassesAndNotTheirTokens) {
  PassTimes times;
  for (int i = 0; i < 4; ++i) times.add(2, false, i == 0 ? 1 : 2, 0.007);
  times.add(2, true, 4, 0.010);
  EXPECT_DOUBLE_EQ(times.compared().with_guesses, 0.010);
  EXPECT_DOUBLE_EQ(times.compared().without, 4 * 0.004);
}

TEST(PassTimes, AreNothingWithoutGuesses) {
  PassTimes times;
  for (int i = 0; i < 9; ++i) times.add(3, false, 3, 0.010);
  EXPECT_EQ(times.compared().with_guesses, 0);
}

}  // namespace
