// Each work item streams a few rows of every panel. For every (token, row) two vectors of partial sums are kept, so
// that the order of additions is the same whatever tokens share the pass.
#include <grist/backends/matvec.hpp>

#include <grist/backends/cpu/lanes.hpp>
#include <grist/backends/cpu/row_products.hpp>

#include <algorithm>

namespace grist {
namespace {

using cpu::fma;
using cpu::lane_count;
using cpu::Lanes;
using cpu::load;
using cpu::load_some;
using cpu::TokenRows;

constexpr Index rows_per_item = 4;
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
    for (int r = 0; r < Rows; ++r) y[t * y_stride + r] = Y(cpu::sum(even[t][r] + odd[t][r]));
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
  for_tiles<Rows>(tokens.tokens, [&]<int T, int R>(Index t, int r) {
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
      for_tiles<Rows>(count, [&]<int T, int R>(Index t, int r) {
        add_chunk<T, R>(tokens.x + (first + t) * tokens.x_stride + k, tokens.x_stride, w + r, width,
                        sums + t * Rows + r, Rows);
      });
    }
    for (Index t = 0; t < count; ++t)
      for (int r = 0; r < Rows; ++r)
        tokens.y[(first + t) * tokens.y_stride + column + r] =
            Y(cpu::sum(sums[t * Rows + r].even + sums[t * Rows + r].odd));
  }
}

/// Rows [begin, end) of an expert's panel.
template <class Block, class X, class Y>
void dot_range(const TokenRows<X, Y>& tokens, const Block* panel, Index in, Index begin, Index end, Index column) {
  const Index row_blocks = in / Block::elements;
  Index row = begin;
  for (; row + rows_per_item <= end; row += rows_per_item)
    dot_rows<static_cast<int>(rows_per_item)>(tokens, panel + row * row_blocks, in, column + row);
  for (; row < end; ++row) dot_rows<1>(tokens, panel + row * row_blocks, in, column + row);
}

Index items_of(Index rows) { return (rows + rows_per_item - 1) / rows_per_item; }

}  // namespace

template <class X, class Y>
void matvec(const Exec& exec, View2<const X> x, View1<const int> offsets, const Weight& w, View2<Y> y) {
  const Index in = w.columns, out = w.rows;
  const bool one = offsets.extent(0) == 0;
  // Item `slice` of `slices` takes its share of the rows of every panel, so that a thread reads of each panel the part
  // that it touched first where the panel was filled by all threads (docs/decisions/2026-11-25-first-touch.md).
  Index slices = 0;
  for (int p = 0; p < w.panels; ++p) slices = std::max(slices, items_of(w.panel[p].rows));
  slices = std::min<Index>(slices, 8 * exec.concurrency());  // long runs of rows: what is read in order is read ahead
  Kokkos::parallel_for(
      "grist::matvec", Indices<Exec>(exec, 0, slices * w.experts), KOKKOS_LAMBDA(Index item) {
        const Index expert = item % w.experts, slice = item / w.experts;
        const Index first = one ? 0 : offsets(expert),
                    end = one ? static_cast<Index>(x.extent(0)) : offsets(expert + 1);
        if (first == end) return;
        const TokenRows<X, Y> tokens{x.data() + first * in, y.data() + first * out, end - first, in, out};
        Index column = 0;
        for (int p = 0; p < w.panels; ++p) {
          const Panel& panel = w.panel[p];
          const Index items = items_of(panel.rows);
          const Index begin = slice * items / slices * rows_per_item;
          const Index stop = std::min((slice + 1) * items / slices * rows_per_item, panel.rows);
          if (begin < stop) {
            const Index before = expert * panel.rows;
            if constexpr (std::is_same_v<X, bf16>) {
              if (cpu::has_row_products(panel.format)) {
                cpu::multiply_rows(panel.format, panel.data, in, before + begin, stop - begin,
                                   TokenRows<X, Y>{tokens.x, tokens.y + column + begin, tokens.tokens, in, out});
                column += panel.rows;
                continue;
              }
            }
            with_format(panel.format, [&]<class Block>(Block) {
              if constexpr (std::is_same_v<X, float> || Block::elements == 1) {  // the others were served above
                const Block* const rows = static_cast<const Block*>(panel.data) + before * (in / Block::elements);
                dot_range(tokens, rows, in, begin, stop, column);
              }
            });
          }
          column += panel.rows;
        }
      });
}

template void matvec(const Exec&, View2<const float>, View1<const int>, const Weight&, View2<float>);
template void matvec(const Exec&, View2<const bf16>, View1<const int>, const Weight&, View2<bf16>);
template void matvec(const Exec&, View2<const bf16>, View1<const int>, const Weight&, View2<float>);

}  // namespace grist
