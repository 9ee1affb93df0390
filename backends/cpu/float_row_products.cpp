// Products in float: of tokens in float with rows of any format, and of tokens in bf16 with rows in f32 or f16. For
// every (token, row) two vectors of partial sums are kept, so that the order of additions is the same whatever tokens
// share the pass.
#include <grist/backends/cpu/row_products.hpp>

#include <grist/backends/cpu/float_targets.hpp>

#include <algorithm>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE <grist/backends/cpu/float_row_products.cpp>  // this file, once for each of them
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include <grist/backends/cpu/lanes-inl.hpp>

HWY_BEFORE_NAMESPACE();
namespace grist::cpu::HWY_NAMESPACE {
namespace {

constexpr int tile_rows = 4;
constexpr Index most_tokens = 32;  // that share a decoded chunk: their sums fit the first cache beside it
constexpr int chunk = 256;         // numbers decoded at a time, whole blocks of any format

/// y of Tokens x Rows, at most 8 pairs: 16 vectors of sums fit the registers, once the loops over pairs are unrolled.
template <int T, int Rows, class X, class W, class Y>
void dot_tile(const X* x, Index x_stride, const W* w, Index in, Y* y, Index y_stride) {
  Lanes even[T][Rows] = {};
  Lanes odd[T][Rows] = {};
  Index k = 0;
  for (; k + 2 * lane_count <= in; k += 2 * lane_count) {
    Lanes w0[Rows], w1[Rows];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      w0[r] = load(w + r * in + k);
      w1[r] = load(w + r * in + k + lane_count);
    }
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const Lanes x0 = load(x + t * x_stride + k);
      const Lanes x1 = load(x + t * x_stride + k + lane_count);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) {
        even[t][r] = fma(x0, w0[r], even[t][r]);
        odd[t][r] = fma(x1, w1[r], odd[t][r]);
      }
    }
  }
  if (k + lane_count <= in) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r)
        even[t][r] = fma(load(x + t * x_stride + k), load(w + r * in + k), even[t][r]);
    k += lane_count;
  }
  if (k < in) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r)
        odd[t][r] = fma(load_some(x + t * x_stride + k, in - k), load_some(w + r * in + k, in - k), odd[t][r]);
  }
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) y[t * y_stride + r] = Y(sum(even[t][r] + odd[t][r]));
}

/// Calls f(integral constants T and R, t, r) for tiles of at most 8 pairs of `count` tokens and Rows rows.
template <int Rows, class F>
void for_tiles(Index count, F&& f) {
  constexpr int pair = Rows == 1 ? 1 : 2;
  Index t = 0;
  for (; t + 4 <= count; t += 4)
    for (int r = 0; r < Rows; r += pair) f.template operator()<4, pair>(t, r);
  if (t + 2 <= count) {
    f.template operator()<2, Rows>(t, 0);
    t += 2;
  }
  if (t < count) f.template operator()<1, Rows>(t, 0);
}

/// Rows of plain numbers, which stay in the cache from the first tokens on.
template <int Rows, class X, class W, class Y>
void dot_rows(const TokenRows<X, Y>& tokens, const PlainBlock<W>* blocks, Index in, Index column) {
  const W* const w = &blocks->number;
  for_tiles<Rows>(tokens.tokens, [&]<int T, int R>(Index t, int r) HWY_ATTR {
    dot_tile<T, R>(tokens.x + t * tokens.x_stride, tokens.x_stride, w + r * in, in,
                   tokens.y + t * tokens.y_stride + column + r, tokens.y_stride);
  });
}

/// Two vectors of sums for each pair of a token and a row.
struct Sums {
  Lanes even, odd;
};

/// Adds the products of `count` numbers, a multiple of two vectors, to sums of T x R, whose rows lie `sums_stride`
/// apart.
template <int T, int R, class X>
void add_chunk(const X* x, Index x_stride, const float (*w)[chunk], int count, Sums* sums, int sums_stride) {
  Sums s[T][R];
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) s[t][r] = sums[t * sums_stride + r];
  for (int k = 0; k < count; k += 2 * lane_count) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const Lanes x0 = load(x + t * x_stride + k);
      const Lanes x1 = load(x + t * x_stride + k + lane_count);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        s[t][r].even = fma(x0, load(w[r] + k), s[t][r].even);
        s[t][r].odd = fma(x1, load(w[r] + k + lane_count), s[t][r].odd);
      }
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sums[t * sums_stride + r] = s[t][r];
}

