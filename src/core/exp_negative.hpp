// e^x as plain arithmetic, which a compiler turns into vector code; calls of the C library stay scalar.
#pragma once

#include <Kokkos_Core.hpp>

#include <cstdint>

namespace grist {

/// e^x for x <= 0, to one unit in the last place; 0 below -87.7; NaN stays NaN. Cephes' expf: 2^n times a polynomial of
/// the rest. One selection and no branch: floating-point work under a branch is not made vector code.
KOKKOS_INLINE_FUNCTION float exp_negative(float x) {
  constexpr float log2_e = 1.44269504F, ln2_high = 0.693359375F, ln2_low = -2.12194440e-4F;
  const float inside = x < -88.0F ? -88.0F : x;       // n = -127, as an exponent, is that of 0
  const float shifted = inside * log2_e + 0x1.8p23F;  // its low bits are n, rounded
  const float n = shifted - 0x1.8p23F;
  const float r = (inside - n * ln2_high) - n * ln2_low;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  const std::uint32_t exponent = (Kokkos::bit_cast<std::uint32_t>(shifted) + 127U - 0x4B400000U) << 23;
  return p * Kokkos::bit_cast<float>(exponent);
}

}  // namespace grist
