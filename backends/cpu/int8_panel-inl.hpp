// Blocks of 16 rows (core/blocks.hpp) as bytes that VNNI multiplies: a vector holds four neighbours of each row, so
// that a lane is a row, of scales too. Included where HWY_TARGET has AVX-512 with VNNI.
#include <grist/backends/cpu/block_traits.hpp>
#include <grist/core/interleaved_rows.hpp>

#include <immintrin.h>

HWY_BEFORE_NAMESPACE();
namespace grist::cpu::HWY_NAMESPACE {
namespace {

using Ints = __m512i;  // a word of four bytes for each of 16 rows
using Floats = __m512;
typedef std::uint32_t UnsignedWords __attribute__((vector_size(64)));

constexpr int panel_rows = 16;
static_assert(panel_rows == interleaved_rows);
constexpr int chunk = 256;  // numbers of a row in a panel: whole blocks of any format

/// By how much codes, which are unsigned, are above the integers of a format: a power of two.
template <class Block>
inline constexpr int code_offset = 128;
template <>
inline constexpr int code_offset<Q4_0> = 8;
template <>
inline constexpr int code_offset<Q5_0> = 16;
template <>
inline constexpr int code_offset<Q3_K> = 4;
template <>
inline constexpr int code_offset<Q6_K> = 32;

/// Number k of row r is scale[k / group] (code - code_offset), or where a format has least scale[k / group] code -
/// least[k / group].
template <class Block>
struct SixteenRows {
  static constexpr int group = scale_group<Block>;
  Ints codes[chunk / 4];
  Floats scale[chunk / group];
  Floats least[has_least<Block> ? chunk / group : 1];
};

// ------------------------------------------------------------------------------------------------- words of 16 rows

/// 16 bytes of each of 16 rows: word j of all rows in of[j].
struct Words {
  Ints of[4];
};

/// load(row): the bytes of a row, a __m128i.
template <class Load>
HWY_INLINE Words words_of(Load&& load) {
  Ints four[4];  // rows m, m + 4, m + 8, m + 12 in the quarters of four[m]
#pragma GCC unroll 4
  for (int m = 0; m < 4; ++m) {
    four[m] = _mm512_castsi128_si512(load(m));
    four[m] = _mm512_inserti32x4(four[m], load(m + 4), 1);
    four[m] = _mm512_inserti32x4(four[m], load(m + 8), 2);
    four[m] = _mm512_inserti32x4(four[m], load(m + 12), 3);
  }
  const Ints low01 = _mm512_unpacklo_epi32(four[0], four[1]), low23 = _mm512_unpacklo_epi32(four[2], four[3]);
  const Ints high01 = _mm512_unpackhi_epi32(four[0], four[1]), high23 = _mm512_unpackhi_epi32(four[2], four[3]);
  return {{_mm512_unpacklo_epi64(low01, low23), _mm512_unpackhi_epi64(low01, low23),
           _mm512_unpacklo_epi64(high01, high23), _mm512_unpackhi_epi64(high01, high23)}};
}

/// Of rows that lie `stride` bytes apart.
HWY_INLINE Words words_at(const void* first, Index stride) {
  const auto* const from = static_cast<const std::byte*>(first);
  return words_of([&](int row) HWY_ATTR {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + row * stride));
  });
}

HWY_INLINE Ints every_byte(int value) { return _mm512_set1_epi8(static_cast<char>(value)); }
HWY_INLINE Ints right(Ints words, int by) {
  return __builtin_bit_cast(Ints, __builtin_bit_cast(UnsignedWords, words) >> by);
}
HWY_INLINE Ints left(Ints words, int by) {
  return __builtin_bit_cast(Ints, __builtin_bit_cast(UnsignedWords, words) << by);
}
/// mask & (byte >> shift) of each byte; what crosses from a neighbour is masked.
HWY_INLINE Ints bits(Ints words, int shift, int mask) {
  return _mm512_and_si512(right(words, shift), every_byte(mask));
}
HWY_INLINE Ints with(Ints bytes, Ints more) { return _mm512_or_si512(bytes, more); }

/// Byte i of each word as a number.
HWY_INLINE Floats byte_of(Ints words, int i) {
  return _mm512_cvtepi32_ps(_mm512_and_si512(right(words, 8 * i), _mm512_set1_epi32(255)));
}
HWY_INLINE Floats half_at(Ints words, int bit) {
  return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(right(words, bit)));
}
/// The half in the low or the high bytes of each word as a number.
HWY_INLINE Floats low_half(Ints words) { return half_at(words, 0); }
HWY_INLINE Floats high_half(Ints words) { return half_at(words, 16); }
HWY_INLINE Floats negative(Floats x) { return _mm512_sub_ps(_mm512_setzero_ps(), x); }