/// Rows of blocks: a chunk of each is decoded into the first cache once for all tokens of a pass.
template <int Rows, class X, class Block, class Y>
void dot_rows(const TokenRows<X, Y>& tokens, const Block* blocks, Index in, Index column) {
  static_assert(chunk % Block::elements == 0 && Block::elements % (2 * lane_count) == 0);
  const Index row_blocks = in / Block::elements;
  alignas(64) float w[Rows][chunk];
  Sums sums[most_tokens * Rows];
  for (Index first = 0; first < tokens.tokens; first += most_tokens) {
    const Index count = std::min(most_tokens, tokens.tokens - first);
    std::fill_n(sums, count * Rows, Sums{{}, {}});
    for (Index k = 0; k < in; k += chunk) {
      const int width = static_cast<int>(std::min<Index>(chunk, in - k));
      for (int r = 0; r < Rows; ++r) {
        const Block* const from = blocks + r * row_blocks + k / Block::elements;
        for (int b = 0; b < width / Block::elements; ++b) from[b].decode(w[r] + b * Block::elements);
      }
      for_tiles<Rows>(count, [&]<int T, int R>(Index t, int r) HWY_ATTR {
        add_chunk<T, R>(tokens.x + (first + t) * tokens.x_stride + k, tokens.x_stride, w + r, width,
                        sums + t * Rows + r, Rows);
      });
    }
    for (Index t = 0; t < count; ++t)
      for (int r = 0; r < Rows; ++r)
        tokens.y[(first + t) * tokens.y_stride + column + r] =
            Y(sum(sums[t * Rows + r].even + sums[t * Rows + r].odd));
  }
}

template <class Block, class X, class Y>
void multiply(const TokenRows<X, Y>& tokens, const Block* panel, Index in, Index rows) {
  const Index row_blocks = in / Block::elements;
  Index row = 0;
  for (; row + tile_rows <= rows; row += tile_rows) dot_rows<tile_rows>(tokens, panel + row * row_blocks, in, row);
  for (; row < rows; ++row) dot_rows<1>(tokens, panel + row * row_blocks, in, row);
}

template <class X, class Y>
void multiply_rows_here(Format format, const void* panel, Index columns, Index begin, Index rows,
                        const TokenRows<X, Y>& to) {
  with_format(format, [&]<class Block>(Block) {
    constexpr bool left_by_row_products =
        std::is_same_v<Block, PlainBlock<float>> || std::is_same_v<Block, PlainBlock<f16>>;
    if constexpr (std::is_same_v<X, float> || left_by_row_products)
      multiply(to, static_cast<const Block*>(panel) + begin * (columns / Block::elements), columns, rows);
    else
      Kokkos::abort("grist: products in float of tokens in bf16 with a format that is left to others");
  });
}

}  // namespace

void multiply_float_by_rows(Format format, const void* panel, Index columns, Index begin, Index rows,
                            const TokenRows<float, float>& to) {
  multiply_rows_here(format, panel, columns, begin, rows, to);
}
void multiply_bf16_to_float(Format format, const void* panel, Index columns, Index begin, Index rows,
                            const TokenRows<bf16, float>& to) {
  multiply_rows_here(format, panel, columns, begin, rows, to);
}
void multiply_bf16_to_bf16(Format format, const void* panel, Index columns, Index begin, Index rows,
                           const TokenRows<bf16, bf16>& to) {
  multiply_rows_here(format, panel, columns, begin, rows, to);
}

}  // namespace grist::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace grist::cpu {

HWY_EXPORT(multiply_float_by_rows);
HWY_EXPORT(multiply_bf16_to_float);
HWY_EXPORT(multiply_bf16_to_bf16);

template <>
void multiply_rows_in_float(Format format, const void* panel, Index columns, Index begin, Index rows,
                            const TokenRows<float, float>& to) {
  HWY_DYNAMIC_DISPATCH(multiply_float_by_rows)(format, panel, columns, begin, rows, to);
}
template <>
void multiply_rows_in_float(Format format, const void* panel, Index columns, Index begin, Index rows,
                            const TokenRows<bf16, float>& to) {
  HWY_DYNAMIC_DISPATCH(multiply_bf16_to_float)(format, panel, columns, begin, rows, to);
}
template <>
void multiply_rows_in_float(Format format, const void* panel, Index columns, Index begin, Index rows,
                            const TokenRows<bf16, bf16>& to) {
  HWY_DYNAMIC_DISPATCH(multiply_bf16_to_bf16)(format, panel, columns, begin, rows, to);
}

}  // namespace grist::cpu
#endif
