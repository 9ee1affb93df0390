#include <grist/backends/cpu/int8_products.hpp>

#include <algorithm>
#include <bit>
#include <cstring>

// Vector code for AVX2, AVX-512 and AVX-512 with VNNI; other processors have none.
#define HWY_DISABLED_TARGETS                                                                             \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_ZEN4 | HWY_AVX3_SPR | HWY_AVX10_2 | HWY_NEON | HWY_NEON_BF16 |        \
   HWY_ALL_SVE | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE <grist/backends/cpu/int8_products.cpp>
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#ifndef GRIST_INT8_PRODUCTS  // once for all processors
#define GRIST_INT8_PRODUCTS
#if HWY_ARCH_X86
#include <cpuid.h>
#endif
namespace grist::cpu {
namespace {

struct Processor {
  bool has_bf16_tiles = false, is_intel = false;
};
/// Asked once: a virtual machine answers slowly.
const Processor& processor() {
  static const Processor here = [] {
    Processor p;
#if HWY_ARCH_X86
    unsigned a = 0, b = 0, c = 0, d = 0;
    p.is_intel = __get_cpuid(0, &a, &b, &c, &d) != 0 && b == signature_INTEL_ebx;
    p.has_bf16_tiles = __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d >> 22 & 1) != 0;
#endif
    return p;
  }();
  return here;
}

}  // namespace
}  // namespace grist::cpu
#endif

#if HWY_TARGET <= HWY_AVX2
#include <grist/backends/cpu/int8_panel-inl.hpp>

HWY_BEFORE_NAMESPACE();
namespace grist::cpu::HWY_NAMESPACE {
namespace {

constexpr int run = Int8Run::elements;
constexpr int chunk_runs = chunk / run;

// ------------------------------------------------------------------------------------------------- tokens

void round_run(const bf16* x, Int8Run& to) {
  constexpr hn::Rebind<hwy::bfloat16_t, decltype(floats)> bf16s;
  constexpr hn::Rebind<std::int8_t, decltype(floats)> narrow;
  constexpr int vectors = run / panel_rows;
  const auto load = [&](int v) HWY_ATTR {
    return hn::PromoteTo(floats, hn::LoadU(bf16s, reinterpret_cast<const hwy::bfloat16_t*>(x + v * panel_rows)));
  };
  // Compared by their bits, so that what is no number is the greatest.
  auto magnitudes = hn::Zero(unsigned_ints);
  for (int v = 0; v < vectors; ++v)
    magnitudes = hn::Max(magnitudes, hn::BitCast(unsigned_ints, hn::Abs(load(v))));
  const auto most = __builtin_bit_cast(float, hn::ReduceMax(unsigned_ints, magnitudes));
  const bool none = most < 1e-30F;
  to.scale = none ? 0 : most / 127;
  const Floats inverse = hn::Set(floats, none ? 0 : 127 / most);
  int sums[2] = {};
  for (int v = 0; v < vectors; ++v) {
    const auto rounded = hn::DemoteTo(narrow, hn::NearestInt(hn::Mul(load(v), inverse)));
    hn::StoreU(rounded, narrow, to.numbers + v * panel_rows);
    sums[2 * v / vectors] += hn::ReduceSum(ints, hn::PromoteTo(ints, rounded));
  }
  const int parts[] = {sums[0] + sums[1], sums[0], sums[1]};
  for (int part = 0; part < 3; ++part) {
    to.sums[part] = to.scale * static_cast<float>(parts[part]);
    to.starts[part] = -128 * parts[part];
  }
}

// ------------------------------------------------------------------------------------------------- tiles

/// In each lane what a sum of integers begins with, that codes may be too high.
template <class Block>
HWY_INLINE Ints start(std::int32_t for_128) {
  if constexpr (has_least<Block> || has_signed_codes<Block>) return hn::Zero(ints);
  return hn::Set(ints, for_128 >> (8 - code_bits<Block>));
}

/// Four bytes of a token for every row.
HWY_INLINE Ints four_of(const Int8Run& token, int first) {
  std::int32_t four;
  std::memcpy(&four, token.numbers + first, sizeof four);
  return hn::Set(ints, four);
}

/// dots = the products of T tokens with R panels, of group g in run i: exact, in any order.
template <int T, int R, class Block>
HWY_INLINE void group_dots(const Int8Run* x, Index x_runs, const RowPanel<Block>* panels, int i, int g,
                           Ints (&dots)[T][R]) {
  constexpr int group = RowPanel<Block>::group, words = group / 4;
  const int part = group == run ? 0 : 1 + g, first_word = (run * i + group * g) / 4;
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) dots[t][r] = start<Block>(x[t * x_runs + i].starts[part]);
#if HWY_TARGET <= HWY_AVX3_DL
  constexpr int chains = T * R < 8 ? 2 : 1;
  Ints sums[chains][T][R];
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      sums[0][t][r] = dots[t][r];
      if (chains == 2) sums[chains - 1][t][r] = hn::Zero(ints);
    }
#pragma GCC unroll 8
  for (int k = 0; k < words; ++k) {
    Ints codes[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) codes[r] = panels[r].codes[first_word + k];
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const Ints token = four_of(x[t * x_runs + i], group * g + 4 * k);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        Ints& sum = sums[k % chains][t][r];
        sum = hn::SumOfMulQuadAccumulate(ints, hn::BitCast(bytes, codes[r]), hn::BitCast(signed_bytes, token), sum);
      }
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
      dots[t][r] = chains == 2 ? hn::Add(sums[0][t][r], sums[chains - 1][t][r]) : sums[0][t][r];
#else
  // Two products are summed in 16 bits, and as many pairs as these hold.
  constexpr hn::Repartition<std::int16_t, decltype(ints)> shorts;
  constexpr int most_code = has_signed_codes<Block> ? 128 : (1 << code_bits<Block>) - 1;
  constexpr int fitting = std::min(words, 32767 / (2 * 127 * most_code));
#pragma GCC unroll 8
  for (int begin = 0; begin < words; begin += fitting) {
    hn::Vec<decltype(shorts)> pairs[T][R];
#pragma GCC unroll 8
    for (int k = begin; k < std::min(begin + fitting, words); ++k) {
      hn::Vec<decltype(signed_bytes)> codes[R];
      hn::Vec<decltype(bytes)> magnitudes[R];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        codes[r] = hn::BitCast(signed_bytes, panels[r].codes[first_word + k]);
        magnitudes[r] = hn::BitCast(bytes, has_signed_codes<Block> ? hn::Abs(codes[r]) : codes[r]);
      }
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const auto token = hn::BitCast(signed_bytes, four_of(x[t * x_runs + i], group * g + 4 * k));
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          const auto with_signs =
              has_signed_codes<Block> ? hn::IfNegativeThenNegOrUndefIfZero(codes[r], token) : token;
          const auto products = hn::SatWidenMulPairwiseAdd(shorts, magnitudes[r], with_signs);
          pairs[t][r] = k == begin ? products : hn::Add(pairs[t][r], products);
        }
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r)
        dots[t][r] = hn::Add(dots[t][r], hn::WidenMulPairwiseAdd(ints, pairs[t][r], hn::Set(shorts, 1)));
  }
