// Products of rows of a weight with few tokens, in the vector code that suits the processor best: Highway compiles
// row_products.cpp and float_row_products.cpp for several kinds of processors and picks one at run time.
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

/// Whether multiply_rows knows a format on this processor: bf16, and blocks where there are no products of bytes
/// (int8_products.hpp).
bool has_row_products(Format format);

/// Rows of bf16 that more than two tokens take together: shares of work leave no rest where they are multiples.
constexpr int bf16_tile_rows = 6;

/// y [tokens, r] = x [tokens, columns] times row `begin` + r of a panel for each r < `rows`. `columns` are whole
/// blocks, whose numbers are those of round_row. The order of the sums, in float, depends on columns, format and
/// processor alone.
template <class Y>
void multiply_rows(Format format, const void* panel, Index columns, Index begin, Index rows,
                   const TokenRows<bf16, Y>& to);

/// The same in float: of tokens in float with any format, of tokens in bf16 with f32 and f16.
template <class X, class Y>
void multiply_rows_in_float(Format format, const void* panel, Index columns, Index begin, Index rows,
                            const TokenRows<X, Y>& to);

/// to [columns] = row `row` of a panel in blocks, each number rounded to bf16 once.
void round_row(Format format, const void* panel, Index columns, Index row, bf16* to);

}  // namespace grist::cpu
