// Products of rows of a weight with few tokens, in the vector code that suits the processor best: Highway compiles
// *_row_products.cpp for several kinds of processors and picks one at run time.
#pragma once

#include <grist/core/weight.hpp>

namespace grist::cpu {

/// Tokens and where their products go; strides in elements.
template <class X, class Y>
struct TokenRows {
  const X* x;
  Y* y;
  Index tokens, x_stride, y_stride;
};

/// Rows of bf16 that many tokens take together, and a few of them half as many: shares of work leave no rest where they
/// are multiples.
constexpr int bf16_tile_rows = 6;

/// At most so many tokens take rows all together; more of them token_tile at a time, then those that are left.
constexpr Index most_in_one_tile = 8, token_tile = 4;
constexpr Index tokens_in_tile(Index tokens) { return tokens <= most_in_one_tile ? tokens : token_tile; }

/// A tile's rows and tokens of so many numbers fit a first cache of 32 KB: many tokens take longer rows in stretches.
constexpr Index bf16_stretch = 1536;

/// Whether so many tokens are packed (pack_tile) before they are multiplied with rows in bf16.
constexpr bool packs_tokens(Index tokens, Index columns) { return tokens > token_tile && columns > bf16_stretch; }

/// From one packed token to the next: `columns`, up to whole vectors of any processor.
constexpr Index packed_columns(Index columns) { return (columns + 31) / 32 * 32; }

/// to [tokens, packed_columns(columns)] = the first `tokens` of x [.., columns] as products with rows in bf16 read them
/// together, at most most_in_one_tile.
void pack_tile(const bf16* x, Index columns, Index tokens, bf16* to);

/// y [tokens, r] = x [tokens, columns] times row r of w for each r < `rows`; tokens are packed where packs_tokens says
/// so, tokens_in_tile(tokens) at a time. The order of the sums, in float, depends on columns and processor alone.
template <class Y>
void multiply_bf16_rows(const bf16* w, Index columns, Index rows, const TokenRows<bf16, Y>& to);

/// Whether blocks are multiplied with bf16 on this processor: where there are no products of bytes (int8_products.hpp).
bool has_block_row_products();

/// y [tokens, r] = x [tokens, columns] times row `begin` + r of a panel in blocks for each r < `rows`, their numbers
/// those of round_row. The order of the sums, in float, depends on columns, format and processor alone.
template <class Y>
void multiply_block_rows(Format format, const void* panel, Index columns, Index begin, Index rows,
                         const TokenRows<bf16, Y>& to);

/// The same in float: of tokens in float with any format, of tokens in bf16 with f32 and f16.
template <class X, class Y>
void multiply_rows_in_float(Format format, const void* panel, Index columns, Index begin, Index rows,
                            const TokenRows<X, Y>& to);

/// to [columns] = row `row` of a panel in blocks, each number rounded to bf16 once.
void round_row(Format format, const void* panel, Index columns, Index row, bf16* to);

}  // namespace grist::cpu
