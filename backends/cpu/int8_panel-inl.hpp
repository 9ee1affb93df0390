// Blocks of rows (core/blocks.hpp) as bytes to multiply: a vector holds four neighbours of each row, so that a lane is
// a row, of scales too. Included by int8_products.cpp for each HWY_TARGET with AVX2 or AVX-512.
#include <grist/backends/cpu/block_traits.hpp>
#include <grist/core/interleaved_rows.hpp>

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace grist::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

constexpr hn::ScalableTag<std::int32_t> ints;  // a word of four bytes for each row
constexpr hn::RebindToUnsigned<decltype(ints)> unsigned_ints;
constexpr hn::RebindToFloat<decltype(ints)> floats;
constexpr hn::Repartition<std::uint8_t, decltype(ints)> bytes;
constexpr hn::Repartition<std::int8_t, decltype(ints)> signed_bytes;
using Ints = hn::Vec<decltype(ints)>;
using Floats = hn::Vec<decltype(floats)>;

constexpr int panel_rows = HWY_LANES(std::int32_t);
static_assert(interleaved_rows % panel_rows == 0);
constexpr int chunk = 256;  // numbers of a row in a panel: whole blocks of any format

/// Whether an instruction multiplies unsigned codes with a token's signed bytes and sums four in 32 bits (VNNI).
constexpr bool has_vnni = HWY_TARGET <= HWY_AVX3_DL;

/// Bits of codes, which are unsigned: without a least they are 2^(code_bits - 1) above the integers of a format.
template <class Block>
inline constexpr int code_bits = 8;
template <>
inline constexpr int code_bits<Q4_0> = 4;
template <>
inline constexpr int code_bits<Q4_1> = 4;
template <>
inline constexpr int code_bits<Q5_0> = 5;
template <>
inline constexpr int code_bits<Q5_1> = 5;
template <>
inline constexpr int code_bits<Q2_K> = 2;
template <>
inline constexpr int code_bits<Q3_K> = 3;
template <>
inline constexpr int code_bits<Q4_K> = 4;
template <>
inline constexpr int code_bits<Q5_K> = 5;
template <>
inline constexpr int code_bits<Q6_K> = 6;

/// Without VNNI two products are summed in 16 bits, which codes of 8 bits would exceed: these stay signed, and their
/// signs go to the tokens.
template <class Block>
inline constexpr bool has_signed_codes = !has_vnni && code_bits<Block> == 8;

/// Number k of row r is scale[k / group] (code - 2^(code_bits - 1)), or where a format has least
/// scale[k / group] code - least[k / group]; with signed codes scale[k / group] code.
template <class Block>
struct RowPanel {
  static constexpr int group = scale_group<Block>;
  Ints codes[chunk / 4];
  Floats scale[chunk / group];
  Floats least[has_least<Block> ? chunk / group : 1];
};

// ------------------------------------------------------------------------------------------------- words of rows

/// 16 bytes of each row: word j of all rows in of[j].
struct Words {
  Ints of[4];
};

/// load(row): the bytes of a row, of 128 bits.
template <class Load>
HWY_INLINE Words words_of(Load&& load) {
  Ints four[4];  // rows m, m + 4, m + 8, m + 12 in the quarters of four[m]
#pragma GCC unroll 4
  for (int m = 0; m < 4; ++m) {
    if constexpr (panel_rows == 16) {
      constexpr hn::Half<decltype(ints)> half;
      const auto low = hn::Combine(half, load(m + 4), load(m)), high = hn::Combine(half, load(m + 12), load(m + 8));
      four[m] = hn::Combine(ints, high, low);
    } else {
      four[m] = hn::Combine(ints, load(m + 4), load(m));
    }
  }
  constexpr hn::Repartition<std::int64_t, decltype(ints)> pairs;
  const auto low01 = hn::BitCast(pairs, hn::InterleaveLower(ints, four[0], four[1]));
  const auto low23 = hn::BitCast(pairs, hn::InterleaveLower(ints, four[2], four[3]));
  const auto high01 = hn::BitCast(pairs, hn::InterleaveUpper(ints, four[0], four[1]));
  const auto high23 = hn::BitCast(pairs, hn::InterleaveUpper(ints, four[2], four[3]));
  return {{hn::BitCast(ints, hn::InterleaveLower(pairs, low01, low23)),
           hn::BitCast(ints, hn::InterleaveUpper(pairs, low01, low23)),
           hn::BitCast(ints, hn::InterleaveLower(pairs, high01, high23)),
           hn::BitCast(ints, hn::InterleaveUpper(pairs, high01, high23))}};
}

