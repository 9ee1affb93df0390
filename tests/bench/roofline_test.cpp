// The least time of work, from given numbers.
#include <grist/bench/roofline.hpp>

#include <grist/core/errors.hpp>

#include <gtest/gtest.h>

#include <vector>

namespace {

using namespace grist;
using namespace grist::bench;

TEST(Roofline, IsTheLongerOfReadingAndMultiplying) {
  const Rates rates{.flops = 1e12, .bytes = 50e9};
  const Limit read = roofline({.flops = 2e9, .bytes = 2e9}, rates);
  EXPECT_DOUBLE_EQ(read.seconds, 0.04);
  EXPECT_EQ(read.name, "read");
  const Limit multiply = roofline({.flops = 2e11, .bytes = 2e9}, rates);
  EXPECT_DOUBLE_EQ(multiply.seconds, 0.2);
  EXPECT_EQ(multiply.name, "gemm");
}

TEST(Roofline, TurnsWhereIntensityIsTheRatioOfTheRates) {
  const Rates rates{.flops = 1e12, .bytes = 50e9};  // 20 FLOP a byte
  EXPECT_EQ(roofline({.flops = 19e9, .bytes = 1e9}, rates).name, "read");
  EXPECT_EQ(roofline({.flops = 21e9, .bytes = 1e9}, rates).name, "gemm");
}

TEST(Roofline, RefusesARateThatIsMissing) {
  EXPECT_THROW(roofline({.flops = 1, .bytes = 1}, {.flops = 0, .bytes = 1}), InternalError);
  EXPECT_DOUBLE_EQ(roofline({.flops = 0, .bytes = 4}, {.flops = 0, .bytes = 2}).seconds, 2);
}

TEST(MessageSeconds, CountWhatARankMustSend) {
  EXPECT_DOUBLE_EQ(message_seconds(Message::send, 100, 4, 1, 50), 1 + 2.0);
  EXPECT_DOUBLE_EQ(message_seconds(Message::all_gather, 100, 4, 1, 50), 1 + 1.5);
  EXPECT_DOUBLE_EQ(message_seconds(Message::all_reduce, 100, 4, 1, 50), 1 + 3.0);
}

TEST(Statistics, AreMeanBesselsDeviationAndMedian) {
  const auto [mean, deviation, median] = statistics(std::vector<double>{9, 4, 4, 7, 5, 5, 4, 2});
  EXPECT_DOUBLE_EQ(mean, 5);
  EXPECT_DOUBLE_EQ(deviation, std::sqrt(32.0 / 7));
  EXPECT_DOUBLE_EQ(median, 4.5);
  EXPECT_EQ(statistics(std::vector<double>{7, 1, 100}).median, 7);
  EXPECT_EQ(statistics(std::vector<double>{3}).deviation, 0);
  EXPECT_EQ(statistics(std::vector<double>{3}).median, 3);
}

}  // namespace
