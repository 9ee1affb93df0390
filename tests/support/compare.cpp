#include <support/compare.hpp>

#include <algorithm>
#include <cmath>
#include <format>
#include <limits>

namespace grist::test {

Comparison compare(std::span<const float> actual, std::span<const float> expected) {
  constexpr double infinite = std::numeric_limits<double>::infinity();
  Comparison result;
  if (actual.size() != expected.size() || expected.empty()) {
    result.worst = infinite;
    result.text = std::format("{} values against {}", actual.size(), expected.size());
    return result;
  }
  double low = infinite;
  double high = -infinite;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double a = actual[i];
    const double e = expected[i];
    const double difference = std::isfinite(a) && std::isfinite(e) ? std::abs(a - e) : infinite;
    if (i == 0 || difference > result.worst) {
      result.worst = difference;
      result.index = i;
    }
    low = std::min(low, e);
    high = std::max(high, e);
  }
  result.range = high - low;
  result.text = std::format("differs by {} at {}: {} against {}", result.worst, result.index, actual[result.index],
                            expected[result.index]);
  return result;
}

}  // namespace grist::test
