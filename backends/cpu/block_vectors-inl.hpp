// Blocks of weights (core/blocks.hpp) as vectors of bf16: scale times the integer, less least, each rounded once.
// Included once for each kind of processor, after hwy/foreach_target.h.
#include <grist/backends/cpu/bf16_as_floats.hpp>
#include <grist/backends/cpu/block_traits.hpp>

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

/// sums + a b, two neighbours in a lane.
HWY_INLINE Floats add_products(Bf16s a, Bf16s b, Floats sums) {
#if GRIST_BF16_AS_FLOATS
  return hn::MulAdd(hn::PromoteOddTo(floats, a), hn::PromoteOddTo(floats, b),
                    hn::MulAdd(hn::PromoteEvenTo(floats, a), hn::PromoteEvenTo(floats, b), sums));
#elif HWY_NATIVE_DOT_BF16
  Floats unused = hn::Zero(floats);
  return hn::ReorderWidenMulAccumulate(floats, a, b, sums, unused);
#else
  return hn::Add(sums, hn::WidenMulPairwiseAdd(floats, a, b));
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

// Scales of a chunk, and what is subtracted: least, where a format has it.

constexpr hn::CappedTag<float, 8> some_floats;
constexpr int some = HWY_MAX_LANES_D(decltype(some_floats));  // 8, or 4 where vectors are short

/// to [8] = the `count` <= 8 halves at `from`, `stride` bytes apart. They are put together in words of the processor:
/// what was stored one by one is slow to load as a vector.
HWY_INLINE void to_floats(const f16* from, std::int64_t stride, int count, float* to) {
  std::uint64_t four[2] = {};
  for (int i = 0; i < count; ++i) {
    std::uint16_t half;
    std::memcpy(&half, reinterpret_cast<const char*>(from) + i * stride, sizeof half);
    four[i / 4] |= std::uint64_t{half} << i % 4 * 16;
  }
  constexpr hn::Rebind<hwy::float16_t, decltype(some_floats)> halves;
  constexpr hn::Repartition<std::uint64_t, decltype(halves)> words;
  for (int i = 0; i < 8; i += some)
    hn::StoreU(hn::PromoteTo(some_floats, hn::BitCast(halves, hn::LoadU(words, four + i / 4))), some_floats, to + i);
}

/// to [8] = `factor` times (the bytes of `eight`, less `less`).
HWY_INLINE void times(std::uint64_t eight, float factor, int less, float* to) {
  constexpr hn::RebindToSigned<decltype(some_floats)> ints;
  constexpr hn::Rebind<std::uint8_t, decltype(some_floats)> narrow;
  std::uint8_t each[8];
  std::memcpy(each, &eight, sizeof each);
  for (int i = 0; i < 8; i += some) {
    const auto integers = hn::Sub(hn::PromoteTo(ints, hn::LoadU(narrow, each + i)), hn::Set(ints, less));
    hn::StoreU(hn::Mul(hn::ConvertTo(some_floats, integers), hn::Set(some_floats, factor)), some_floats, to + i);
  }
}

/// `count` of 64 bits from memory.
template <int count>
struct WordsOf64 {
  std::uint64_t of[count];
  explicit WordsOf64(const void* from) { std::memcpy(of, from, sizeof of); }
};
constexpr std::uint64_t low_nibbles = 0x0f0f0f0f0f0f0f0fU;

template <class Block>
struct Scales {
  static constexpr int group = scale_group<Block>;
  float scale[chunk / group];
  float least[has_least<Block> ? chunk / group : 1];

  HWY_INLINE void decode(const Block* blocks, int runs) {
    if constexpr (Block::elements == run) {
      if (runs == chunk / run)
        decode_ends(blocks, chunk / run);
      else
        decode_ends(blocks, runs);
    } else {
      decode_grouped(*blocks);
    }
    // They stay in memory, of which an instruction broadcasts; out of a register it takes two shuffles.
    __asm__ volatile("" : : "r"(this) : "memory");
  }

  /// The numbers that belong to `integers`, in group g.
  [[nodiscard]] HWY_INLINE Floats weights(Floats integers, int g) const {
    const Floats products = hn::Mul(integers, hn::Set(floats, scale[g]));
    if constexpr (has_least<Block>)
      return hn::Sub(products, hn::Set(floats, least[g]));
    else
      return products;
  }

private:
  /// Of blocks that have one scale.
  HWY_INLINE void decode_ends(const Block* blocks, int count) {
    to_floats(&blocks->d, sizeof(Block), count, scale);
    if constexpr (has_least<Block>) {
      to_floats(&blocks->m, sizeof(Block), count, least);
      for (int i = 0; i < chunk / run; ++i) least[i] = -least[i];
    }
  }

  template <class K>  // Q4_K, Q5_K: four scales in half of a word at a time
    requires requires(const K& block) { block.scales.bytes; }
  HWY_INLINE void decode_grouped(const K& block) {
    std::uint32_t word[3];
    std::memcpy(word, block.scales.bytes, sizeof word);
    const auto both = [](std::uint32_t first, std::uint32_t second) { return first | std::uint64_t{second} << 32; };
    const std::uint32_t high_scales = (word[2] & 0x0f0f0f0fU) | (word[0] >> 2 & 0x30303030U);
    const std::uint32_t high_leasts = (word[2] >> 4 & 0x0f0f0f0fU) | (word[1] >> 2 & 0x30303030U);
    times(both(word[0] & 0x3f3f3f3fU, high_scales), static_cast<float>(block.d), 0, scale);
    times(both(word[1] & 0x3f3f3f3fU, high_leasts), static_cast<float>(block.dmin), 0, least);
  }
  HWY_INLINE void decode_grouped(const Q2_K& block) {
    const WordsOf64<2> both(block.scales);
    for (int half = 0; half < 2; ++half) {
      times(both.of[half] & low_nibbles, static_cast<float>(block.d), 0, scale + 8 * half);
      times(both.of[half] >> 4 & low_nibbles, static_cast<float>(block.dmin), 0, least + 8 * half);
    }
  }
  HWY_INLINE void decode_grouped(const Q3_K& block) {
    const WordsOf64<1> low(block.scales);
    std::uint32_t high;
    std::memcpy(&high, block.scales + 8, sizeof high);
    const std::uint64_t pairs = high | std::uint64_t{high} << 30;  // of groups 4 to 7 lie two bits higher
    constexpr std::uint64_t upper = 0x3030303030303030U;
    times((low.of[0] & low_nibbles) | (pairs << 4 & upper), static_cast<float>(block.d), 32, scale);
    times((low.of[0] >> 4 & low_nibbles) | (pairs & upper), static_cast<float>(block.d), 32, scale + 8);
  }
  HWY_INLINE void decode_grouped(const Q6_K& block) {
    const WordsOf64<2> both(block.scales);
    constexpr std::uint64_t signs = 0x8080808080808080U;  // of bytes: without it they are 128 more
    for (int half = 0; half < 2; ++half)
      times(both.of[half] ^ signs, static_cast<float>(block.d), 128, scale + 8 * half);
  }
  HWY_INLINE void decode_grouped(const IQ4_XS& block) {
    std::uint32_t packed;  // nibbles, then pairs of bits: spread to a byte each
    std::memcpy(&packed, block.scales_low, sizeof packed);
    std::uint64_t low = packed, high = block.scales_high;
    low = (low | low << 16) & 0x0000ffff0000ffffU;
    low = (low | low << 8) & 0x00ff00ff00ff00ffU;
    low = (low | low << 4) & low_nibbles;
    high = (high | high << 24) & 0x000000ff000000ffU;
    high = (high | high << 12) & 0x000f000f000f000fU;
    high = (high | high << 6) & 0x0303030303030303U;
    times(low | high << 4, static_cast<float>(block.d), 32, scale);
  }
};

/// A run of weights. Where `evens_first`, the numbers 0, 2, 4, ... 30 come before 1, 3, 5, ... 31.
struct Run {
  Bf16s numbers[vectors];
};
template <class Block>
inline constexpr bool evens_first =
    HWY_TARGET <= HWY_AVX3 && !std::is_same_v<Block, Q8_0> && !std::is_same_v<Block, Q6_K>;

/// Run i of `scales`, whose integers these are.
template <class Block>
HWY_INLINE Run run_of_integers(const std::int8_t* integers, const Scales<Block>& scales, int i) {
  constexpr hn::RebindToSigned<decltype(floats)> ints;
  constexpr hn::Rebind<std::int8_t, decltype(floats)> narrow;
  const auto weights = [&](int first) HWY_ATTR {
    const Floats numbers = hn::ConvertTo(floats, hn::PromoteTo(ints, hn::LoadU(narrow, integers + first)));
    return scales.weights(numbers, (i * run + first) / Scales<Block>::group);
  };
  Run result;
  for (int v = 0; v < vectors; ++v)
    result.numbers[v] = hn::OrderedDemote2To(bf16s, weights(v * lanes), weights(v * lanes + lanes / 2));
  return result;
}

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
HWY_INLINE Run run_by_integers(const Block& block, const Scales<Block>& scales, int in_block, int i) {
  alignas(16) std::int8_t integers[run];
  hn::Store(integers_of(block, 2 * in_block), signed_bytes, integers);
  hn::Store(integers_of(block, 2 * in_block + 1), signed_bytes, integers + half_run);
  return run_of_integers(integers, scales, i);
}

#if HWY_TARGET <= HWY_AVX3
// A code picks its weight from the 16 or 32 that its group can have: one multiplication for 16 codes, one lookup for a
// run. In a word of two bytes lie the codes of two neighbours: shifted by a byte in the upper half of the vector, they
// come evens first.

constexpr hn::Repartition<std::uint16_t, decltype(bf16s)> words;
using Words = hn::Vec<decltype(words)>;

/// A vector in memory whose word i is `word(i)`.
template <auto word>
HWY_INLINE Words constant() {
  struct Table {
    alignas(64) std::uint16_t of[lanes];
    constexpr Table() {
      for (int i = 0; i < lanes; ++i) of[i] = static_cast<std::uint16_t>(word(i));
    }
  };
  static constexpr Table table;
  return hn::Load(words, table.of);
}
// Words of a vector by their place.
constexpr int quarter_nibble(int i) { return i * 4 / lanes * 4; }       // 0, 4, 8, 12 in the quarters
constexpr int half_byte(int i) { return i * 2 / lanes * 8; }            // 0, 8 in the halves
constexpr int second_group(int i) { return i * 4 / lanes % 2 * 16; }    // 0, 16, 0, 16 in the quarters
constexpr int even_then_odd(int i) { return i < lanes / 2 ? 2 * i : 2 * i + 1 - lanes; }
constexpr int alternating(int i) { return i % 2 * lanes / 2 + i / 2; }  // undoes even_then_odd

/// The nibbles of 16 bytes; above each lie its neighbours.
HWY_INLINE Words nibbles_of_16(const std::uint8_t* from) {
  return hn::Shr(hn::BitCast(words, hn::LoadDup128(hn::Repartition<std::uint8_t, decltype(bf16s)>(), from)),
                 constant<quarter_nibble>());
}
/// 32 bytes; above the evens lie the odds.
HWY_INLINE Words words_of_32(const std::uint8_t* from) {
  const auto both = _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  return hn::Shr(Words{both}, constant<half_byte>());
}
HWY_INLINE Words masked(Words from, int mask) {
  return hn::And(from, hn::Set(words, static_cast<std::uint16_t>(mask)));
}
/// Bit `bit` of each word as bit `to`, alone.
HWY_INLINE Words bit_moved(Words from, int bit, int to) {
  const Words moved = bit < to ? hn::ShiftLeftSame(from, to - bit) : hn::ShiftRightSame(from, bit - to);
  return masked(moved, 1 << to);
}

/// table[codes % 32]
HWY_INLINE Bf16s lookup(Bf16s table, Words codes) {
  return hn::BitCast(bf16s, Words{_mm512_permutexvar_epi16(codes.raw, hn::BitCast(words, table).raw)});
}
/// 0, 2, 4, ... 1, 3, 5, ... of the numbers of a vector.
HWY_INLINE Bf16s evens_before_odds(Bf16s numbers) { return lookup(numbers, constant<even_then_odd>()); }
/// Undoes evens_before_odds.
HWY_INLINE Bf16s interleaved(Bf16s numbers) { return lookup(numbers, constant<alternating>()); }
/// 16 where the bit of a number is set.
HWY_INLINE Words fifth_bits(const std::uint8_t* high) {
  const Words bits = hn::IfThenElseZero(hn::LoadMaskBits(words, high), hn::Set(words, std::uint16_t{16}));
  return hn::BitCast(words, evens_before_odds(hn::BitCast(bf16s, bits)));
}

// Codes of run i of a block; the second of two groups in a run looks 16 further, and where 16 weights stand twice in
// the table a fifth bit means nothing.
HWY_INLINE Words words_of(const Q4_0& b, int) { return nibbles_of_16(b.nibbles); }
HWY_INLINE Words words_of(const Q4_1& b, int) { return nibbles_of_16(b.nibbles); }
HWY_INLINE Words words_of(const IQ4_NL& b, int) { return nibbles_of_16(b.nibbles); }
HWY_INLINE Words words_of(const IQ4_XS& b, int i) { return nibbles_of_16(b.nibbles + i * 16); }
HWY_INLINE Words words_of(const Q5_0& b, int) {
  return hn::Or(masked(nibbles_of_16(b.nibbles), 15), fifth_bits(b.high));
}
HWY_INLINE Words words_of(const Q5_1& b, int) {
  return hn::Or(masked(nibbles_of_16(b.nibbles), 15), fifth_bits(b.high));
}
HWY_INLINE Words words_of(const Q4_K& b, int i) {
  return hn::ShiftRightSame(words_of_32(b.nibbles + i / 2 * 32), i % 2 * 4);
}
HWY_INLINE Words words_of(const Q5_K& b, int i) {
  const Words low = hn::ShiftRightSame(words_of_32(b.nibbles + i / 2 * 32), i % 2 * 4);
  return hn::Or(masked(low, 15), bit_moved(words_of_32(b.high), i, 4));
}
HWY_INLINE Words words_of(const Q2_K& b, int i) {
  const Words codes = hn::ShiftRightSame(words_of_32(b.pairs + i / 4 * 32), i % 4 * 2);
  return hn::Or(masked(codes, 3), constant<second_group>());
}
HWY_INLINE Words words_of(const Q3_K& b, int i) {
  const Words low = hn::ShiftRightSame(words_of_32(b.pairs + i / 4 * 32), i % 4 * 2);
  const Words codes = hn::Or(masked(low, 3), bit_moved(words_of_32(b.high), i, 2));
  return hn::Or(codes, constant<second_group>());
}

/// value<Block>(code) for 16 codes.
template <class Block, int First>
HWY_INLINE Floats values_from() {
  struct Table {
    alignas(64) float of[16];
    constexpr Table() {
      for (int code = 0; code < 16; ++code) of[code] = static_cast<float>(value<Block>(First + code));
    }
  };
  static constexpr Table table;
  return hn::Load(floats, table.of);
}

template <class Block>
HWY_INLINE Run run_of(const Block& block, const Scales<Block>& scales, int in_block, int i) {
  if constexpr (evens_first<Block>) {
    constexpr int groups = run / Scales<Block>::group;  // of a run
    constexpr bool has_five_bits =
        std::is_same_v<Block, Q5_0> || std::is_same_v<Block, Q5_1> || std::is_same_v<Block, Q5_K>;
    const Floats first = scales.weights(values_from<Block, 0>(), i * groups);
    Floats second = first;
    if constexpr (groups == 2) second = scales.weights(values_from<Block, 0>(), i * groups + 1);
    if constexpr (has_five_bits) second = scales.weights(values_from<Block, 16>(), i);
    return {lookup(hn::OrderedDemote2To(bf16s, first, second), words_of(block, in_block))};
  } else {
    return run_by_integers(block, scales, in_block, i);
  }
}
#else
template <class Block>
HWY_INLINE Run run_of(const Block& block, const Scales<Block>& scales, int in_block, int i) {
  return run_by_integers(block, scales, in_block, i);
}
#endif
HWY_INLINE Run run_of(const Q8_0& block, const Scales<Q8_0>& scales, int, int i) {
  return run_of_integers(block.quants, scales, i);
}

/// Run i of a chunk that begins at `blocks`.
template <class Block>
HWY_INLINE Run run_at(const Block* blocks, const Scales<Block>& scales, int i) {
  constexpr int runs = Block::elements / run;
  return run_of(blocks[i / runs], scales, i % runs, i);
}

/// Numbers in the order of Block's runs; vector v of a run.
template <class Block>
HWY_INLINE Bf16s load_as_in(const bf16* from) {
#if HWY_TARGET <= HWY_AVX3
  if constexpr (evens_first<Block>) return evens_before_odds(load(from));
#endif
  return load(from);
}
/// Stores a run in the order of its numbers.
template <class Block>
HWY_INLINE void store_in_order(const Run& numbers, bf16* to) {
#if HWY_TARGET <= HWY_AVX3
  if constexpr (evens_first<Block>) return store(interleaved(numbers.numbers[0]), to);
#endif
  for (int v = 0; v < vectors; ++v) store(numbers.numbers[v], to + v * lanes);
}

}  // namespace
}  // namespace grist::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
