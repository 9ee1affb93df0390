#include <grist/backends/cpu/row_products.hpp>

#include <algorithm>
#include <cstring>
#include <type_traits>

// Vector code for AVX-512 with products of bf16 and without, AVX2, NEON; anything else runs what its compiler assumes
// at least. Vectors whose size is not known when compiling (SVE, RVV) cannot be members.
#define HWY_WANT_AVX3_ZEN4 1
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_AVX10_2 | HWY_ALL_SVE | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE <grist/backends/cpu/row_products.cpp>  // this file, once for each of them
#include <hwy/foreach_target.h>

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <grist/backends/cpu/block_vectors-inl.hpp>

#ifndef GRIST_ROW_PRODUCTS  // once for all processors
#define GRIST_ROW_PRODUCTS
namespace grist::cpu {
namespace {
/// TokenRows to float or to bf16, told apart where a product is written, so that the rest is compiled once.
struct Rows {
  const bf16* x;
  float* in_float;  // null where products are rounded
  bf16* rounded;
  Index at;  // of the first product
  Index tokens, x_stride, y_stride;

  void write(Index token, Index row, float product) const {
    const Index i = at + token * y_stride + row;
    if (in_float)
      in_float[i] = product;
    else
      rounded[i] = bf16(product);
  }
  [[nodiscard]] Rows from(Index token, Index row) const {
    return {x + token * x_stride, in_float, rounded, at + token * y_stride + row, tokens - token, x_stride, y_stride};
  }
};
}  // namespace
}  // namespace grist::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace grist::cpu::HWY_NAMESPACE {
namespace {

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

/// Fetches a line of the cache: on Intel's processors into the second one, which waits for more lines at a time.
HWY_INLINE void fetch(const void* line) { __builtin_prefetch(line, 0, GRIST_BF16_AS_FLOATS ? 2 : 3); }

/// sums += the products of T tokens' and R rows' numbers. Meanwhile `ahead` is fetched, `lines` lines of the cache for
/// each vector.
template <int T, int R, class LoadToken>
HWY_INLINE void add_tile(const bf16* x, Index x_stride, LoadToken&& load_token, const bf16* w, Index w_stride,
                         Index columns, const char* ahead, int lines, Floats (&sums)[T][R]) {
  const auto step = [&](Index k, auto&& load_x, auto&& load_w) HWY_ATTR {
    Bf16s rows[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) rows[r] = load_w(w + r * w_stride + k);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const Bf16s token = load_x(x + t * x_stride + k);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) sums[t][r] = add_products(token, rows[r], sums[t][r]);
    }
  };
  Index k = 0;
  for (; k + lanes <= columns; k += lanes) {
    for (int i = 0; i < lines; ++i, ahead += 64) fetch(ahead);
    step(k, load_token, [](const bf16* p) HWY_ATTR { return load(p); });
  }
  const auto load_rest = [&](const bf16* p) HWY_ATTR { return load_some(p, columns - k); };
  if (k < columns) step(k, load_rest, load_rest);
}

#if HWY_TARGET <= HWY_AVX3
// Sums of lanes in the order of hn::ReduceSum: quarters 0 and 1, 2 and 3, both; of what is left lanes 0 and 3, 1 and
// 2, both.

/// The first two steps for four vectors, each in its quarter of the result.
HWY_INLINE Floats in_quarters(Floats a, Floats b, Floats c, Floats d) {
  const auto folded = [](Floats x, Floats y) HWY_ATTR {
    return Floats{_mm512_shuffle_f32x4(x.raw, y.raw, 0x88)} + Floats{_mm512_shuffle_f32x4(x.raw, y.raw, 0xdd)};
  };
  return folded(folded(a, b), folded(c, d));
}
/// The last two: each quarter of the result has the sums of the quarters of a, b, c, d.
HWY_INLINE Floats sums_of_quarters(Floats a, Floats b, Floats c, Floats d) {
  const auto folded = [](Floats x, Floats y) HWY_ATTR {
    return Floats{_mm512_shuffle_ps(x.raw, y.raw, 0x44)} + Floats{_mm512_shuffle_ps(x.raw, y.raw, 0xbb)};
  };
  const Floats ab = folded(a, b), cd = folded(c, d);
  return Floats{_mm512_shuffle_ps(ab.raw, cd.raw, 0x88)} + Floats{_mm512_shuffle_ps(ab.raw, cd.raw, 0xdd)};
}