#endif
}

/// Fetches what lies in [from, from + size): on Intel's processors into the second cache, which waits for more lines
/// at a time than the first.
HWY_INLINE void fetch(const void* from, Index size, bool is_intel) {
  const auto* const lines = static_cast<const std::byte*>(from);
  if (is_intel)
    for (Index line = 0; line < size; line += 64) __builtin_prefetch(lines + line, 0, 2);
  else
    for (Index line = 0; line < size; line += 64) __builtin_prefetch(lines + line, 0, 3);
}

/// What is fetched meanwhile: memory works while bytes are multiplied.
struct Ahead {
  const std::byte* next;
  Index bytes;  // at a time
  bool is_intel;

  HWY_INLINE void fetch_some() {
    fetch(next, bytes, is_intel);
    next += bytes;
  }
};

/// sums += the products of T tokens with R panels. For each run some of `ahead` is fetched.
template <int T, int R, class Block>
HWY_INLINE void add_tile(const Int8Run* x, Index x_runs, const RowPanel<Block>* panels, int runs, Ahead (&ahead)[R],
                         Floats (&sums)[T][R]) {
  constexpr int groups = run / RowPanel<Block>::group;
  for (int i = 0; i < runs; ++i) {
    for (int r = 0; r < R; ++r) ahead[r].fetch_some();
#pragma GCC unroll 2
    for (int g = 0; g < groups; ++g) {
      Ints dots[T][R];
      group_dots<T, R>(x, x_runs, panels, i, g, dots);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const Int8Run& token = x[t * x_runs + i];
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          const Floats scale = hn::Mul(panels[r].scale[groups * i + g], hn::Set(floats, token.scale));
          sums[t][r] = hn::MulAdd(hn::ConvertTo(floats, dots[t][r]), scale, sums[t][r]);
          if constexpr (has_least<Block>) {
            const Floats sum = hn::Set(floats, token.sums[groups == 1 ? 0 : 1 + g]);
            sums[t][r] = hn::NegMulAdd(panels[r].least[groups * i + g], sum, sums[t][r]);
          }
        }
      }
    }
  }
}

