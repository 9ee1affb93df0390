#include <grist/backends/cpu/int8_products.hpp>

#include <algorithm>
#include <bit>
#include <cstring>

// Vector code for one kind of processor; the others have none.
#define HWY_DISABLED_TARGETS                                                                            \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX2 | HWY_AVX3 | HWY_AVX3_ZEN4 | HWY_AVX3_SPR | HWY_AVX10_2 | HWY_NEON | \
   HWY_NEON_BF16 | HWY_ALL_SVE | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE <grist/backends/cpu/int8_products.cpp>
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#if HWY_ARCH_X86
#include <cpuid.h>
#endif

#if HWY_TARGET == HWY_AVX3_DL
#include <grist/backends/cpu/int8_panel-inl.hpp>

HWY_BEFORE_NAMESPACE();
namespace grist::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

constexpr int run = Int8Run::elements;
constexpr int chunk_runs = chunk / run;

// ------------------------------------------------------------------------------------------------- tokens

void round_run(const bf16* x, Int8Run& to) {
  constexpr hn::FixedTag<float, 16> floats;
  constexpr hn::Rebind<hwy::bfloat16_t, decltype(floats)> bf16s;
  const auto load = [&](int first) HWY_ATTR {
    return hn::PromoteTo(floats, hn::LoadU(bf16s, reinterpret_cast<const hwy::bfloat16_t*>(x + first)));
  };
  const Floats numbers[] = {load(0).raw, load(16).raw};
  // Compared by their bits, so that what is no number is the greatest.
  const Ints magnitudes = _mm512_max_epu32(_mm512_castps_si512(_mm512_abs_ps(numbers[0])),
                                           _mm512_castps_si512(_mm512_abs_ps(numbers[1])));
  const float most = __builtin_bit_cast(float, _mm512_reduce_max_epu32(magnitudes));
  const bool none = most < 1e-30F;
  to.scale = none ? 0 : most / 127;
  const Floats inverse = _mm512_set1_ps(none ? 0 : 127 / most);
  int sums[2];
  for (int half = 0; half < 2; ++half) {
    const __m128i rounded = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(numbers[half], inverse)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to.numbers + 16 * half), rounded);
    sums[half] = _mm512_reduce_add_epi32(_mm512_cvtepi8_epi32(rounded));
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
  if constexpr (has_least<Block>) return _mm512_setzero_si512();
  return _mm512_srai_epi32(_mm512_set1_epi32(for_128), std::countr_zero(128U / code_offset<Block>));
}

/// What comes into the second cache meanwhile, which waits for more lines at a time than the first: memory works while
/// bytes are multiplied.
struct Ahead {
  const std::byte* next;
  Index bytes;  // at a time

  HWY_INLINE void fetch() {
    for (Index line = 0; line < bytes; line += 64) __builtin_prefetch(next + line, 0, 2);
    next += bytes;
  }
};

/// sums += the products of T tokens with R panels. For each run some of `ahead` is fetched.
template <int T, int R, class Block>
HWY_INLINE void add_tile(const Int8Run* x, Index x_runs, const SixteenRows<Block>* panels, int runs, Ahead (&ahead)[R],
                         Floats (&sums)[T][R]) {
  constexpr int group = SixteenRows<Block>::group, groups = run / group;
  constexpr int chains = T * R < 8 ? 2 : 1;  // of integers, whose sums are exact in any order
  for (int i = 0; i < runs; ++i) {
    for (int r = 0; r < R; ++r) ahead[r].fetch();
#pragma GCC unroll 2
    for (int g = 0; g < groups; ++g) {
      const int part = groups == 1 ? 0 : 1 + g;
      Ints dots[chains][T][R];
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t)
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          dots[0][t][r] = start<Block>(x[t * x_runs + i].starts[part]);
          if (chains == 2) dots[chains - 1][t][r] = _mm512_setzero_si512();
        }
#pragma GCC unroll 8
      for (int k = 0; k < group / 4; ++k) {
        Ints codes[R];
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) codes[r] = panels[r].codes[8 * i + (group * g) / 4 + k];
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) {
          std::int32_t four;
          std::memcpy(&four, x[t * x_runs + i].numbers + group * g + 4 * k, sizeof four);
          const Ints token = _mm512_set1_epi32(four);
#pragma GCC unroll 8
          for (int r = 0; r < R; ++r)
            dots[k % chains][t][r] = _mm512_dpbusd_epi32(dots[k % chains][t][r], codes[r], token);
        }
      }
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const Int8Run& token = x[t * x_runs + i];
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          const Ints all = chains == 2 ? _mm512_add_epi32(dots[0][t][r], dots[chains - 1][t][r]) : dots[0][t][r];
          const Floats scale = _mm512_mul_ps(panels[r].scale[groups * i + g], _mm512_set1_ps(token.scale));
          sums[t][r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(all), scale, sums[t][r]);
          if constexpr (has_least<Block>) {
            const Floats sum = _mm512_set1_ps(token.sums[part]);
            sums[t][r] = _mm512_fnmadd_ps(panels[r].least[groups * i + g], sum, sums[t][r]);
          }
        }
      }
    }
  }
}