/// Writes the products of four tokens and `count` rows: quarter t has those of token t.
template <int count>
HWY_INLINE void write_quarters(Floats products, const Rows& to) {
  if (to.in_float != nullptr) {
    alignas(64) float of[4][4];
    hn::Store(products, floats, of[0]);
    for (int t = 0; t < 4; ++t) std::memcpy(to.in_float + to.at + t * to.y_stride, of[t], count * sizeof(float));
  } else {
    // As the constructor of bf16 rounds; instructions that round to bf16 take small numbers for zeros.
    constexpr hn::RebindToUnsigned<decltype(floats)> u32;
    constexpr hn::Rebind<std::uint16_t, decltype(u32)> u16;
    const auto u = hn::BitCast(u32, products), high = hn::ShiftRight<16>(u);
    const auto half = hn::Add(hn::Set(u32, 0x7fff), hn::And(high, hn::Set(u32, 1)));
    const auto rounded = hn::ShiftRight<16>(hn::Add(u, half)), quiet_nan = hn::Or(high, hn::Set(u32, 0x40));
    const auto is_nan = hn::Gt(hn::And(u, hn::Set(u32, 0x7fffffff)), hn::Set(u32, 0x7f800000));
    alignas(32) std::uint16_t of[4][4];
    hn::Store(hn::TruncateTo(u16, hn::IfThenElse(is_nan, quiet_nan, rounded)), u16, of[0]);
    for (int t = 0; t < 4; ++t) std::memcpy(to.rounded + to.at + t * to.y_stride, of[t], count * sizeof(bf16));
  }
}
#endif

/// Writes the products of T tokens and R rows.
template <int T, int R>
HWY_INLINE void write_sums(const Floats (&sums)[T][R], const Rows& to) {
#if HWY_TARGET <= HWY_AVX3
  if constexpr (T == 4 && R == bf16_tile_rows) {  // sums by sums: half the shuffles, and rounded together
    Floats rows[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) rows[r] = in_quarters(sums[0][r], sums[1][r], sums[2][r], sums[3][r]);
    write_quarters<4>(sums_of_quarters(rows[0], rows[1], rows[2], rows[3]), to);
    return write_quarters<2>(sums_of_quarters(rows[4], rows[5], rows[4], rows[5]), to.from(0, 4));
  }
#endif
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) to.write(t, r, hn::ReduceSum(floats, sums[t][r]));
}
template <int T, int R>
HWY_INLINE void clear(Floats (&sums)[T][R]) {
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sums[t][r] = hn::Zero(floats);
}

// ------------------------------------------------------------------------------------------------- rows in bf16

/// Where one or two tokens take rows in the order of memory, at least so many bytes further on comes into the cache; 0
/// where the processor's own prefetching suffices.
constexpr Index bytes_ahead = GRIST_BF16_AS_FLOATS ? 16384 : 0;

constexpr int sum_lanes = lanes / 2;  // a vector of floats
constexpr Index most_tokens = 32;     // whose sums are kept while rows go by in stretches

/// Sums of some tokens and R rows, a vector each.
template <int R>
class KeptSums {
public:
  /// For T tokens from `token` on: add(sums) of the stretch [k, k + count) of rows of `columns` numbers; at their end
  /// the products are written.
  template <int T, class Add>
  HWY_INLINE void take_stretch(Index k, Index count, Index columns, Index token, const Rows& to, Add&& add) {
    Floats sums[T][R];
    if (k == 0)
      clear(sums);
    else
      load(token, sums);
    add(sums);
    if (k + count == columns)
      write_sums(sums, to.from(token, 0));
    else
      store(sums, token);
  }

private:
  template <int T>
  HWY_INLINE void load(Index token, Floats (&sums)[T][R]) const {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) sums[t][r] = hn::Load(floats, of[token + t][r]);
  }
  template <int T>
  HWY_INLINE void store(const Floats (&sums)[T][R], Index token) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) hn::Store(sums[t][r], floats, of[token + t][r]);
  }

  alignas(64) float of[most_tokens][R][sum_lanes];
};

/// Calls f(pass) for most_tokens tokens at a time.
template <class F>
HWY_INLINE void for_passes(const Rows& to, F&& f) {
  for (Index first = 0; first < to.tokens; first += most_tokens) {
    Rows pass = to.from(first, 0);
    pass.tokens = std::min(most_tokens, pass.tokens);
    f(pass);
  }
}

constexpr Index plain_stretch = 2048;  // bf16_tile_rows rows and four tokens of so many fit a first cache of 48 KB
constexpr auto load_plain = [](const bf16* p) HWY_ATTR { return load(p); };

/// R rows by all tokens; meanwhile the next R rows come into the cache, or rows further on where they are short.
template <int R>
HWY_INLINE void plain_rows(const Rows& to, const bf16* w, Index columns) {
  const bool in_order = to.tokens <= 2;
  const Index next = R * columns * Index{sizeof(bf16)};
  const char* ahead = reinterpret_cast<const char*>(w) + (in_order ? std::max(bytes_ahead, next) : next);
  const auto tiles = static_cast<int>((to.tokens + 3) / 4);
  const int lines = in_order && bytes_ahead == 0 ? 0 : (R + tiles - 1) / tiles;
  for_tiles(to.tokens, [&]<int T>(std::integral_constant<int, T>, Index t) HWY_ATTR {
    const Rows tile = to.from(t, 0);
    Floats sums[T][R];
    clear(sums);
    add_tile<T, R>(tile.x, tile.x_stride, load_plain, w, columns, columns, ahead, lines, sums);
    write_sums(sums, tile);
    ahead += lines * (columns / lanes) * 64;
  });
}

