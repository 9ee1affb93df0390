#include <grist/backends/cpu/row_products.hpp>

#include <algorithm>
#include <type_traits>

// Vector code for AVX-512 with products of bf16, AVX2, NEON; anything else runs what its compiler assumes at least.
// Vectors whose size is not known when compiling (SVE, RVV) cannot be members.
#define HWY_WANT_AVX3_ZEN4 1
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3 | HWY_AVX3_DL | HWY_AVX10_2 | HWY_ALL_SVE | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE <grist/backends/cpu/row_products.cpp>  // this file, once for each of them
#include <hwy/foreach_target.h>

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <grist/backends/cpu/block_vectors-inl.hpp>

HWY_BEFORE_NAMESPACE();
namespace grist::cpu::HWY_NAMESPACE {
namespace {

constexpr Index most_tokens = 32;  // that share a decoded chunk: their sums fit the first cache beside it

template <class Y>
TokenRows<bf16, Y> from(const TokenRows<bf16, Y>& to, Index token, Index row) {
  return {to.x + token * to.x_stride, to.y + token * to.y_stride + row, to.tokens - token, to.x_stride, to.y_stride};
}

/// Calls f(integral constant T, t) for tiles of T tokens, the first of which is t.
template <class F>
HWY_INLINE void for_tiles(Index tokens, F&& f) {
  Index t = 0;
  for (; t + 4 <= tokens; t += 4) f(std::integral_constant<int, 4>(), t);
  if (t + 2 <= tokens) {
    f(std::integral_constant<int, 2>(), t);
    t += 2;
  }
  if (t < tokens) f(std::integral_constant<int, 1>(), t);
}

// ------------------------------------------------------------------------------------------------- rows in bf16

/// y of T tokens and R rows. Meanwhile `ahead` is fetched, `lines` lines of the cache for each vector.
template <int T, int R, class Y>
HWY_INLINE void plain_tile(const TokenRows<bf16, Y>& to, const bf16* w, Index columns, const char* ahead, int lines) {
  Floats sums[T][R];
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sums[t][r] = hn::Zero(floats);
  const auto step = [&](Index k, auto&& load_from) HWY_ATTR {
    Bf16s rows[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) rows[r] = load_from(w + r * columns + k);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const Bf16s x = load_from(to.x + t * to.x_stride + k);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) sums[t][r] = add_products(x, rows[r], sums[t][r]);
    }
  };
  Index k = 0;
  for (; k + lanes <= columns; k += lanes) {
    for (int i = 0; i < lines; ++i, ahead += 64) hwy::Prefetch(ahead);
    step(k, [](const bf16* p) HWY_ATTR { return load(p); });
  }
  if (k < columns) step(k, [&](const bf16* p) HWY_ATTR { return load_some(p, columns - k); });
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) to.y[t * to.y_stride + r] = Y(hn::ReduceSum(floats, sums[t][r]));
}

/// R rows by all tokens; meanwhile the next rows come into the cache.
template <int R, class Y>
HWY_INLINE void plain_rows(const TokenRows<bf16, Y>& to, const bf16* w, Index columns) {
  const char* ahead = reinterpret_cast<const char*>(w + R * columns);
  const auto tiles = static_cast<int>((to.tokens + 3) / 4);
  const int lines = to.tokens > 2 ? (R + tiles - 1) / tiles : 0;
  for_tiles(to.tokens, [&]<int T>(std::integral_constant<int, T>, Index t) HWY_ATTR {
    plain_tile<T, R>(from(to, t, 0), w, columns, ahead, lines);
    ahead += lines * (columns / lanes) * 64;
  });
}

/// One or two tokens take a row after the other, in the order of memory; more of them tiles of registers.
template <class Y>
void multiply(const PlainBlock<bf16>* panel, Index columns, Index rows, const TokenRows<bf16, Y>& to) {
  constexpr int group = 6;
  const bf16* const w = &panel->number;
  Index row = 0;
  if (to.tokens > 2)
    for (; row + group <= rows; row += group) plain_rows<group>(from(to, 0, row), w + row * columns, columns);
  for (; row < rows; ++row) plain_rows<1>(from(to, 0, row), w + row * columns, columns);
}

// ------------------------------------------------------------------------------------------------- rows of blocks

/// Adds the products of a run of numbers to the sums of T tokens and R rows: row r's integers in vector v are
/// weights.integers(r, v), its scale and least there weights.scale(r, v) and weights.least(r, v).
template <bool HasLeast, int T, int R, class Weights>
HWY_INLINE void add_run(const bf16* x, Index x_stride, const Weights& weights, Floats (&sums)[T][R]) {
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) {
    Bf16s tokens[T];
    Floats pairs[T];
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      tokens[t] = load(x + t * x_stride + v * lanes);
      if constexpr (HasLeast) pairs[t] = products(tokens[t], ones());
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Bf16s integers = weights.integers(r, v);
      const Floats scale = weights.scale(r, v);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) sums[t][r] = hn::MulAdd(products(tokens[t], integers), scale, sums[t][r]);
      if constexpr (HasLeast) {
        const Floats least = weights.least(r, v);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) sums[t][r] = hn::NegMulAdd(pairs[t], least, sums[t][r]);
      }
    }
  }
}

