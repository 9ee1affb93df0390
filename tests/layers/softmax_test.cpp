// Softmax at a temperature, against its formula in double precision.
#include <grist/layers/softmax.hpp>

#include <support/views.hpp>

namespace {

using namespace grist;
using namespace grist::test;

std::vector<float> run(const std::vector<float>& x, Index rows, float temperature) {
  const auto device = on_device<float>(x);
  layers::softmax(Exec(), temperature, device.view(rows, static_cast<Index>(x.size()) / rows));
  return on_host(device);
}

/// The exponent, a difference that was rounded twice, counts with its own size; the sum rounds once per term.
std::vector<Expected> expected(const std::vector<float>& x, Index rows, double temperature) {
  const std::size_t width = x.size() / static_cast<std::size_t>(rows);
  std::vector<Expected> y;
  for (std::size_t row = 0; row < x.size(); row += width) {
    const double highest = *std::max_element(&x[row], &x[row] + width);
    double total = 0;
    for (std::size_t i = 0; i < width; ++i) total += std::exp((x[row + i] - highest) / temperature);
    for (std::size_t i = 0; i < width; ++i) {
      const double exponent = (x[row + i] - highest) / temperature;
      const double value = std::exp(exponent) / total;
      const double roundings = 2 * std::abs(exponent) + static_cast<double>(width) + 8;
      // Numbers below the smallest normal float lose their digits, or are taken for zero.
      y.push_back({value, value * roundings * float_rounding + std::numeric_limits<float>::min()});
    }
  }
  return y;
}

TEST(Softmax, IsItsFormulaAtEveryTemperature) {
  for (const Index width : {1, 2, 17, 1000}) {
    const auto x = normals("x", 3 * width, 4);
    for (const float temperature : {0.1F, 0.7F, 1.0F, 2.0F, 100.0F})
      EXPECT_LE(worst_error(run(x, 3, temperature), expected(x, 3, double{temperature})), 1)
          << width << " at " << temperature;
  }
}

TEST(Softmax, AnotherTemperatureGivesAnotherResult) {
  const auto x = normals("x", 17);
  EXPECT_GT(worst_error(run(x, 1, 0.7F), expected(x, 1, 0.701)), 1);
}

TEST(Softmax, OfRowsFarFromZeroIsThatOfRowsAtZero) {
  const std::vector<float> x{1, 2, 4, 0};
  for (const float shift : {-10000.0F, 10000.0F}) {
    auto shifted = x;
    for (float& value : shifted) value += shift;
    EXPECT_EQ(run(shifted, 1, 1), run(x, 1, 1)) << shift;
  }
}

TEST(Softmax, AnImpossibleTokenHasNoProbabilityAndNanIsNotHidden) {
  const auto y = run({0, -std::numeric_limits<float>::infinity(), 0}, 1, 1);
  EXPECT_EQ(y, (std::vector<float>{0.5F, 0, 0.5F}));
  EXPECT_TRUE(std::isnan(run({0, std::nanf(""), 0}, 1, 1)[0]));
}

}  // namespace