/// The same of long rows by several tiles of at most most_tokens tokens, which find a stretch in the first cache.
template <int R>
HWY_INLINE void long_rows(const Rows& to, const bf16* w, Index columns) {
  const auto* ahead = reinterpret_cast<const char*>(w + R * columns);
  const auto tiles = static_cast<int>((to.tokens + 3) / 4);
  const int lines = (R + tiles - 1) / tiles;
  KeptSums<R> kept;
  for (Index k = 0; k < columns; k += plain_stretch) {
    const Index count = std::min(plain_stretch, columns - k);
    for_tiles(to.tokens, [&]<int T>(std::integral_constant<int, T>, Index t) HWY_ATTR {
      kept.template take_stretch<T>(k, count, columns, t, to, [&](Floats (&sums)[T][R]) HWY_ATTR {
        add_tile<T, R>(to.x + t * to.x_stride + k, to.x_stride, load_plain, w + k, columns, count, ahead, lines, sums);
      });
      ahead += lines * (count / lanes) * 64;
    });
  }
}

/// Of one or two tokens: in the order of memory, but where two products of float follow each other in a sum, four of
/// them have more sums on their way.
constexpr int rows_in_order = GRIST_BF16_AS_FLOATS ? 4 : 1;

/// One or two tokens take rows in the order of memory; more of them tiles of registers.
void multiply(const PlainBlock<bf16>* panel, Index columns, Index rows, const Rows& to) {
  const bf16* const w = &panel->number;
  const bool in_stretches = columns > plain_stretch && to.tokens > 4;
  Index row = 0;
  const auto take = [&]<int R>(std::integral_constant<int, R>) HWY_ATTR {
    for (; row + R <= rows; row += R) {
      const Rows there = to.from(0, row);
      const bf16* const first = w + row * columns;
      if (in_stretches)
        for_passes(there, [&](const Rows& pass) HWY_ATTR { long_rows<R>(pass, first, columns); });
      else
        plain_rows<R>(there, first, columns);
    }
  };
  if (to.tokens > 2) {
    take(std::integral_constant<int, bf16_tile_rows>());
    take(std::integral_constant<int, 2>());
  } else {
    take(std::integral_constant<int, rows_in_order>());
  }
  take(std::integral_constant<int, 1>());
}

// ------------------------------------------------------------------------------------------------- rows of blocks

constexpr bool multiplies_blocks = HWY_TARGET > HWY_AVX2;  // a smaller number is a newer processor

/// R rows by one token, decoded in registers.
template <int R, class Block>
HWY_INLINE void block_rows_by_one(const Rows& to, const Block* w, Index columns) {
  constexpr Index chunk_blocks = chunk / Block::elements;
  const Index row_blocks = columns / Block::elements;
  Floats sums[1][R];
  clear(sums);
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
      Bf16s token[vectors];
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) token[v] = load_as_in<Block>(to.x + k + i * run + v * lanes);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const Run weights = run_at(blocks[r], scales[r], i);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) sums[0][r] = add_products(token[v], weights.numbers[v], sums[0][r]);
      }
    };
    if (vectors == 1 && runs == chunk / run) {  // of several vectors, a run alone is code enough
#pragma GCC unroll 8
      for (int i = 0; i < chunk / run; ++i) add(i);
    } else {
      for (int i = 0; i < runs; ++i) add(i);
    }
  }
  write_sums(sums, to);
}

/// Calls f(run, number of its first weight) for the runs of `count` numbers of a row.
template <class Block, class F>
HWY_INLINE void decode(const Block* blocks, Index count, F&& f) {
  Scales<Block> scales;
  for (Index k = 0; k < count; k += chunk, blocks += chunk / Block::elements) {
    const int runs = static_cast<int>(std::min<Index>(chunk, count - k)) / run;
    scales.decode(blocks, runs);
    for (int i = 0; i < runs; ++i) f(run_at(blocks, scales, i), k + i * run);
  }
}

constexpr Index stretch = 1024;  // numbers of a row, decoded together: a tile of them fits the first cache