/// R rows of blocks, a run of which is decoded in registers.
template <class Block, int R>
struct InRegisters {
  Run row[R];
  const Scales<Block>* scales;
  int at;

  HWY_INLINE Bf16s integers(int r, int v) const { return row[r].integers[v]; }
  HWY_INLINE Floats scale(int r, int v) const { return scales[r].scale_at(at, v); }
  HWY_INLINE Floats least(int r, int v) const { return scales[r].least_at(at, v); }
};

/// R rows of which a chunk was decoded before.
template <class Block>
struct DecodedChunk {
  alignas(64) bf16 integers[chunk];
  Scales<Block> scales;
};
template <class Block>
struct InCache {
  const DecodedChunk<Block>* row;
  int at;

  HWY_INLINE Bf16s integers(int r, int v) const { return load(row[r].integers + at * run + v * lanes); }
  HWY_INLINE Floats scale(int r, int v) const { return row[r].scales.scale_at(at, v); }
  HWY_INLINE Floats least(int r, int v) const { return row[r].scales.least_at(at, v); }
};

/// R rows by one token.
template <int R, class Block, class Y>
HWY_INLINE void block_rows_by_one(const TokenRows<bf16, Y>& to, const Block* w, Index columns) {
  constexpr Index chunk_blocks = chunk / Block::elements;
  const Index row_blocks = columns / Block::elements;
  Floats sums[1][R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) sums[0][r] = hn::Zero(floats);
  for (Index k = 0; k < columns; k += chunk) {
    const int runs = static_cast<int>(std::min<Index>(chunk, columns - k)) / run;
    const Block* blocks[R];
    Scales<Block> scales[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      blocks[r] = w + r * row_blocks + k / chunk * chunk_blocks;
      for (Index line = 0; line < chunk_blocks * Index{sizeof(Block)}; line += 64)
        hwy::Prefetch(reinterpret_cast<const char*>(blocks[r] + R * row_blocks) + line);
      scales[r].decode(blocks[r], runs);
    }
    const auto add = [&](int i) HWY_ATTR {
      InRegisters<Block, R> weights{{}, scales, i};
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) weights.row[r] = run_at(blocks[r], i);
      add_run<has_least<Block>>(to.x + k + i * run, to.x_stride, weights, sums);
    };
    if (runs == chunk / run) {
#pragma GCC unroll 8
      for (int i = 0; i < chunk / run; ++i) add(i);
    } else {
      for (int i = 0; i < runs; ++i) add(i);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) to.y[r] = Y(hn::ReduceSum(floats, sums[0][r]));
}

/// R rows by at most most_tokens tokens: each chunk is decoded once for all of them.
template <int R, class Block, class Y>
HWY_INLINE void block_rows(const TokenRows<bf16, Y>& to, const Block* w, Index columns) {
  constexpr Index chunk_blocks = chunk / Block::elements;
  constexpr int width = lanes / 2;
  const Index row_blocks = columns / Block::elements;
  alignas(64) float all_sums[most_tokens][R][width] = {};
  DecodedChunk<Block> decoded[R];
  for (Index k = 0; k < columns; k += chunk) {
    const int runs = static_cast<int>(std::min<Index>(chunk, columns - k)) / run;
    for (int r = 0; r < R; ++r) {
      const Block* const blocks = w + r * row_blocks + k / chunk * chunk_blocks;
      for (Index line = 0; line < chunk_blocks * Index{sizeof(Block)}; line += 64)  // the next R rows
        hwy::Prefetch(reinterpret_cast<const char*>(blocks + R * row_blocks) + line);
      decoded[r].scales.decode(blocks, runs);
      for (int i = 0; i < runs; ++i) {
        const Run numbers = run_at(blocks, i);
        for (int v = 0; v < vectors; ++v) store(numbers.integers[v], decoded[r].integers + i * run + v * lanes);
      }
    }
    for_tiles(to.tokens, [&]<int T>(std::integral_constant<int, T>, Index t) HWY_ATTR {
      Floats sums[T][R];
#pragma GCC unroll 8
      for (int i = 0; i < T; ++i)
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) sums[i][r] = hn::Load(floats, all_sums[t + i][r]);
      for (int i = 0; i < runs; ++i)
        add_run<has_least<Block>>(to.x + t * to.x_stride + k + i * run, to.x_stride, InCache<Block>{decoded, i}, sums);
#pragma GCC unroll 8
      for (int i = 0; i < T; ++i)
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) hn::Store(sums[i][r], floats, all_sums[t + i][r]);
    });
  }
  for (Index t = 0; t < to.tokens; ++t)
    for (int r = 0; r < R; ++r)
      to.y[t * to.y_stride + r] = Y(hn::ReduceSum(floats, hn::Load(floats, all_sums[t][r])));
}