/// Of rows that lie `stride` bytes apart.
HWY_INLINE Words words_at(const void* first, Index stride) {
  const auto* const from = static_cast<const std::byte*>(first);
  return words_of([&](int row) HWY_ATTR {
    return hn::LoadU(hn::FixedTag<std::int32_t, 4>(), reinterpret_cast<const std::int32_t*>(from + row * stride));
  });
}

HWY_INLINE Ints every_byte(int value) {
  return hn::BitCast(ints, hn::Set(bytes, static_cast<std::uint8_t>(value)));
}
HWY_INLINE Ints right(Ints words, int by) {
  return hn::BitCast(ints, hn::ShiftRightSame(hn::BitCast(unsigned_ints, words), by));
}
HWY_INLINE Ints left(Ints words, int by) { return hn::ShiftLeftSame(words, by); }
/// mask & (byte >> shift) of each byte; what crosses from a neighbour is masked.
HWY_INLINE Ints bits(Ints words, int shift, int mask) { return hn::And(right(words, shift), every_byte(mask)); }
HWY_INLINE Ints with(Ints low, Ints more) { return hn::Or(low, more); }

/// Byte i of each word as a number.
HWY_INLINE Floats byte_of(Ints words, int i) {
  return hn::ConvertTo(floats, hn::And(right(words, 8 * i), hn::Set(ints, 255)));
}
HWY_INLINE Floats half_at(Ints words, int bit) {
  constexpr hn::Rebind<std::uint16_t, decltype(ints)> narrow;
  constexpr hn::Rebind<hwy::float16_t, decltype(ints)> halves;
  const auto low = hn::TruncateTo(narrow, hn::BitCast(unsigned_ints, right(words, bit)));
  return hn::PromoteTo(floats, hn::BitCast(halves, low));
}
/// The half in the low or the high bytes of each word as a number.
HWY_INLINE Floats low_half(Ints words) { return half_at(words, 0); }
HWY_INLINE Floats high_half(Ints words) { return half_at(words, 16); }
HWY_INLINE Floats negative(Floats x) { return hn::Sub(hn::Zero(floats), x); }
HWY_INLINE Floats times(Floats x, Floats y) { return hn::Mul(x, y); }
HWY_INLINE Floats minus_32(Floats x) { return hn::Sub(x, hn::Set(floats, 32)); }

/// 16 where bit 4 j + i of each word is set, in byte i.
HWY_INLINE Ints fifth_bits(Ints high, int j) {
  alignas(16) static constexpr std::int32_t first[] = {0, 0x04040404, 0x08080808, 0x0c0c0c0c};
  const Ints byte = hn::Add(hn::LoadDup128(ints, first), hn::Set(ints, j / 2 * 0x01010101));
  const auto copied = hn::TableLookupBytes(hn::BitCast(bytes, high), hn::BitCast(bytes, byte));
  const auto bit = hn::BitCast(bytes, hn::Set(ints, 0x08040201 << j % 2 * 4));
  return hn::BitCast(ints, hn::IfThenElseZero(hn::TestBit(copied, bit), hn::Set(bytes, std::uint8_t{16})));
}

/// iq4_value of each byte, as a code of Block.
template <class Block>
HWY_INLINE Ints iq4_codes(Ints nibbles) {
  struct Table {
    alignas(16) std::uint8_t of[16];
    constexpr Table() {
      for (int code = 0; code < 16; ++code)
        of[code] = static_cast<std::uint8_t>((has_signed_codes<Block> ? 0 : 128) + iq4_value(code));
    }
  };
  static constexpr Table table;
  return hn::BitCast(ints, hn::TableLookupBytes(hn::LoadDup128(bytes, table.of), hn::BitCast(bytes, nibbles)));
}

// ------------------------------------------------------------------------------------------------- blocks
// Where a block of a panel's rows lies. words(offset): 16 bytes from there on; word(offset), half(offset): 4 and 2.

