// Linear: y = x W^T + b, float accumulation; in 16-bit storage y is rounded before b is added, and again after it.
//   x [tokens, columns]    w [rows, columns], stored in any format    b [rows], may be empty    y [tokens, rows]
//   forward : reads x, w, b    writes y
//   parallel: column-parallel where w holds a slice of the rows: nothing to sum; row-parallel where it holds a slice of
//             the columns: y is a partial sum over tp, and one rank of tp alone adds b
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

}  // namespace grist::layers
