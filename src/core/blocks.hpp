// How numbers lie in a file and in memory: blocks of a few numbers that share a scale, as ggml defines them
// (ggml-common.h, dequantize_row_* in ggml-quants.c of llama.cpp). A plain number is a block of one. Little endian.
#pragma once

#include <grist/core/dtype.hpp>

#include <cstdint>

namespace grist {

/// A number that is stored as it is.
template <class T>
struct PlainBlock {
  static constexpr int elements = 1;
  T number;

  [[nodiscard]] KOKKOS_INLINE_FUNCTION float value(int) const { return static_cast<float>(number); }
  KOKKOS_INLINE_FUNCTION void decode(float* x) const { x[0] = static_cast<float>(number); }
};

/// A block of groups, number i of group g being scale(g) q(g, i) - least(g), or without least where Block has none.
template <class Block, int Elements, int Group, bool HasLeast>
struct GroupedBlock {
  static constexpr int elements = Elements;
  static constexpr int group = Group;

  [[nodiscard]] KOKKOS_INLINE_FUNCTION float value(int i) const {
    const float scale = self().scale(i / Group), q = static_cast<float>(self().q(i / Group, i % Group));
    if constexpr (HasLeast)
      return less(scale, q, self().least(i / Group));
    else
      return scale * q;
  }