/// In rows `stride` bytes apart, of which nothing behind the block is read.
template <class Block>
struct Apart {
  const Block* first;
  Index stride;

  [[nodiscard]] HWY_INLINE Words words(Index offset) const {
    return words_at(reinterpret_cast<const std::byte*>(first) + offset, stride);
  }
  [[nodiscard]] HWY_INLINE Ints word(Index offset) const {
    return offset <= last ? words(offset).of[0] : words(last).of[(offset - last) / 4];
  }
  [[nodiscard]] HWY_INLINE Floats half(Index offset) const {
    return offset <= last ? low_half(words(offset).of[0]) : high_half(words(last).of[3]);
  }

private:
  static constexpr Index last = sizeof(Block) - 16;
};

/// In interleaved rows (core/interleaved_rows.hpp), of which `lane` is the panel's first.
template <class Block>
struct Interleaved {
  const Block* first;
  int lane;

  [[nodiscard]] HWY_INLINE Words words(Index offset) const {
    return {{word(offset), word(offset + 4), word(offset + 8), word(offset + 12)}};
  }
  [[nodiscard]] HWY_INLINE Ints word(Index offset) const {
    return hn::LoadU(ints, reinterpret_cast<const std::int32_t*>(at(offset, 4)));
  }
  [[nodiscard]] HWY_INLINE Floats half(Index offset) const {
    constexpr hn::Rebind<hwy::float16_t, decltype(ints)> halves;
    return hn::PromoteTo(floats, hn::LoadU(halves, reinterpret_cast<const hwy::float16_t*>(at(offset, 2))));
  }

private:
  [[nodiscard]] HWY_INLINE const std::byte* at(Index offset, Index width) const {
    return reinterpret_cast<const std::byte*>(first) + interleaved_rows * offset + width * lane;
  }
};

// unpack(from, first_run, to): the blocks are the runs from `first_run` on.

template <class From>
HWY_INLINE void unpack(const From& from, int first_run, RowPanel<Q8_0>& to) {
  for (int half = 0; half < 2; ++half) {
    const Words quants = from.words(offsetof(Q8_0, quants) + 16 * half);
    for (int j = 0; j < 4; ++j)
      to.codes[8 * first_run + 4 * half + j] =
          has_signed_codes<Q8_0> ? quants.of[j] : hn::Xor(quants.of[j], every_byte(0x80));
  }
  to.scale[first_run] = from.half(offsetof(Q8_0, d));
}

/// Blocks of 32 with 16 bytes of nibbles: their codes are code(nibbles, word of the run).
template <class From, class Block, class Code>
HWY_INLINE void unpack_nibbles(const From& from, int first_run, RowPanel<Block>& to, Code&& code) {
  const Words nibbles = from.words(offsetof(Block, nibbles));
  for (int half = 0; half < 2; ++half)
    for (int j = 0; j < 4; ++j)
      to.codes[8 * first_run + 4 * half + j] = code(bits(nibbles.of[j], 4 * half, 15), 4 * half + j);
}
template <class From>
HWY_INLINE void unpack_codes(const From& from, int first_run, RowPanel<Q4_0>& to) {
  unpack_nibbles(from, first_run, to, [](Ints nibbles, int) HWY_ATTR { return nibbles; });
}
template <class From>
HWY_INLINE void unpack_codes(const From& from, int first_run, RowPanel<IQ4_NL>& to) {
  unpack_nibbles(from, first_run, to, [](Ints nibbles, int) HWY_ATTR { return iq4_codes<IQ4_NL>(nibbles); });
}
#if HWY_TARGET <= HWY_AVX3
/// Blocks of a scale and nibbles, 18 bytes: eight have their scales in 128 bytes, from which each row's come at once.
template <class Block>
  requires(sizeof(Block) == 18)
