// Storage types. Numbers are stored in 16 or 32 bits and computed in float: a kernel converts in registers.
#pragma once

#include <Kokkos_Core.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace grist {

/// bfloat16: the upper half of a float. Rounds to nearest, ties to even; NaN stays NaN.
struct bf16 {
  std::uint16_t bits = 0;

  bf16() = default;
  KOKKOS_INLINE_FUNCTION explicit bf16(float value) : bits(round(value)) {}
  KOKKOS_INLINE_FUNCTION operator float() const {
    return Kokkos::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }

private:
  KOKKOS_INLINE_FUNCTION static std::uint16_t round(float value) {
    const auto u = Kokkos::bit_cast<std::uint32_t>(value);
    const std::uint32_t rounded = (u + 0x7fffU + ((u >> 16) & 1U)) >> 16;
    const std::uint32_t quiet_nan = (u >> 16) | 0x40U;
    return static_cast<std::uint16_t>((u & 0x7fffffffU) > 0x7f800000U ? quiet_nan : rounded);
  }
};

/// IEEE 754 binary16. Rounds to nearest, ties to even; overflows to infinity; NaN stays NaN.
struct f16 {
  std::uint16_t bits = 0;

  f16() = default;
  KOKKOS_INLINE_FUNCTION explicit f16(float value) : bits(round(value)) {}
  KOKKOS_INLINE_FUNCTION operator float() const {
    const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000U) << 16;
    const std::uint32_t magnitude = bits & 0x7fffU;
    // Place exponent and mantissa as a float's, then mend the exponent's bias by an exact product.
    const float scaled = Kokkos::bit_cast<float>(magnitude << 13) * 0x1p112F;
    const std::uint32_t infinite = magnitude >= 0x7c00U ? 0x7f800000U : 0U;
    return Kokkos::bit_cast<float>(Kokkos::bit_cast<std::uint32_t>(scaled) | infinite | sign);
  }

private:
  KOKKOS_INLINE_FUNCTION static std::uint16_t round(float value) {
    const auto u = Kokkos::bit_cast<std::uint32_t>(value);
    const std::uint32_t sign = (u >> 16) & 0x8000U;
    const std::uint32_t magnitude = u & 0x7fffffffU;
    if (magnitude > 0x7f800000U) return static_cast<std::uint16_t>(sign | 0x7e00U | ((magnitude >> 13) & 0x3ffU));
    if (magnitude >= 0x477ff000U) return static_cast<std::uint16_t>(sign | 0x7c00U);  // rounds to infinity
    if (magnitude < 0x38800000U) {  // subnormal: adding 0.5 leaves the rounded mantissa in the low bits
      const float shifted = Kokkos::bit_cast<float>(magnitude) + 0.5F;
      return static_cast<std::uint16_t>(sign | (Kokkos::bit_cast<std::uint32_t>(shifted) - 0x3f000000U));
    }
    const std::uint32_t rounded = magnitude - 0x38000000U + 0xfffU + ((magnitude >> 13) & 1U);
    return static_cast<std::uint16_t>(sign | (rounded >> 13));
  }
};

static_assert(sizeof(bf16) == 2 && sizeof(f16) == 2);

enum class DType { f32, bf16, f16 };

constexpr std::size_t size_of(DType type) { return type == DType::f32 ? 4 : 2; }
constexpr std::string_view name_of(DType type) {
  return type == DType::f32 ? "f32" : type == DType::bf16 ? "bf16" : "f16";
}

template <class T>
inline constexpr DType dtype_of = [] {
  static_assert(sizeof(T) == 0, "not a storage type");
  return DType::f32;
}();
template <>
inline constexpr DType dtype_of<float> = DType::f32;
template <>
inline constexpr DType dtype_of<bf16> = DType::bf16;
template <>
inline constexpr DType dtype_of<f16> = DType::f16;

}  // namespace grist
