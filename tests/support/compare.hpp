// The comparator of all numerical tests, and the one table of tolerances.
#pragma once

#include <grist/core/dtype.hpp>

#include <span>
#include <string>

namespace grist::test {

/// Largest |difference| of logits, as a fraction of the expected values' range, that a storage type may cause.
constexpr double logit_tolerance(DType type) { return type == DType::f32 ? 1e-4 : 2e-2; }

/// What compare() found. `worst` is the largest |actual - expected|; any NaN or infinity makes it infinite.
struct Comparison {
  double worst = 0;
  double range = 0;  // max - min of expected
  std::size_t index = 0;
  std::string text;  // where the worst place is, and both values there
};

/// Sizes must agree; a difference in size, NaN or infinity on either side is an infinite difference.
Comparison compare(std::span<const float> actual, std::span<const float> expected);

}  // namespace grist::test

/// max |actual - expected| <= tolerance * (max - min of expected), NaN fails.
#define EXPECT_CLOSE(actual, expected, tolerance)                                                            \
  do {                                                                                                       \
    const auto comparison_ = ::grist::test::compare(actual, expected);                                       \
    if (!(comparison_.worst <= (tolerance) * comparison_.range))                                             \
      ADD_FAILURE() << #actual " against " #expected ": " << comparison_.text << ", allowed "                \
                    << (tolerance) * comparison_.range;                                                      \
  } while (false)