  /// x [elements]
  KOKKOS_INLINE_FUNCTION void decode(float* x) const {
    for (int g = 0; g < Elements / Group; ++g, x += Group) {
      const float scale = self().scale(g);
      if constexpr (HasLeast) {
        const float least = self().least(g);
        for (int i = 0; i < Group; ++i) x[i] = less(scale, static_cast<float>(self().q(g, i)), least);
      } else {
        for (int i = 0; i < Group; ++i) x[i] = scale * static_cast<float>(self().q(g, i));
      }
    }
  }

private:
  /// scale q - least. Compilers for devices join product and difference here and not there, with other bits: they are
  /// told to. On hosts without such an instruction fma would be a call.
  static KOKKOS_INLINE_FUNCTION float less(float scale, float q, float least) {
    KOKKOS_IF_ON_DEVICE((return Kokkos::fma(scale, q, -least);))
    KOKKOS_IF_ON_HOST((return scale * q - least;))
  }
  [[nodiscard]] KOKKOS_INLINE_FUNCTION const Block& self() const { return static_cast<const Block&>(*this); }
};

struct Q8_0 : GroupedBlock<Q8_0, 32, 32, false> {
  f16 d;
  std::int8_t quants[32];
  [[nodiscard]] KOKKOS_INLINE_FUNCTION float scale(int) const { return d; }
  [[nodiscard]] KOKKOS_INLINE_FUNCTION int q(int, int i) const { return quants[i]; }
};

/// The first half of the block lies in the low nibbles, here and in Q4_1, Q5_0, Q5_1, IQ4_NL and IQ4_XS.
struct Q4_0 : GroupedBlock<Q4_0, 32, 16, false> {
  f16 d;
  std::uint8_t nibbles[16];
  [[nodiscard]] KOKKOS_INLINE_FUNCTION float scale(int) const { return d; }
  [[nodiscard]] KOKKOS_INLINE_FUNCTION int q(int g, int i) const { return (nibbles[i] >> 4 * g & 15) - 8; }
};

struct Q4_1 : GroupedBlock<Q4_1, 32, 16, true> {
  f16 d, m;
  std::uint8_t nibbles[16];
  [[nodiscard]] KOKKOS_INLINE_FUNCTION float scale(int) const { return d; }
  [[nodiscard]] KOKKOS_INLINE_FUNCTION float least(int) const { return -static_cast<float>(m); }
  [[nodiscard]] KOKKOS_INLINE_FUNCTION int q(int g, int i) const { return nibbles[i] >> 4 * g & 15; }
};

/// The fifth bit of number n is bit n of the 32 in `high`.
struct Q5_0 : GroupedBlock<Q5_0, 32, 16, false> {
  f16 d;
  std::uint8_t high[4];
  std::uint8_t nibbles[16];
  [[nodiscard]] KOKKOS_INLINE_FUNCTION float scale(int) const { return d; }
  [[nodiscard]] KOKKOS_INLINE_FUNCTION int q(int g, int i) const {
    return ((nibbles[i] >> 4 * g & 15) | (high[2 * g + i / 8] >> i % 8 & 1) << 4) - 16;
  }
};

struct Q5_1 : GroupedBlock<Q5_1, 32, 16, true> {
  f16 d, m;
  std::uint8_t high[4];
  std::uint8_t nibbles[16];
  [[nodiscard]] KOKKOS_INLINE_FUNCTION float scale(int) const { return d; }
  [[nodiscard]] KOKKOS_INLINE_FUNCTION float least(int) const { return -static_cast<float>(m); }
  [[nodiscard]] KOKKOS_INLINE_FUNCTION int q(int g, int i) const {
    return (nibbles[i] >> 4 * g & 15) | (high[2 * g + i / 8] >> i % 8 & 1) << 4;
  }
};

/// Groups of 16; of each half of 128 numbers, number 32 k + i has its two bits at 2 k of pairs[i].
struct Q2_K : GroupedBlock<Q2_K, 256, 16, true> {
  std::uint8_t scales[16];  // the scale in the low nibble, the least in the high one
  std::uint8_t pairs[64];
  f16 d, dmin;
  [[nodiscard]] KOKKOS_INLINE_FUNCTION float scale(int g) const {
    return static_cast<float>(d) * static_cast<float>(scales[g] & 15);
  }
  [[nodiscard]] KOKKOS_INLINE_FUNCTION float least(int g) const {
    return static_cast<float>(dmin) * static_cast<float>(scales[g] >> 4);
  }
  [[nodiscard]] KOKKOS_INLINE_FUNCTION int q(int g, int i) const {
    return pairs[g / 8 * 32 + g % 2 * 16 + i] >> g % 8 / 2 * 2 & 3;
  }
};

/// Two bits as in Q2_K, less 4 where the third bit is not set: bit 4 (half) + k of high[i]. The 6-bit scales: low
/// nibbles in bytes 0..7 (of groups 0..7 low, 8..15 high), upper two bits of group g at 2 (g / 4) of byte 8 + g % 4.
struct Q3_K : GroupedBlock<Q3_K, 256, 16, false> {
  std::uint8_t high[32];
  std::uint8_t pairs[64];
  std::uint8_t scales[12];
  f16 d;
  [[nodiscard]] KOKKOS_INLINE_FUNCTION float scale(int g) const {
    const int low = scales[g % 8] >> g / 8 * 4 & 15, upper = scales[8 + g % 4] >> g / 4 * 2 & 3;
    return static_cast<float>(d) * static_cast<float>((low | upper << 4) - 32);
  }
  [[nodiscard]] KOKKOS_INLINE_FUNCTION int q(int g, int i) const {
    const int start = g % 2 * 16 + i, k = g % 8 / 2;
    return (pairs[g / 8 * 32 + start] >> 2 * k & 3) + (high[start] >> (g / 8 * 4 + k) & 1) * 4 - 4;
  }
};

/// The eight 6-bit scales and leasts of Q4_K and Q5_K in 12 bytes: the first four of each in the low bits of bytes 0..3
/// and 4..7; of the others the low nibbles in bytes 8..11 (scale low, least high) and the upper two bits at the top of
/// bytes 0..3 (scale) and 4..7 (least).
struct ScalesOfEight {
  std::uint8_t bytes[12];
  [[nodiscard]] KOKKOS_INLINE_FUNCTION int scale(int g) const {
    return g < 4 ? bytes[g] & 63 : (bytes[g + 4] & 15) | (bytes[g - 4] >> 6) << 4;
  }
  [[nodiscard]] KOKKOS_INLINE_FUNCTION int least(int g) const {
    return g < 4 ? bytes[g + 4] & 63 : bytes[g + 4] >> 4 | (bytes[g] >> 6) << 4;
  }
};

/// Groups of 32; groups 2 k and 2 k + 1 are the low and high nibbles of bytes [32 k, 32 k + 32).
struct Q4_K : GroupedBlock<Q4_K, 256, 32, true> {
  f16 d, dmin;
  ScalesOfEight scales;
  std::uint8_t nibbles[128];
  [[nodiscard]] KOKKOS_INLINE_FUNCTION float scale(int g) const {
    return static_cast<float>(d) * static_cast<float>(scales.scale(g));
  }
  [[nodiscard]] KOKKOS_INLINE_FUNCTION float least(int g) const {
    return static_cast<float>(dmin) * static_cast<float>(scales.least(g));
  }
  [[nodiscard]] KOKKOS_INLINE_FUNCTION int q(int g, int i) const { return nibbles[g / 2 * 32 + i] >> g % 2 * 4 & 15; }
};

/// As Q4_K, with the fifth bit of group g at g of high[i].
struct Q5_K : GroupedBlock<Q5_K, 256, 32, true> {
  f16 d, dmin;
  ScalesOfEight scales;
  std::uint8_t high[32];
  std::uint8_t nibbles[128];
  [[nodiscard]] KOKKOS_INLINE_FUNCTION float scale(int g) const {
    return static_cast<float>(d) * static_cast<float>(scales.scale(g));
  }
  [[nodiscard]] KOKKOS_INLINE_FUNCTION float least(int g) const {
    return static_cast<float>(dmin) * static_cast<float>(scales.least(g));
  }
  [[nodiscard]] KOKKOS_INLINE_FUNCTION int q(int g, int i) const {
    return (nibbles[g / 2 * 32 + i] >> g % 2 * 4 & 15) | (high[i] >> g & 1) << 4;
  }
};

/// Groups of 16. Of each half of 128 numbers, number 32 k + i has its low four bits in low[32 (k % 2) + i], the low
/// nibble for k < 2 and the high one for the rest, and its upper two bits at 2 k of high[i].
struct Q6_K : GroupedBlock<Q6_K, 256, 16, false> {
  std::uint8_t low[128];
  std::uint8_t high[64];
  std::int8_t scales[16];
  f16 d;
  [[nodiscard]] KOKKOS_INLINE_FUNCTION float scale(int g) const {
    return static_cast<float>(d) * static_cast<float>(scales[g]);
  }
  [[nodiscard]] KOKKOS_INLINE_FUNCTION int q(int g, int i) const {
    const int half = g / 8, k = g % 8 / 2, start = g % 2 * 16 + i;
    return ((low[half * 64 + k % 2 * 32 + start] >> k / 2 * 4 & 15) | (high[half * 32 + start] >> 2 * k & 3) << 4) - 32;
  }
};

/// The sixteen values of a nibble in IQ4_NL and IQ4_XS.
KOKKOS_INLINE_FUNCTION constexpr int iq4_value(int nibble) {
  constexpr std::int8_t values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  return values[nibble];
}

struct IQ4_NL : GroupedBlock<IQ4_NL, 32, 16, false> {
  f16 d;
  std::uint8_t nibbles[16];
  [[nodiscard]] KOKKOS_INLINE_FUNCTION float scale(int) const { return d; }
  [[nodiscard]] KOKKOS_INLINE_FUNCTION int q(int g, int i) const { return iq4_value(nibbles[i] >> 4 * g & 15); }
};

/// Eight runs of 32 numbers, each nibbles as in IQ4_NL; the 6-bit scale of run j: low nibbles in scales_low, upper two
/// bits at 2 j of scales_high.
struct IQ4_XS : GroupedBlock<IQ4_XS, 256, 16, false> {
  f16 d;
  std::uint16_t scales_high;
  std::uint8_t scales_low[4];
  std::uint8_t nibbles[128];
  [[nodiscard]] KOKKOS_INLINE_FUNCTION float scale(int g) const {
    const int j = g / 2, low = scales_low[j / 2] >> j % 2 * 4 & 15, upper = scales_high >> 2 * j & 3;
    return static_cast<float>(d) * static_cast<float>((low | upper << 4) - 32);
  }
  [[nodiscard]] KOKKOS_INLINE_FUNCTION int q(int g, int i) const {
    return iq4_value(nibbles[g / 2 * 16 + i] >> g % 2 * 4 & 15);
  }
};

}  // namespace grist
