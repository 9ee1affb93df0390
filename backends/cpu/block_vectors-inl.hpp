// Blocks of weights (core/blocks.hpp) as vectors: their integers in bf16, in which they are exact, and their scales.
// Included once for each kind of processor, after hwy/foreach_target.h.
#include <grist/core/blocks.hpp>

#include <bit>
#include <cstring>
#include <type_traits>

#include <hwy/highway.h>

#if defined(GRIST_BLOCK_VECTORS) == defined(HWY_TARGET_TOGGLE)
#ifdef GRIST_BLOCK_VECTORS
#undef GRIST_BLOCK_VECTORS
#else
#define GRIST_BLOCK_VECTORS
#endif

HWY_BEFORE_NAMESPACE();
namespace grist::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

constexpr hn::CappedTag<hwy::bfloat16_t, 32> bf16s;
constexpr hn::Repartition<float, decltype(bf16s)> floats;
constexpr hn::FixedTag<std::uint8_t, 16> bytes;
constexpr hn::FixedTag<std::int8_t, 16> signed_bytes;
using Bf16s = hn::Vec<decltype(bf16s)>;
using Floats = hn::Vec<decltype(floats)>;
using Bytes = hn::Vec<decltype(bytes)>;
using SignedBytes = hn::Vec<decltype(signed_bytes)>;

constexpr int lanes = HWY_MAX_LANES_D(decltype(bf16s));  // numbers in a vector
constexpr int run = 32;                                  // numbers that are decoded together: a multiple of `lanes`
constexpr int vectors = run / lanes;
constexpr int half_run = run / 2;                        // no group of a block is smaller
constexpr int chunk = 256;                               // numbers whose scales are decoded together

HWY_INLINE Bf16s load(const bf16* from) {
  return hn::LoadU(bf16s, reinterpret_cast<const hwy::bfloat16_t*>(from));
}
/// The first `count` numbers, zeros behind them.
HWY_INLINE Bf16s load_some(const bf16* from, std::int64_t count) {
  return hn::LoadN(bf16s, reinterpret_cast<const hwy::bfloat16_t*>(from), static_cast<std::size_t>(count));
}
HWY_INLINE void store(Bf16s numbers, bf16* to) {
  hn::StoreU(numbers, bf16s, reinterpret_cast<hwy::bfloat16_t*>(to));
}
HWY_INLINE Bf16s ones() { return hn::Set(bf16s, hwy::BF16FromF32(1)); }

/// a b, neighbouring products summed in a lane.
HWY_INLINE Floats products(Bf16s a, Bf16s b) { return hn::WidenMulPairwiseAdd(floats, a, b); }
/// sums + a b in the same lanes.
HWY_INLINE Floats add_products(Bf16s a, Bf16s b, Floats sums) {
#if HWY_NATIVE_DOT_BF16
  Floats unused = hn::Zero(floats);
  return hn::ReorderWidenMulAccumulate(floats, a, b, sums, unused);
#else
  return hn::Add(sums, products(a, b));
#endif
}

// Codes of a block: half_run of them, from number 16 `i` on. A code stands for the integer value<Block>(code).

HWY_INLINE Bytes load_bytes(const std::uint8_t* from) { return hn::LoadU(bytes, from); }
/// mask & (b >> shift) of each byte; what crosses from a neighbour is masked.
HWY_INLINE Bytes bits(Bytes b, int shift, int mask) {
  constexpr hn::Repartition<std::uint16_t, decltype(bytes)> words;
  const Bytes shifted = hn::BitCast(bytes, hn::ShiftRightSame(hn::BitCast(words, b), shift));
  return hn::And(shifted, hn::Set(bytes, static_cast<std::uint8_t>(mask)));
}
/// 16 where the bit of a number is set in `from`, 0 elsewhere.
HWY_INLINE Bytes sixteen_where_set(const std::uint8_t* from) {
  return hn::IfThenElseZero(hn::LoadMaskBits(bytes, from), hn::Set(bytes, std::uint8_t{16}));
}