/// 16 where bit 4 j + i of each word is set, in byte i.
HWY_INLINE Ints fifth_bits(Ints high, int j) {
  const Ints byte = _mm512_add_epi32(_mm512_set1_epi32(j / 2 * 0x01010101),
                                     _mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0));
  const auto set = _mm512_test_epi8_mask(_mm512_shuffle_epi8(high, byte), _mm512_set1_epi32(0x08040201 << j % 2 * 4));
  return _mm512_maskz_mov_epi8(set, every_byte(16));
}

/// 128 + iq4_value of each byte.
HWY_INLINE Ints iq4_codes(Ints nibbles) {
  struct Table {
    alignas(16) std::uint8_t of[16];
    constexpr Table() {
      for (int code = 0; code < 16; ++code) of[code] = static_cast<std::uint8_t>(128 + iq4_value(code));
    }
  };
  static constexpr Table table;
  return _mm512_shuffle_epi8(
      _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(table.of))), nibbles);
}

// ------------------------------------------------------------------------------------------------- blocks
// Where a block of 16 rows lies. words(offset): 16 bytes from there on; word(offset), half(offset): 4 and 2 bytes.

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

/// In interleaved rows (core/interleaved_rows.hpp).
template <class Block>
struct Interleaved {
  const Block* first;

  [[nodiscard]] HWY_INLINE Words words(Index offset) const {
    return {{word(offset), word(offset + 4), word(offset + 8), word(offset + 12)}};
  }
  [[nodiscard]] HWY_INLINE Ints word(Index offset) const { return _mm512_loadu_si512(at(offset)); }
  [[nodiscard]] HWY_INLINE Floats half(Index offset) const {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at(offset))));
  }

private:
  [[nodiscard]] HWY_INLINE const std::byte* at(Index offset) const {
    return reinterpret_cast<const std::byte*>(first) + panel_rows * offset;
  }
};

// unpack(from, first_run, to): the blocks are the runs from `first_run` on.

template <class From>
HWY_INLINE void unpack(const From& from, int first_run, SixteenRows<Q8_0>& to) {
  for (int half = 0; half < 2; ++half) {
    const Words quants = from.words(offsetof(Q8_0, quants) + 16 * half);
    for (int j = 0; j < 4; ++j)
      to.codes[8 * first_run + 4 * half + j] = _mm512_xor_si512(quants.of[j], every_byte(0x80));
  }
  to.scale[first_run] = from.half(offsetof(Q8_0, d));
}

/// Blocks of 32 with 16 bytes of nibbles: their codes are code(nibbles, word of the run).
template <class From, class Block, class Code>
HWY_INLINE void unpack_nibbles(const From& from, int first_run, SixteenRows<Block>& to, Code&& code) {
  const Words nibbles = from.words(offsetof(Block, nibbles));
  for (int half = 0; half < 2; ++half)
    for (int j = 0; j < 4; ++j)
      to.codes[8 * first_run + 4 * half + j] = code(bits(nibbles.of[j], 4 * half, 15), 4 * half + j);
}
template <class From>
HWY_INLINE void unpack_codes(const From& from, int first_run, SixteenRows<Q4_0>& to) {
  unpack_nibbles(from, first_run, to, [](Ints nibbles, int) HWY_ATTR { return nibbles; });
}
template <class From>
HWY_INLINE void unpack_codes(const From& from, int first_run, SixteenRows<IQ4_NL>& to) {
  unpack_nibbles(from, first_run, to, [](Ints nibbles, int) HWY_ATTR { return iq4_codes(nibbles); });
}
/// Blocks of a scale and nibbles, 18 bytes: eight have their scales in 128 bytes, from which each row's come at once.
template <class Block>
  requires(sizeof(Block) == 18)
HWY_INLINE void unpack_eight(const Block* b, Index stride, SixteenRows<Block>& to) {
  for (int i = 0; i < 8; ++i) unpack_codes(Apart<Block>{b + i, stride}, i, to);
  const Ints places = _mm512_castsi128_si512(_mm_set_epi16(63, 54, 45, 36, 27, 18, 9, 0));  // counted in halves
  const Words scales = words_of([&](int row) HWY_ATTR {
    const std::byte* const from = reinterpret_cast<const std::byte*>(b) + row * stride;
    return _mm512_castsi512_si128(
        _mm512_permutex2var_epi16(_mm512_loadu_si512(from), places, _mm512_loadu_si512(from + 64)));
  });
  for (int pair = 0; pair < 4; ++pair) {
    to.scale[2 * pair] = low_half(scales.of[pair]);
    to.scale[2 * pair + 1] = high_half(scales.of[pair]);
  }
}
template <class From, class Block>
  requires(sizeof(Block) == 18)