HWY_INLINE void unpack_eight(const Block* b, Index stride, RowPanel<Block>& to) {
  for (int i = 0; i < 8; ++i) unpack_codes(Apart<Block>{b + i, stride}, i, to);
  const auto places = _mm512_castsi128_si512(_mm_set_epi16(63, 54, 45, 36, 27, 18, 9, 0));  // counted in halves
  const Words scales = words_of([&](int row) HWY_ATTR {
    const std::byte* const from = reinterpret_cast<const std::byte*>(b) + row * stride;
    return hn::Vec<hn::FixedTag<std::int32_t, 4>>{_mm512_castsi512_si128(
        _mm512_permutex2var_epi16(_mm512_loadu_si512(from), places, _mm512_loadu_si512(from + 64)))};
  });
  for (int pair = 0; pair < 4; ++pair) {
    to.scale[2 * pair] = low_half(scales.of[pair]);
    to.scale[2 * pair + 1] = high_half(scales.of[pair]);
  }
}
#endif
template <class From, class Block>
  requires(sizeof(Block) == 18)
HWY_INLINE void unpack(const From& from, int first_run, RowPanel<Block>& to) {
  unpack_codes(from, first_run, to);
  to.scale[first_run] = from.half(offsetof(Block, d));
}
template <class From>
HWY_INLINE void unpack(const From& from, int first_run, RowPanel<Q4_1>& to) {
  unpack_nibbles(from, first_run, to, [](Ints nibbles, int) HWY_ATTR { return nibbles; });
  const Ints ends = from.word(offsetof(Q4_1, d));
  to.scale[first_run] = low_half(ends);
  to.least[first_run] = negative(high_half(ends));
}
template <class From>
HWY_INLINE void unpack(const From& from, int first_run, RowPanel<Q5_0>& to) {
  const Ints high = from.word(offsetof(Q5_0, high));
  unpack_nibbles(from, first_run, to,
                 [&](Ints nibbles, int j) HWY_ATTR { return with(nibbles, fifth_bits(high, j)); });
  to.scale[first_run] = from.half(offsetof(Q5_0, d));
}
template <class From>
HWY_INLINE void unpack(const From& from, int first_run, RowPanel<Q5_1>& to) {
  const Words head = from.words(offsetof(Q5_1, d));
  unpack_nibbles(from, first_run, to,
                 [&](Ints nibbles, int j) HWY_ATTR { return with(nibbles, fifth_bits(head.of[1], j)); });
  to.scale[first_run] = low_half(head.of[0]);
  to.least[first_run] = negative(high_half(head.of[0]));
}

template <class From>
HWY_INLINE void unpack(const From& from, int, RowPanel<Q2_K>& to) {
  for (int half = 0; half < 2; ++half)
    for (int start = 0; start < 32; start += 16) {
      const Words pairs = from.words(offsetof(Q2_K, pairs) + half * 32 + start);
      for (int k = 0; k < 4; ++k)
        for (int j = 0; j < 4; ++j) to.codes[half * 32 + k * 8 + start / 4 + j] = bits(pairs.of[j], 2 * k, 3);
    }
  const Words scales = from.words(offsetof(Q2_K, scales));
  const Ints ends = from.word(offsetof(Q2_K, d));
  for (int g = 0; g < 16; ++g) {
    to.scale[g] = times(low_half(ends), byte_of(bits(scales.of[g / 4], 0, 15), g % 4));
    to.least[g] = times(high_half(ends), byte_of(bits(scales.of[g / 4], 4, 15), g % 4));
  }
}

template <class From>
HWY_INLINE void unpack(const From& from, int, RowPanel<Q3_K>& to) {
  for (int start = 0; start < 32; start += 16) {
    const Words high = from.words(offsetof(Q3_K, high) + start);
    for (int half = 0; half < 2; ++half) {
      const Words pairs = from.words(offsetof(Q3_K, pairs) + half * 32 + start);
      for (int k = 0; k < 4; ++k)
        for (int j = 0; j < 4; ++j)
          to.codes[half * 32 + k * 8 + start / 4 + j] =
              with(bits(pairs.of[j], 2 * k, 3), left(bits(high.of[j], 4 * half + k, 1), 2));
    }
  }
  const Words scales = from.words(offsetof(Q3_K, scales) - 4);  // in words 1, 2 and 3
  const Floats d = from.half(offsetof(Q3_K, d));
  for (int g = 0; g < 16; ++g) {
    const Ints low = bits(scales.of[1 + g / 4 % 2], g / 8 * 4, 15), upper = bits(scales.of[3], g / 4 * 2, 3);
    const Floats scale = byte_of(with(low, left(upper, 4)), g % 4);
    to.scale[g] = times(d, minus_32(scale));
  }
}