HWY_INLINE Bytes codes_of(const Q4_0& b, int i) { return bits(load_bytes(b.nibbles), 4 * i, 15); }
HWY_INLINE Bytes codes_of(const Q4_1& b, int i) { return bits(load_bytes(b.nibbles), 4 * i, 15); }
HWY_INLINE Bytes codes_of(const Q5_0& b, int i) {
  return hn::Or(bits(load_bytes(b.nibbles), 4 * i, 15), sixteen_where_set(b.high + 2 * i));
}
HWY_INLINE Bytes codes_of(const Q5_1& b, int i) {
  return hn::Or(bits(load_bytes(b.nibbles), 4 * i, 15), sixteen_where_set(b.high + 2 * i));
}
HWY_INLINE Bytes codes_of(const Q2_K& b, int i) {
  return bits(load_bytes(b.pairs + i / 8 * 32 + i % 2 * 16), i % 8 / 2 * 2, 3);
}
HWY_INLINE Bytes codes_of(const Q3_K& b, int i) {
  const int start = i % 2 * 16, k = i % 8 / 2;
  const Bytes low = bits(load_bytes(b.pairs + i / 8 * 32 + start), 2 * k, 3);
  const Bytes high = bits(load_bytes(b.high + start), i / 8 * 4 + k, 1);
  return hn::Or(low, hn::ShiftLeft<2>(high));
}
HWY_INLINE Bytes codes_of(const Q4_K& b, int i) {
  return bits(load_bytes(b.nibbles + i / 4 * 32 + i % 2 * 16), i % 4 / 2 * 4, 15);
}
HWY_INLINE Bytes codes_of(const Q5_K& b, int i) {
  const Bytes low = bits(load_bytes(b.nibbles + i / 4 * 32 + i % 2 * 16), i % 4 / 2 * 4, 15);
  const Bytes high = bits(load_bytes(b.high + i % 2 * 16), i / 2, 1);
  return hn::Or(low, hn::ShiftLeft<4>(high));
}
HWY_INLINE Bytes codes_of(const Q6_K& b, int i) {
  const int half = i / 8, k = i % 8 / 2, start = i % 2 * 16;
  const Bytes low = bits(load_bytes(b.low + half * 64 + k % 2 * 32 + start), k / 2 * 4, 15);
  const Bytes high = bits(load_bytes(b.high + half * 32 + start), 2 * k, 3);
  return hn::Or(low, hn::ShiftLeft<4>(high));
}
HWY_INLINE Bytes codes_of(const IQ4_NL& b, int i) { return bits(load_bytes(b.nibbles), 4 * i, 15); }
HWY_INLINE Bytes codes_of(const IQ4_XS& b, int i) { return bits(load_bytes(b.nibbles + i / 2 * 16), i % 2 * 4, 15); }

template <class Block>
inline constexpr bool has_iq4_values = std::is_same_v<Block, IQ4_NL> || std::is_same_v<Block, IQ4_XS>;
template <class Block>
constexpr int value(int code) {
  if constexpr (std::is_same_v<Block, Q4_0>) return code - 8;
  if constexpr (std::is_same_v<Block, Q5_0>) return code - 16;
  if constexpr (std::is_same_v<Block, Q3_K>) return code - 4;
  if constexpr (std::is_same_v<Block, Q6_K>) return code - 32;
  if constexpr (has_iq4_values<Block>) return iq4_value(code % 16);
  return code;
}

/// A run's integers, which are exact in bf16: the upper half of their float.
struct Run {
  Bf16s integers[vectors];
};
HWY_INLINE Run exact(SignedBytes low, SignedBytes high) {
  constexpr hn::RebindToSigned<decltype(floats)> ints;
  constexpr hn::Repartition<std::uint16_t, decltype(floats)> halves;
  const auto upper = [&](auto numbers) HWY_ATTR {
    return hn::BitCast(halves, hn::ConvertTo(floats, hn::PromoteTo(ints, numbers)));
  };
#if HWY_TARGET <= HWY_AVX3
  return {hn::BitCast(bf16s, hn::ConcatOdd(halves, upper(high), upper(low)))};
#else
  constexpr hn::Rebind<std::int8_t, decltype(floats)> narrow;
  Run result;
  alignas(16) std::int8_t numbers[run];
  hn::Store(low, signed_bytes, numbers);
  hn::Store(high, signed_bytes, numbers + half_run);
  for (int v = 0; v < vectors; ++v) {
    const std::int8_t* const from = numbers + v * lanes;
    const auto first = hn::LoadU(narrow, from), second = hn::LoadU(narrow, from + lanes / 2);
    result.integers[v] = hn::BitCast(bf16s, hn::ConcatOdd(halves, upper(second), upper(first)));
  }
  return result;
#endif
}

