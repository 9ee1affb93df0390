// The vector arithmetic for hosts.
#include <grist/backends/cpu/lanes-inl.hpp>

#include <support/views.hpp>

#include <array>

namespace {

using namespace grist;
using namespace grist::cpu::HWY_NAMESPACE;

std::array<float, lane_count> values_of(Lanes lanes) {
  std::array<float, lane_count> values;
  store(values.data(), lanes);
  return values;
}

/// e^x of every lane.
float exp_of(float x) {
  const auto values = values_of(exp_negative(broadcast(x)));
  for (const float value : values) EXPECT_EQ(value, values[0]);
  return values[0];
}

TEST(ExpNegative, IsTheExponentialToTwoUnitsInTheLastPlace) {
  double worst = 0;
  for (int i = 0; i <= 87 * 4096; ++i) {
    const float x = -static_cast<float>(i) / 4096;
    const double expected = std::exp(double{x});
    const double unit = std::ldexp(1.0, std::ilogb(expected) - 23);
    worst = std::max(worst, std::abs(exp_of(x) - expected) / unit);
  }
  EXPECT_LE(worst, 2);
}

TEST(ExpNegative, OfZeroIsOneAndOfMuchIsNothing) {
  EXPECT_EQ(exp_of(0.0F), 1.0F);
  EXPECT_EQ(exp_of(-0.0F), 1.0F);
  const float infinite = std::numeric_limits<float>::infinity();
  for (const float x : {-87.01F, -1e10F, -1e30F, -infinite}) EXPECT_EQ(exp_of(x), 0.0F) << x;
}

TEST(ExpNegative, OfNanIsNan) { EXPECT_TRUE(std::isnan(values_of(exp_negative(broadcast(std::nanf(""))))[3])); }

TEST(Tanh, IsTheHyperbolicTangentToFourUnitsInTheLastPlace) {
  double worst = 0;
  for (int i = -12 * 4096; i <= 12 * 4096; ++i) {
    const float x = static_cast<float>(i) / 4096;
    const double expected = std::tanh(double{x});
    const double unit = i == 0 ? 1 : std::ldexp(1.0, std::ilogb(expected) - 23);
    worst = std::max(worst, std::abs(values_of(tanh(broadcast(x)))[5] - expected) / unit);
  }
  EXPECT_LE(worst, 4);
}

TEST(Tanh, OfMuchIsOneAndOfNanIsNan) {
  const float infinite = std::numeric_limits<float>::infinity();
  for (const float x : {100.0F, 1e30F, infinite}) {
    EXPECT_EQ(values_of(tanh(broadcast(x)))[0], 1.0F);
    EXPECT_EQ(values_of(tanh(broadcast(-x)))[0], -1.0F);
  }
  EXPECT_TRUE(std::isnan(values_of(tanh(broadcast(std::nanf(""))))[3]));
}

TEST(Lanes, F16BecomesItsFloatWhateverItsBits) {
  for (std::uint32_t first = 0; first < 65536; first += lane_count) {
    std::array<f16, lane_count> halves;
    for (std::uint32_t i = 0; i < lane_count; ++i) halves[i].bits = static_cast<std::uint16_t>(first + i);
    const auto lanes = values_of(load(halves.data()));
    for (std::size_t i = 0; i < lane_count; ++i) {
      const auto expected = static_cast<float>(halves[i]);
      EXPECT_TRUE(lanes[i] == expected || (std::isnan(lanes[i]) && std::isnan(expected))) << first + i;
    }
  }
}

TEST(Lanes, SumAddsEveryLaneOnce) {
  std::array<float, lane_count> powers;
  for (int i = 0; i < lane_count; ++i) powers[static_cast<std::size_t>(i)] = static_cast<float>(1 << i);
  EXPECT_EQ(sum(load(powers.data())), 65535.0F);
}

TEST(Lanes, LoadSomeReadsNoFurtherAndPutsZerosBehind) {
  for (std::size_t count = 1; count < lane_count; ++count) {
    const std::vector<float> floats(count, 2);
    std::vector<bf16> halves;
    for (const float value : floats) halves.emplace_back(value);
    for (const auto& lanes : {values_of(load_some(floats.data(), static_cast<Index>(count))),
                              values_of(load_some(halves.data(), static_cast<Index>(count)))})
      for (std::size_t i = 0; i < lane_count; ++i) EXPECT_EQ(lanes[i], i < count ? 2.0F : 0.0F);
  }
}

TEST(Lanes, Bf16BecomesItsFloat) {
  std::vector<bf16> halves;
  for (const float value : test::normals("halves", lane_count)) halves.emplace_back(value);
  const auto lanes = values_of(load(halves.data()));
  for (std::size_t i = 0; i < lane_count; ++i) EXPECT_EQ(lanes[i], static_cast<float>(halves[i]));
}

}  // namespace