HWY_INLINE void unpack(const From& from, int first_run, SixteenRows<Block>& to) {
  unpack_codes(from, first_run, to);
  to.scale[first_run] = from.half(offsetof(Block, d));
}
template <class From>
HWY_INLINE void unpack(const From& from, int first_run, SixteenRows<Q4_1>& to) {
  unpack_nibbles(from, first_run, to, [](Ints nibbles, int) HWY_ATTR { return nibbles; });
  const Ints ends = from.word(offsetof(Q4_1, d));
  to.scale[first_run] = low_half(ends);
  to.least[first_run] = negative(high_half(ends));
}
template <class From>
HWY_INLINE void unpack(const From& from, int first_run, SixteenRows<Q5_0>& to) {
  const Ints high = from.word(offsetof(Q5_0, high));
  unpack_nibbles(from, first_run, to,
                 [&](Ints nibbles, int j) HWY_ATTR { return with(nibbles, fifth_bits(high, j)); });
  to.scale[first_run] = from.half(offsetof(Q5_0, d));
}
template <class From>
HWY_INLINE void unpack(const From& from, int first_run, SixteenRows<Q5_1>& to) {
  const Words head = from.words(offsetof(Q5_1, d));
  unpack_nibbles(from, first_run, to,
                 [&](Ints nibbles, int j) HWY_ATTR { return with(nibbles, fifth_bits(head.of[1], j)); });
  to.scale[first_run] = low_half(head.of[0]);
  to.least[first_run] = negative(high_half(head.of[0]));
}

template <class From>
HWY_INLINE void unpack(const From& from, int, SixteenRows<Q2_K>& to) {
  for (int half = 0; half < 2; ++half)
    for (int start = 0; start < 32; start += 16) {
      const Words pairs = from.words(offsetof(Q2_K, pairs) + half * 32 + start);
      for (int k = 0; k < 4; ++k)
        for (int j = 0; j < 4; ++j) to.codes[half * 32 + k * 8 + start / 4 + j] = bits(pairs.of[j], 2 * k, 3);
    }
  const Words scales = from.words(offsetof(Q2_K, scales));
  const Ints ends = from.word(offsetof(Q2_K, d));
  for (int g = 0; g < 16; ++g) {
    to.scale[g] = _mm512_mul_ps(low_half(ends), byte_of(bits(scales.of[g / 4], 0, 15), g % 4));
    to.least[g] = _mm512_mul_ps(high_half(ends), byte_of(bits(scales.of[g / 4], 4, 15), g % 4));
  }
}

template <class From>
HWY_INLINE void unpack(const From& from, int, SixteenRows<Q3_K>& to) {
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
    to.scale[g] = _mm512_mul_ps(d, _mm512_sub_ps(scale, _mm512_set1_ps(32)));
  }
}

/// The ends and the eight scales of Q4_K and Q5_K, the first 16 bytes of their blocks.
template <class From, class Block>
HWY_INLINE void unpack_scales_of_eight(const From& from, SixteenRows<Block>& to) {
  const Words head = from.words(offsetof(Block, d));
  const Ints scales[] = {bits(head.of[1], 0, 63), with(bits(head.of[3], 0, 15), bits(head.of[1], 2, 0x30))};
  const Ints leasts[] = {bits(head.of[2], 0, 63), with(bits(head.of[3], 4, 15), bits(head.of[2], 2, 0x30))};
  for (int g = 0; g < 8; ++g) {
    to.scale[g] = _mm512_mul_ps(low_half(head.of[0]), byte_of(scales[g / 4], g % 4));
    to.least[g] = _mm512_mul_ps(high_half(head.of[0]), byte_of(leasts[g / 4], g % 4));
  }
}
template <class From>
HWY_INLINE void unpack(const From& from, int, SixteenRows<Q4_K>& to) {
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
HWY_INLINE void unpack(const From& from, int, SixteenRows<Q5_K>& to) {
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
HWY_INLINE void unpack(const From& from, int, SixteenRows<Q6_K>& to) {
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
    const Ints scale = _mm512_srai_epi32(left(scales.of[g / 4], 24 - g % 4 * 8), 24);
    to.scale[g] = _mm512_mul_ps(d, _mm512_cvtepi32_ps(scale));
  }
}

template <class From>
HWY_INLINE void unpack(const From& from, int, SixteenRows<IQ4_XS>& to) {
  const Words head = from.words(offsetof(IQ4_XS, d));
  for (int run = 0; run < 8; ++run) {
    const Words nibbles = from.words(offsetof(IQ4_XS, nibbles) + 16 * run);
    for (int half = 0; half < 2; ++half)
      for (int j = 0; j < 4; ++j)
        to.codes[8 * run + 4 * half + j] = iq4_codes(bits(nibbles.of[j], 4 * half, 15));
    const Ints low = bits(head.of[1], 4 * run, 15), upper = bits(head.of[0], 16 + 2 * run, 3);
    const Floats scale = byte_of(with(low, left(upper, 4)), 0);
    to.scale[run] = _mm512_mul_ps(low_half(head.of[0]), _mm512_sub_ps(scale, _mm512_set1_ps(32)));
  }
}

}  // namespace
}  // namespace grist::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