/// R rows by at most most_tokens tokens: each stretch is decoded once for all of them.
template <int R, class Block>
HWY_INLINE void block_rows(const Rows& to, const Block* w, Index columns) {
  const Index row_blocks = columns / Block::elements;
  KeptSums<R> kept;
  alignas(64) bf16 decoded[R][stretch];
  for (Index k = 0; k < columns; k += stretch) {
    const Index count = std::min(stretch, columns - k);
    for (int r = 0; r < R; ++r) {
      const Block* const blocks = w + r * row_blocks + k / Block::elements;
      const Index row_bytes = count / Block::elements * Index{sizeof(Block)};
      for (Index line = 0; line < row_bytes; line += 64)  // the next R rows
        hwy::Prefetch(reinterpret_cast<const char*>(blocks + R * row_blocks) + line);
      decode(blocks, count, [&](const Run& weights, Index first) HWY_ATTR {
        for (int v = 0; v < vectors; ++v) store(weights.numbers[v], decoded[r] + first + v * lanes);
      });
    }
    for_tiles(to.tokens, [&]<int T>(std::integral_constant<int, T>, Index t) HWY_ATTR {
      const bf16* const x = to.x + t * to.x_stride + k;
      const auto load_token = [](const bf16* p) HWY_ATTR { return load_as_in<Block>(p); };
      kept.template take_stretch<T>(k, count, columns, t, to, [&](Floats (&sums)[T][R]) HWY_ATTR {
        add_tile<T, R>(x, to.x_stride, load_token, decoded[0], stretch, count, nullptr, 0, sums);
      });
    });
  }
}

template <int R, class Block>
HWY_INLINE void block_rows_by_many(const Rows& to, const Block* w, Index columns) {
  for_passes(to, [&](const Rows& pass) HWY_ATTR { block_rows<R>(pass, w, columns); });
}

template <class Block>
void multiply(const Block* w, Index columns, Index rows, const Rows& to) {
  const Index row_blocks = columns / Block::elements;
  // One token's rows of many bytes take as long as memory does: in its order. Others hide their chains of sums in four.
  constexpr int few = sizeof(Block) > Block::elements ? 1 : 4;
  Index row = 0;
  if (to.tokens == 1) {
    for (; row + few <= rows; row += few) block_rows_by_one<few>(to.from(0, row), w + row * row_blocks, columns);
    for (; row < rows; ++row) block_rows_by_one<1>(to.from(0, row), w + row * row_blocks, columns);
  } else {
    for (; row + bf16_tile_rows <= rows; row += bf16_tile_rows)
      block_rows_by_many<bf16_tile_rows>(to.from(0, row), w + row * row_blocks, columns);
    for (; row < rows; ++row) block_rows_by_many<1>(to.from(0, row), w + row * row_blocks, columns);
  }
}
}  // namespace

bool multiplies_blocks_here() { return multiplies_blocks; }

void multiply_rows_here(Format format, const void* panel, Index columns, Index begin, Index rows, const Rows& to) {
  with_format(format, [&]<class Block>(Block) {
    if constexpr ((Block::elements > 1 && multiplies_blocks) || std::is_same_v<Block, PlainBlock<bf16>>)
      multiply(static_cast<const Block*>(panel) + begin * (columns / Block::elements), columns, rows, to);
  });
}

void round_row_here(Format format, const void* panel, Index columns, Index row, bf16* to) {
  with_format(format, [&]<class Block>(Block) {
    if constexpr (Block::elements > 1)
      decode(static_cast<const Block*>(panel) + row * (columns / Block::elements), columns,
             [&](const Run& weights, Index first) HWY_ATTR { store_in_order<Block>(weights, to + first); });
  });
}

}  // namespace grist::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace grist::cpu {

HWY_EXPORT(multiplies_blocks_here);
HWY_EXPORT(multiply_rows_here);
HWY_EXPORT(round_row_here);

bool has_row_products(Format format) {
  if (block_of(format).elements == 1) return format == Format::bf16;
  return HWY_DYNAMIC_DISPATCH(multiplies_blocks_here)();
}

template <>
void multiply_rows(Format format, const void* panel, Index columns, Index begin, Index rows,
                   const TokenRows<bf16, float>& to) {
  const Rows all{to.x, to.y, nullptr, 0, to.tokens, to.x_stride, to.y_stride};
  HWY_DYNAMIC_DISPATCH(multiply_rows_here)(format, panel, columns, begin, rows, all);
}
template <>
void multiply_rows(Format format, const void* panel, Index columns, Index begin, Index rows,
                   const TokenRows<bf16, bf16>& to) {
  const Rows all{to.x, nullptr, to.y, 0, to.tokens, to.x_stride, to.y_stride};
  HWY_DYNAMIC_DISPATCH(multiply_rows_here)(format, panel, columns, begin, rows, all);
}

void round_row(Format format, const void* panel, Index columns, Index row, bf16* to) {
  HWY_DYNAMIC_DISPATCH(round_row_here)(format, panel, columns, row, to);
}

}  // namespace grist::cpu
#endif
