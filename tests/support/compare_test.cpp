// The comparator can fail: each trap that lets a wrong result pass is tried here.
#include <support/compare.hpp>

#include <gtest/gtest.h>
#include <gtest/gtest-spi.h>

#include <limits>
#include <vector>

using grist::test::compare;

namespace {

const std::vector<float> expected{-3.F, -1.F, 0.F, 2.F};

TEST(Compare, EqualValuesDifferByNothing) { EXPECT_EQ(compare(expected, expected).worst, 0); }

TEST(Compare, OneWrongElementIsFoundWhereverItIs) {
  for (std::size_t i = 0; i < expected.size(); ++i) {
    auto actual = expected;
    actual[i] -= 0.5F;
    EXPECT_EQ(compare(actual, expected).worst, 0.5);
    EXPECT_EQ(compare(actual, expected).index, i);
  }
}

TEST(Compare, NanAndInfinityAreInfinitelyWrongOnEitherSide) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    auto actual = expected;
    actual[2] = bad;
    EXPECT_EQ(compare(actual, expected).worst, std::numeric_limits<double>::infinity());
    EXPECT_EQ(compare(expected, actual).worst, std::numeric_limits<double>::infinity());
    EXPECT_EQ(compare(actual, actual).worst, std::numeric_limits<double>::infinity());
  }
}

TEST(Compare, AnotherSizeIsInfinitelyWrong) {
  const std::vector<float> shorter{-3.F, -1.F};
  EXPECT_EQ(compare(shorter, expected).worst, std::numeric_limits<double>::infinity());
  EXPECT_EQ(compare(std::vector<float>{}, std::vector<float>{}).worst, std::numeric_limits<double>::infinity());
}

TEST(Compare, WrongNegativesDoNotPass) {
  const std::vector<float> actual{-300.F, -100.F, -1.F, -2.F};
  EXPECT_EQ(compare(actual, expected).worst, 297);
}

TEST(Compare, TheMacroFailsBeyondTheToleranceAndOnNan) {
  static auto actual = expected;
  actual[1] += 0.006F;  // range 5, so 0.0012 of it
  EXPECT_CLOSE(actual, expected, 2e-3);
  EXPECT_NONFATAL_FAILURE(EXPECT_CLOSE(actual, expected, 1e-3), "differs by");
  actual[0] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_NONFATAL_FAILURE(EXPECT_CLOSE(actual, expected, 1e30), "differs by inf");
}

}  // namespace