/// The chunk of interleaved rows, from `lane` on, that begins at block `first`; half of what comes `ahead` is fetched
/// meanwhile. The other half is left.
template <class Block>
HWY_INLINE Ahead unpack_interleaved(const Block* first, int lane, const Block* ahead, int runs, RowPanel<Block>& to) {
  const int blocks = runs * run / Block::elements;
  Ahead half{reinterpret_cast<const std::byte*>(ahead), panel_rows * Index{sizeof(Block)} / 2,
             processor().is_intel};
  for (int i = 0; i < blocks; ++i) {
    half.fetch_some();
    unpack(Interleaved<Block>{first + i * interleaved_rows, lane}, i * Block::elements / run, to);
  }
  half.bytes = half.bytes * run / Block::elements;
  return half;
}

/// The chunk of a panel's rows that lie apart, fewer at the end; `ahead` is fetched of each row.
template <class Block>
HWY_INLINE void unpack_chunk(const Block* first, const Block* ahead, Index row_blocks, Index rows, int runs,
                             RowPanel<Block>& to) {
  constexpr int chunk_blocks = chunk / Block::elements;
  const int blocks = runs * run / Block::elements;
  Block copied[panel_rows][chunk_blocks];
  Index stride = row_blocks * Index{sizeof(Block)};
  if (rows < panel_rows) {  // what lies behind the last row is not the panel's
    std::memset(static_cast<void*>(copied), 0, sizeof copied);
    for (Index r = 0; r < rows; ++r) std::copy_n(first + r * row_blocks, blocks, copied[r]);
    first = copied[0];
    stride = sizeof copied[0];
  } else {
    for (Index r = 0; r < panel_rows; ++r) fetch(ahead + r * row_blocks, sizeof copied[0], processor().is_intel);
  }
  if constexpr (requires { unpack_eight(first, stride, to); })
    if (blocks == 8) return unpack_eight(first, stride, to);
  for (int i = 0; i < blocks; ++i) unpack(Apart<Block>{first + i, stride}, i * Block::elements / run, to);
}

HWY_INLINE void write(Floats sums, std::size_t count, float* to) { hn::StoreN(sums, floats, to, count); }
HWY_INLINE void write(Floats sums, std::size_t count, bf16* to) {
  constexpr hn::Rebind<hwy::bfloat16_t, decltype(floats)> bf16s;
  hn::StoreN(hn::DemoteTo(bf16s, sums), bf16s, reinterpret_cast<hwy::bfloat16_t*>(to), count);
}

/// At most R panels by all tokens. Interleaved rows are all there.
template <bool interleaved, int R, class Block, class Y>
void multiply_panels(const Block* w, Index rows, const Int8Tokens<Y>& to) {
  static_assert(!interleaved || R * panel_rows % interleaved_rows == 0, "w is where sixteen rows begin");
  const Index row_blocks = to.runs * run / Block::elements;
  // Of interleaved rows, the first of the sixteen that `row` is among.
  const auto at = [&](Index row, Index first_run) {
    const Index first = interleaved ? row / interleaved_rows * interleaved_rows : row;
    return w + first * row_blocks + first_run * run / Block::elements * (interleaved ? interleaved_rows : 1);
  };
  Floats sums[most_int8_tokens][R];
  RowPanel<Block> panels[R];
  for (Index t = 0; t < to.tokens; ++t)
    for (int r = 0; r < R; ++r) sums[t][r] = hn::Zero(floats);
  for (Index begin = 0; begin < to.runs; begin += chunk_runs) {
    const int runs = static_cast<int>(std::min<Index>(chunk_runs, to.runs - begin));
    // What comes some 8 KB later, at least two chunks, in these rows or in those that follow.
    constexpr Index chunk_bytes = panel_rows * chunk / Block::elements * Index{sizeof(Block)};
    const Index later = begin + std::max<Index>(2, 8192 / chunk_bytes) * chunk_runs;
    const Index skipped = later / to.runs * R * panel_rows;
    Ahead rest[R] = {};
    for (int r = 0; r < R; ++r) {
      const Index row = r * panel_rows, lane = interleaved ? row % interleaved_rows : 0;
      const Block* const ahead = at(row + skipped, later % to.runs);
      if constexpr (interleaved)  // panels of the same sixteen rows share what is ahead
        rest[r] = unpack_interleaved(at(row, begin), static_cast<int>(lane),
                                     ahead + lane * (runs * run / Block::elements), runs, panels[r]);
      else
        unpack_chunk(at(row, begin), ahead, row_blocks, std::min<Index>(panel_rows, rows - row), runs, panels[r]);
    }
    const auto tile = [&]<int T>(std::integral_constant<int, T>, Index t) HWY_ATTR {
      Floats some[T][R];
#pragma GCC unroll 8
      for (int i = 0; i < T; ++i)
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) some[i][r] = sums[t + i][r];
      add_tile<T, R>(to.x + t * to.runs + begin, to.runs, panels, runs, rest, some);
#pragma GCC unroll 8
      for (int i = 0; i < T; ++i)
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) sums[t + i][r] = some[i][r];
      for (int r = 0; r < R; ++r) rest[r].bytes = 0;
    };
    constexpr int most = panel_rows == 16 ? 4 : 2;  // more do not fit the 16 registers of AVX2
    Index t = 0;
    for (; t + most <= to.tokens; t += most) tile(std::integral_constant<int, most>(), t);
    if (t + 2 <= to.tokens) {
      tile(std::integral_constant<int, 2>(), t);
      t += 2;
    }
    if (t < to.tokens) tile(std::integral_constant<int, 1>(), t);
  }
  for (Index t = 0; t < to.tokens; ++t)
    for (int r = 0; r < R; ++r)
      write(sums[t][r], static_cast<std::size_t>(std::min<Index>(panel_rows, rows - r * panel_rows)),
            to.y + t * to.y_stride + r * panel_rows);
}

