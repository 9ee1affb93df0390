// Linear: y = x W^T + b, float accumulation; in 16-bit storage y is rounded before b is added, and again after it.
//   x [tokens, columns]    w [rows, columns], stored in any format    b [rows], may be empty    y [tokens, rows]
//   dx = dy W,  dW = dy^T x,  db = sum over tokens of dy
//   forward : reads x, w, b    writes y
//   backward: reads x, w, dy   writes dx; adds into dw, db
//   parallel: column-parallel where w holds a slice of the rows: nothing to sum; row-parallel where it holds a slice of
//             the columns: y is a partial sum over tp, and one rank of tp alone adds b
//   sum over tp: dx where w is column-parallel; dw and db never (of a row-parallel layer each rank has the whole db)
// Which kernel serves which row is Products' affair (Products::serve).
// (X, Y) = (float, float), (bf16, bf16), (bf16, float). Throws ShapeError. Enqueues on exec (a provider may fence it).
#pragma once

#include <grist/backends/products.hpp>
#include <grist/core/view.hpp>
#include <grist/core/weight.hpp>

namespace grist::layers {

template <class X, class Y>
void linear(const Exec& exec, Products& products, View2<const X> x, const Weight& w, View1<const float> b, View2<Y> y);

/// y [tokens, rows] += b, where b comes after a sum over ranks.
template <class Y>
void add_bias(const Exec& exec, View1<const float> b, View2<Y> y);

/// dy [tokens, rows] gives dx [tokens, columns]. Panels of w must be stored as X, of one expert; those that lie one
/// after the other are one product, else a 16-bit dx is rounded after each. (X, D) = (float, float), (bf16, bf16),
/// (bf16, float). dw [rows, columns].
template <class X, class D>
void linear_backward(const Exec& exec, Products& products, View2<const X> x, const Weight& w, View2<const X> dy,
                     View2<D> dx, View2<float> dw);

/// Floats of scratch that bias_backward takes.
Index bias_backward_scratch(Index tokens, Index rows);

/// db [rows] += the sum over tokens of dy [tokens, rows], in an order that depends on the tokens alone.
template <class Y>
void bias_backward(const Exec& exec, View2<const Y> dy, View1<float> scratch, View1<float> db);

}  // namespace grist::layers
