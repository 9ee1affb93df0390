// bf16 and f16: every value, every midpoint between neighbours, and what lies beyond them.
#include <grist/core/dtype.hpp>

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

namespace {

using namespace grist;

constexpr float infinity = std::numeric_limits<float>::infinity();

template <class T>
T from_bits(std::uint32_t bits) {
  T value;
  value.bits = static_cast<std::uint16_t>(bits);
  return value;
}

template <class T>
float largest_finite() {
  return std::is_same_v<T, bf16> ? 0x1.fep127F : 65504.0F;
}

/// What the bits mean, by the definition of such formats.
template <class T>
double meaning(std::uint32_t bits) {
  constexpr int mantissa_bits = std::is_same_v<T, bf16> ? 7 : 10;
  constexpr int exponent_bits = 15 - mantissa_bits;
  constexpr int bias = (1 << (exponent_bits - 1)) - 1;
  const double sign = (bits & 0x8000U) != 0 ? -1.0 : 1.0;
  const int exponent = static_cast<int>(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const int mantissa = static_cast<int>(bits) & ((1 << mantissa_bits) - 1);
  if (exponent == (1 << exponent_bits) - 1) {
    return mantissa == 0 ? sign * static_cast<double>(infinity) : std::numeric_limits<double>::quiet_NaN();
  }
  const int implicit = exponent == 0 ? 0 : 1 << mantissa_bits;
  return sign * std::ldexp(mantissa + implicit, std::max(exponent, 1) - bias - mantissa_bits);
}

template <class T>
class Half : public testing::Test {};
using Halves = testing::Types<bf16, f16>;
TYPED_TEST_SUITE(Half, Halves);

TYPED_TEST(Half, MeansWhatItsBitsSay) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = from_bits<TypeParam>(bits);
    const double expected = meaning<TypeParam>(bits);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(value)) << bits;
    } else {
      EXPECT_EQ(double{value}, expected) << bits;
      EXPECT_EQ(std::signbit(value), bits >= 0x8000U) << bits;
    }
  }
}

TYPED_TEST(Half, ComesBackFromFloatUnchanged) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = from_bits<TypeParam>(bits);
    const TypeParam back(value);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(static_cast<float>(back))) << bits;
      EXPECT_EQ(back.bits & 0x8000U, bits & 0x8000U) << "the sign of NaN " << bits;
    } else {
      EXPECT_EQ(back.bits, bits);
    }
  }
}

TYPED_TEST(Half, RoundsToTheNearestAndTiesToEven) {
  for (std::uint32_t sign : {0U, 0x8000U}) {
    // Neighbours in size have neighbouring bits, subnormals included.
    for (std::uint32_t bits = 0; static_cast<float>(from_bits<TypeParam>(bits)) < largest_finite<TypeParam>(); ++bits) {
      const float low = from_bits<TypeParam>(sign | bits);
      const float high = from_bits<TypeParam>(sign | (bits + 1));
      const auto middle = static_cast<float>((double{low} + double{high}) / 2);  // exact: one bit more than T has
      EXPECT_EQ(TypeParam(middle).bits, sign | (bits + bits % 2)) << middle;
      EXPECT_EQ(TypeParam(std::nextafter(middle, low)).bits, sign | bits) << middle;
      EXPECT_EQ(TypeParam(std::nextafter(middle, high)).bits, sign | (bits + 1)) << middle;
    }
  }
}

TYPED_TEST(Half, OverflowsToInfinityHalfAStepBeyondTheLargest) {
  const float largest = largest_finite<TypeParam>();
  const float step = largest - static_cast<float>(from_bits<TypeParam>(TypeParam(largest).bits - 1U));
  const float tie = largest + step / 2;
  EXPECT_EQ(static_cast<float>(TypeParam(std::nextafter(tie, 0.0F))), largest);
  EXPECT_EQ(static_cast<float>(TypeParam(tie)), infinity);
  EXPECT_EQ(static_cast<float>(TypeParam(-tie)), -infinity);
  EXPECT_EQ(static_cast<float>(TypeParam(std::numeric_limits<float>::max())), infinity);
  EXPECT_EQ(static_cast<float>(TypeParam(infinity)), infinity);
  EXPECT_EQ(static_cast<float>(TypeParam(-infinity)), -infinity);
}

TYPED_TEST(Half, UnderflowsToZeroOfTheSameSign) {
  const float least = from_bits<TypeParam>(1);
  EXPECT_EQ(TypeParam(least / 2).bits, 0U) << "a tie, and 0 is even";
  EXPECT_EQ(TypeParam(std::nextafter(least / 2, 1.0F)).bits, 1U);
  EXPECT_EQ(TypeParam(-least / 2).bits, 0x8000U);
  EXPECT_EQ(TypeParam(std::numeric_limits<float>::denorm_min()).bits, 0U);
  EXPECT_EQ(TypeParam(0.0F).bits, 0U);
  EXPECT_EQ(TypeParam(-0.0F).bits, 0x8000U);
}

TYPED_TEST(Half, KeepsEveryNaNANaN) {
  // Payloads in the bits that are cut off are the ones that could become an infinity.
  for (int place = 0; place < 23; ++place) {
    for (const std::uint32_t sign : {0U, 0x80000000U}) {
      const auto nan = std::bit_cast<float>(sign | 0x7f800000U | 1U << place);
      EXPECT_TRUE(std::isnan(static_cast<float>(TypeParam(nan)))) << place;
    }
  }
}

TEST(DType, KnowsItsSizeAndName) {
  EXPECT_EQ(size_of(DType::f32), sizeof(float));
  EXPECT_EQ(size_of(DType::bf16), sizeof(bf16));
  EXPECT_EQ(size_of(DType::f16), sizeof(f16));
  EXPECT_EQ(name_of(dtype_of<float>), "f32");
  EXPECT_EQ(name_of(dtype_of<bf16>), "bf16");
  EXPECT_EQ(name_of(dtype_of<f16>), "f16");
}

}  // namespace
