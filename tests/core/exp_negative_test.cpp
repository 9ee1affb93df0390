// e^x for x <= 0 against the exponential in double precision.
#include <grist/core/exp_negative.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace {

using grist::exp_negative;

TEST(ExpNegative, IsExactToAUnitInTheLastPlace) {
  double worst = 0;
  for (float x = 0; x > -87.33F; x -= 0.000317F) {
    const double exact = std::exp(double{x});
    worst = std::max(worst, std::abs(exp_negative(x) - exact) / exact);
  }
  EXPECT_LE(worst, 0x1p-23);
}

TEST(ExpNegative, HasItsEnds) {
  EXPECT_EQ(exp_negative(0.0F), 1);
  EXPECT_EQ(exp_negative(-0.0F), 1);
  EXPECT_EQ(exp_negative(-1e-30F), 1);
  for (const float x : {-87.8F, -100.0F, -1e30F, -std::numeric_limits<float>::infinity()})
    EXPECT_EQ(exp_negative(x), 0) << x;
  EXPECT_TRUE(std::isnan(exp_negative(std::nanf(""))));
}

}  // namespace