template <int R, class Block, class Y>
HWY_INLINE void block_rows_by_all(const TokenRows<bf16, Y>& to, const Block* w, Index columns) {
  for (Index first = 0; first < to.tokens; first += most_tokens) {
    TokenRows<bf16, Y> pass = from(to, first, 0);
    pass.tokens = std::min(most_tokens, pass.tokens);
    block_rows<R>(pass, w, columns);
  }
}

template <class Block, class Y>
void multiply(const Block* w, Index columns, Index rows, const TokenRows<bf16, Y>& to) {
  // One token's rows of many bytes take as long as memory does: in its order. Others hide their chains of sums in four.
  constexpr int group = 4, one_token = Index{sizeof(Block)} > Block::elements ? 1 : group;
  const Index row_blocks = columns / Block::elements;
  Index row = 0;
  if (to.tokens == 1)
    for (; row + one_token <= rows; row += one_token)
      block_rows_by_one<one_token>(from(to, 0, row), w + row * row_blocks, columns);
  else
    for (; row + group <= rows; row += group)
      block_rows_by_all<group>(from(to, 0, row), w + row * row_blocks, columns);
  for (; row < rows; ++row) {
    if (to.tokens == 1)
      block_rows_by_one<1>(from(to, 0, row), w + row * row_blocks, columns);
    else
      block_rows_by_all<1>(from(to, 0, row), w + row * row_blocks, columns);
  }
}

template <class Y>
void multiply_rows_as(Format format, const void* panel, Index columns, Index begin, Index rows,
                      const TokenRows<bf16, Y>& to) {
  with_format(format, [&]<class Block>(Block) {
    if constexpr (Block::elements > 1 || std::is_same_v<Block, PlainBlock<bf16>>)
      multiply(static_cast<const Block*>(panel) + begin * (columns / Block::elements), columns, rows, to);
  });
}

// ------------------------------------------------------------------------------------------------- rows alone

template <class Block>
void decode(const Block* blocks, Index columns, bf16* to) {
  constexpr Index chunk_blocks = chunk / Block::elements;
  Scales<Block> scales;
  for (Index k = 0; k < columns; k += chunk, blocks += chunk_blocks) {
    const int runs = static_cast<int>(std::min<Index>(chunk, columns - k)) / run;
    scales.decode(blocks, runs);
    for (int i = 0; i < runs; ++i) {
      const Run numbers = run_at(blocks, i);
      for (int v = 0; v < vectors; ++v) store(scaled(numbers.integers[v], scales, i, v), to + k + i * run + v * lanes);
    }
  }
}
}  // namespace

// What is exported has no template arguments.
void multiply_rows_to_float(Format format, const void* panel, Index columns, Index begin, Index rows,
                            const TokenRows<bf16, float>& to) {
  multiply_rows_as(format, panel, columns, begin, rows, to);
}
void multiply_rows_to_bf16(Format format, const void* panel, Index columns, Index begin, Index rows,
                           const TokenRows<bf16, bf16>& to) {
  multiply_rows_as(format, panel, columns, begin, rows, to);
}

void round_row_here(Format format, const void* panel, Index columns, Index row, bf16* to) {
  with_format(format, [&]<class Block>(Block) {
    if constexpr (Block::elements > 1)
      decode(static_cast<const Block*>(panel) + row * (columns / Block::elements), columns, to);
  });
}

}  // namespace grist::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace grist::cpu {

HWY_EXPORT(multiply_rows_to_float);
HWY_EXPORT(multiply_rows_to_bf16);
HWY_EXPORT(round_row_here);

template <>
void multiply_rows(Format format, const void* panel, Index columns, Index begin, Index rows,
                   const TokenRows<bf16, float>& to) {
  HWY_DYNAMIC_DISPATCH(multiply_rows_to_float)(format, panel, columns, begin, rows, to);
}
template <>
void multiply_rows(Format format, const void* panel, Index columns, Index begin, Index rows,
                   const TokenRows<bf16, bf16>& to) {
  HWY_DYNAMIC_DISPATCH(multiply_rows_to_bf16)(format, panel, columns, begin, rows, to);
}

void round_row(Format format, const void* panel, Index columns, Index row, bf16* to) {
  HWY_DYNAMIC_DISPATCH(round_row_here)(format, panel, columns, row, to);
}

}  // namespace grist::cpu
#endif