#if HWY_TARGET <= HWY_AVX3
/// The integers of all codes, in two registers.
template <class Block>
struct Values {
  alignas(64) std::uint16_t of[64];
  constexpr Values() {
    for (int code = 0; code < 64; ++code)
      of[code] = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(static_cast<float>(value<Block>(code))) >> 16);
  }
};
template <class Block>
inline constexpr Values<Block> values;

template <class Block>
HWY_INLINE Run run_of(const Block& block, int half) {
  constexpr hn::Repartition<std::uint16_t, decltype(bf16s)> words;
  const hn::Half<hn::Repartition<std::uint8_t, decltype(bf16s)>> codes;
  const auto both = hn::Combine(codes, codes_of(block, half + 1), codes_of(block, half));
  const auto at = hn::IndicesFromVec(words, hn::PromoteTo(words, both));
  const auto first = hn::Load(words, values<Block>.of);
  if constexpr (std::is_same_v<Block, Q6_K>)
    return {hn::BitCast(bf16s, hn::TwoTablesLookupLanes(words, first, hn::Load(words, values<Block>.of + 32), at))};
  else
    return {hn::BitCast(bf16s, hn::TableLookupLanes(first, at))};
}
#else
template <class Block>
HWY_INLINE SignedBytes integers_of(const Block& block, int i) {
  const auto codes = hn::BitCast(signed_bytes, codes_of(block, i));
  if constexpr (has_iq4_values<Block>) {
    alignas(16) std::int8_t table[16];
    for (int code = 0; code < 16; ++code) table[code] = static_cast<std::int8_t>(iq4_value(code));
    return hn::TableLookupBytes(hn::Load(signed_bytes, table), codes);
  } else {
    return hn::Add(codes, hn::Set(signed_bytes, static_cast<std::int8_t>(value<Block>(0))));
  }
}
template <class Block>
HWY_INLINE Run run_of(const Block& block, int half) {
  return exact(integers_of(block, half), integers_of(block, half + 1));
}
#endif
HWY_INLINE Run run_of(const Q8_0& block, int) {
  return exact(hn::LoadU(signed_bytes, block.quants), hn::LoadU(signed_bytes, block.quants + half_run));
}

/// Run i of a chunk.
template <class Block>
HWY_INLINE Run run_at(const Block* blocks, int i) {
  constexpr int runs = Block::elements / run;
  return run_of(blocks[i / runs], 2 * (i % runs));
}

// Scales of a chunk, and what is subtracted: least, where a format has it.

template <class Block>
inline constexpr bool has_least = requires(const Block& block) { block.least(0); };

HWY_INLINE void to_floats(const f16* from, std::int64_t stride, int count, float* to) {
  constexpr hn::FixedTag<float, 4> four;
  constexpr hn::Rebind<hwy::float16_t, decltype(four)> halves;
  alignas(16) std::uint16_t gathered[8] = {};
  for (int i = 0; i < count; ++i)
    std::memcpy(gathered + i, reinterpret_cast<const char*>(from) + i * stride, sizeof(std::uint16_t));
  for (int i = 0; i < (count + 3) / 4 * 4; i += 4)
    hn::StoreU(hn::PromoteTo(four, hn::LoadU(halves, reinterpret_cast<const hwy::float16_t*>(gathered + i))), four,
               to + i);
}

template <class Block>
struct Scales {
  static constexpr int group = Block::elements == run ? run : Block::group;
  float scale[chunk / group];
  float least[has_least<Block> ? chunk / group : 1];