/// The ends and the eight scales of Q4_K and Q5_K, the first 16 bytes of their blocks.
template <class From, class Block>
HWY_INLINE void unpack_scales_of_eight(const From& from, RowPanel<Block>& to) {
  const Words head = from.words(offsetof(Block, d));
  const Ints scales[] = {bits(head.of[1], 0, 63), with(bits(head.of[3], 0, 15), bits(head.of[1], 2, 0x30))};
  const Ints leasts[] = {bits(head.of[2], 0, 63), with(bits(head.of[3], 4, 15), bits(head.of[2], 2, 0x30))};
  for (int g = 0; g < 8; ++g) {
    to.scale[g] = times(low_half(head.of[0]), byte_of(scales[g / 4], g % 4));
    to.least[g] = times(high_half(head.of[0]), byte_of(leasts[g / 4], g % 4));
  }
}
template <class From>
HWY_INLINE void unpack(const From& from, int, RowPanel<Q4_K>& to) {
  for (int k = 0; k < 4; ++k)
    for (int start = 0; start < 32; start += 16) {
      const Words nibbles = from.words(offsetof(Q4_K, nibbles) + 32 * k + start);
      for (int half = 0; half < 2; ++half)
        for (int j = 0; j < 4; ++j)
          to.codes[16 * k + 8 * half + start / 4 + j] = bits(nibbles.of[j], 4 * half, 15);
    }
  unpack_scales_of_eight(from, to);
}
template <class From>
HWY_INLINE void unpack(const From& from, int, RowPanel<Q5_K>& to) {
  for (int start = 0; start < 32; start += 16) {
    const Words high = from.words(offsetof(Q5_K, high) + start);
    for (int k = 0; k < 4; ++k) {
      const Words nibbles = from.words(offsetof(Q5_K, nibbles) + 32 * k + start);
      for (int half = 0; half < 2; ++half)
        for (int j = 0; j < 4; ++j)
          to.codes[16 * k + 8 * half + start / 4 + j] =
              with(bits(nibbles.of[j], 4 * half, 15), left(bits(high.of[j], 2 * k + half, 1), 4));
    }
  }
  unpack_scales_of_eight(from, to);
}

template <class From>
HWY_INLINE void unpack(const From& from, int, RowPanel<Q6_K>& to) {
  for (int half = 0; half < 2; ++half)
    for (int start = 0; start < 32; start += 16) {
      const Words high = from.words(offsetof(Q6_K, high) + 32 * half + start);
      const Words low[] = {from.words(offsetof(Q6_K, low) + 64 * half + start),
                           from.words(offsetof(Q6_K, low) + 64 * half + 32 + start)};
      for (int k = 0; k < 4; ++k)
        for (int j = 0; j < 4; ++j)
          to.codes[half * 32 + k * 8 + start / 4 + j] =
              with(bits(low[k % 2].of[j], k / 2 * 4, 15), left(bits(high.of[j], 2 * k, 3), 4));
    }
  const Words scales = from.words(offsetof(Q6_K, scales));
  const Floats d = from.half(offsetof(Q6_K, d));
  for (int g = 0; g < 16; ++g) {
    const Ints scale = hn::ShiftRight<24>(left(scales.of[g / 4], 24 - g % 4 * 8));
    to.scale[g] = times(d, hn::ConvertTo(floats, scale));
  }
}

template <class From>
HWY_INLINE void unpack(const From& from, int, RowPanel<IQ4_XS>& to) {
  const Words head = from.words(offsetof(IQ4_XS, d));
  for (int run = 0; run < 8; ++run) {
    const Words nibbles = from.words(offsetof(IQ4_XS, nibbles) + 16 * run);
    for (int half = 0; half < 2; ++half)
      for (int j = 0; j < 4; ++j)
        to.codes[8 * run + 4 * half + j] = iq4_codes<IQ4_XS>(bits(nibbles.of[j], 4 * half, 15));
    const Ints low = bits(head.of[1], 4 * run, 15), upper = bits(head.of[0], 16 + 2 * run, 3);
    const Floats scale = byte_of(with(low, left(upper, 4)), 0);
    to.scale[run] = times(low_half(head.of[0]), minus_32(scale));
  }
}

}  // namespace
}  // namespace grist::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