template <bool interleaved, class Block, class Y>
void multiply(const Block* w, Index rows, const Int8Tokens<Y>& to) {
  const Index row_blocks = to.runs * run / Block::elements;
  Index row = 0;
  const auto next = [&] { return Int8Tokens<Y>{to.x, to.y + row, to.tokens, to.runs, to.y_stride}; };
  constexpr bool has_halves = interleaved && panel_rows < interleaved_rows;  // no panel begins within sixteen rows
  const bool by_one = to.tokens == 1 && !has_halves;  // one token waits for memory: a thread reads one stream
  for (; !by_one && rows - row > panel_rows; row += 2 * panel_rows)
    multiply_panels<interleaved, 2>(w + row * row_blocks, std::min<Index>(rows - row, 2 * panel_rows), next());
  if constexpr (!has_halves)
    for (; row < rows; row += panel_rows)
      multiply_panels<interleaved, 1>(w + row * row_blocks, std::min<Index>(rows - row, panel_rows), next());
}
}  // namespace

bool has_int8_here() { return true; }

void round_here(const bf16* x, Index runs, Int8Run* to) {
  for (Index i = 0; i < runs; ++i) round_run(x + i * run, to[i]);
}

template <class Y>
void multiply_here(const Panel& panel, Index begin, Index rows, const Int8Tokens<Y>& to) {
  with_format(panel.format, [&]<class Block>(Block) {
    if constexpr (Block::elements > 1) {
      const Block* const first = static_cast<const Block*>(panel.data) + begin * (to.runs * run / Block::elements);
      panel.interleaved ? multiply<true>(first, rows, to) : multiply<false>(first, rows, to);
    }
  });
}
void multiply_to_floats_here(const Panel& panel, Index begin, Index rows, const Int8Tokens<float>& to) {
  multiply_here(panel, begin, rows, to);
}
void multiply_to_bf16_here(const Panel& panel, Index begin, Index rows, const Int8Tokens<bf16>& to) {
  multiply_here(panel, begin, rows, to);
}

}  // namespace grist::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#else

namespace grist::cpu::HWY_NAMESPACE {
bool has_int8_here() { return false; }
void round_here(const bf16*, Index, Int8Run*) {}
void multiply_to_floats_here(const Panel&, Index, Index, const Int8Tokens<float>&) {}
void multiply_to_bf16_here(const Panel&, Index, Index, const Int8Tokens<bf16>&) {}
}  // namespace grist::cpu::HWY_NAMESPACE
#endif

#if HWY_ONCE
namespace grist::cpu {

HWY_EXPORT(has_int8_here);
HWY_EXPORT(round_here);
HWY_EXPORT(multiply_to_floats_here);
HWY_EXPORT(multiply_to_bf16_here);

bool has_int8_products() { return HWY_DYNAMIC_DISPATCH(has_int8_here)(); }

bool has_bf16_tiles() { return processor().has_bf16_tiles; }

void round_to_int8(const bf16* x, Index runs, Int8Run* to) { HWY_DYNAMIC_DISPATCH(round_here)(x, runs, to); }

template <>
void multiply_rows_in_int8(const Panel& panel, Index begin, Index rows, const Int8Tokens<float>& to) {
  HWY_DYNAMIC_DISPATCH(multiply_to_floats_here)(panel, begin, rows, to);
}
template <>
void multiply_rows_in_int8(const Panel& panel, Index begin, Index rows, const Int8Tokens<bf16>& to) {
  HWY_DYNAMIC_DISPATCH(multiply_to_bf16_here)(panel, begin, rows, to);
}

}  // namespace grist::cpu
#endif