  HWY_INLINE void decode(const Block* blocks, int runs) {
    if constexpr (Block::elements == run) {
      to_floats(&blocks->d, sizeof(Block), runs, scale);
      if constexpr (has_least<Block>) {
        to_floats(&blocks->m, sizeof(Block), runs, least);
        for (int i = 0; i < runs; ++i) least[i] = -least[i];
      }
    } else if constexpr (requires { blocks->scales.bytes; }) {
      float d_and_least[8];
      to_floats(&blocks->d, sizeof(f16), 2, d_and_least);
      decode_eight(blocks->scales, d_and_least);
    } else {
      for (int g = 0; g < chunk / group; ++g) scale[g] = blocks->scale(g);
      if constexpr (has_least<Block>)
        for (int g = 0; g < chunk / group; ++g) least[g] = blocks->least(g);
    }
  }

  /// For vector v of run i.
  HWY_INLINE Floats scale_at(int i, int v) const { return at(scale, i * run + v * lanes); }
  HWY_INLINE Floats least_at(int i, int v) const { return at(least, i * run + v * lanes); }

private:
  /// Four scales of ScalesOfEight in half of a word at a time.
  HWY_INLINE void decode_eight(const ScalesOfEight& eight, const float* d_and_least) {
    std::uint32_t word[3];
    std::memcpy(word, eight.bytes, sizeof word);
    const std::uint32_t high_scales = (word[2] & 0x0f0f0f0fU) | (word[0] >> 2 & 0x30303030U);
    const std::uint32_t high_leasts = (word[2] >> 4 & 0x0f0f0f0fU) | (word[1] >> 2 & 0x30303030U);
    times(word[0] & 0x3f3f3f3fU, high_scales, d_and_least[0], scale);
    times(word[1] & 0x3f3f3f3fU, high_leasts, d_and_least[1], least);
  }
  /// to [8] = the bytes of two words times `factor`.
  static HWY_INLINE void times(std::uint32_t first, std::uint32_t second, float factor, float* to) {
    const std::uint64_t both = first | std::uint64_t{second} << 32;
    std::uint8_t numbers[8];
    std::memcpy(numbers, &both, sizeof both);
    for (int i = 0; i < 8; ++i) to[i] = factor * static_cast<float>(numbers[i]);
  }

  static HWY_INLINE Floats at(const float* of, int number) {
    const Floats first = hn::Set(floats, of[number / group]);
    if constexpr (group >= lanes)
      return first;
    else
      return hn::ConcatLowerLower(floats, hn::Set(floats, of[number / group + 1]), first);
  }
};

/// A vector's numbers, each rounded once: scale times the integer, less least.
template <class Block>
HWY_INLINE Bf16s scaled(Bf16s integers, const Scales<Block>& scales, int i, int v) {
  // As pairs of neighbours, whose scale is one lane's: evens in the lower halves of floats, odds in the upper.
  constexpr hn::Repartition<std::uint32_t, decltype(floats)> words;
  const auto both = hn::BitCast(words, integers);
  const Floats scale = scales.scale_at(i, v);
  Floats even = hn::Mul(hn::BitCast(floats, hn::ShiftLeft<16>(both)), scale);
  Floats odd = hn::Mul(hn::BitCast(floats, hn::And(both, hn::Set(words, 0xffff0000U))), scale);
  if constexpr (has_least<Block>) {
    const Floats least = scales.least_at(i, v);
    even = hn::Sub(even, least);
    odd = hn::Sub(odd, least);
  }
  // To nearest, ties to even; blocks hold nothing that is not finite.
  const auto rounded = [&](Floats number) HWY_ATTR {
    const auto bits = hn::BitCast(words, number);
    const auto last = hn::And(hn::ShiftRight<16>(bits), hn::Set(words, 1U));
    return hn::Add(bits, hn::Add(last, hn::Set(words, 0x7fffU)));
  };
  const auto low = hn::ShiftRight<16>(rounded(even)), high = hn::And(rounded(odd), hn::Set(words, 0xffff0000U));
  return hn::BitCast(bf16s, hn::Or(low, high));
}

}  // namespace
}  // namespace grist::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