/// The chunk of 16 interleaved rows that begins at block `first`; half of what comes `ahead` is fetched meanwhile. The
/// other half is left.
template <class Block>
HWY_INLINE Ahead unpack_interleaved(const Block* first, const Block* ahead, int runs, SixteenRows<Block>& to) {
  constexpr Index bytes = panel_rows * sizeof(Block);
  const int blocks = runs * run / Block::elements;
  Ahead half{reinterpret_cast<const std::byte*>(ahead), bytes / 2};
  for (int i = 0; i < blocks; ++i) {
    half.fetch();
    unpack(Interleaved<Block>{first + i * panel_rows}, i * Block::elements / run, to);
  }
  half.bytes = half.bytes * run / Block::elements;
  return half;
}

/// The chunk of 16 rows that lie apart, fewer at the end; `ahead` is fetched of each row.
template <class Block>
HWY_INLINE void unpack_chunk(const Block* first, const Block* ahead, Index row_blocks, Index rows, int runs,
                             SixteenRows<Block>& to) {
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
    for (Index r = 0; r < panel_rows; ++r)  // into the second cache, which waits for more lines at a time
      for (Index line = 0; line < Index{sizeof copied[0]}; line += 64)
        __builtin_prefetch(reinterpret_cast<const char*>(ahead + r * row_blocks) + line, 0, 2);
  }
  if constexpr (requires { unpack_eight(first, stride, to); })
    if (blocks == 8) return unpack_eight(first, stride, to);
  for (int i = 0; i < blocks; ++i) unpack(Apart<Block>{first + i, stride}, i * Block::elements / run, to);
}

HWY_INLINE void write(Floats sums, std::size_t count, float* to) {
  constexpr hn::FixedTag<float, 16> floats;
  hn::StoreN(hn::VFromD<decltype(floats)>{sums}, floats, to, count);
}
HWY_INLINE void write(Floats sums, std::size_t count, bf16* to) {
  constexpr hn::FixedTag<float, 16> floats;
  constexpr hn::Rebind<hwy::bfloat16_t, decltype(floats)> bf16s;
  hn::StoreN(hn::DemoteTo(bf16s, hn::VFromD<decltype(floats)>{sums}), bf16s, reinterpret_cast<hwy::bfloat16_t*>(to),
             count);
}

/// At most R times 16 rows by all tokens. Interleaved rows are all there.
template <bool interleaved, int R, class Block, class Y>
void multiply_panels(const Block* w, Index rows, const Int8Tokens<Y>& to) {
  const Index row_blocks = to.runs * run / Block::elements;
  const auto at = [&](Index row, Index first_run) {
    return w + row * row_blocks + first_run * run / Block::elements * (interleaved ? panel_rows : 1);
  };
  Floats sums[most_int8_tokens][R];
  SixteenRows<Block> panels[R];
  for (Index t = 0; t < to.tokens; ++t)
    for (int r = 0; r < R; ++r) sums[t][r] = _mm512_setzero_ps();
  for (Index begin = 0; begin < to.runs; begin += chunk_runs) {
    const int runs = static_cast<int>(std::min<Index>(chunk_runs, to.runs - begin));
    // What comes two chunks later, in these rows or in those that follow.
    const Index later = begin + 2 * chunk_runs, skipped = later < to.runs ? 0 : R * panel_rows;
    Ahead rest[R] = {};
    for (int r = 0; r < R; ++r) {
      const Index row = r * panel_rows;
      const Block* const ahead = at(row + skipped, later % to.runs);
      if constexpr (interleaved)
        rest[r] = unpack_interleaved(at(row, begin), ahead, runs, panels[r]);
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
    Index t = 0;
    for (; t + 4 <= to.tokens; t += 4) tile(std::integral_constant<int, 4>(), t);
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
  for (; rows - row > panel_rows; row += 2 * panel_rows)
    multiply_panels<interleaved, 2>(w + row * row_blocks, std::min<Index>(rows - row, 2 * panel_rows), next());
  if (row < rows) multiply_panels<interleaved, 1>(w + row * row_blocks, rows - row, next());
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

bool has_bf16_tiles() {
#if HWY_ARCH_X86
  static const bool has = [] {  // asked once: a virtual machine answers slowly
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d >> 22 & 1) != 0;
  }();
  return has;
#else
  return false;
#endif
}

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
