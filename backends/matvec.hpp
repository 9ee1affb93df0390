// The product of few tokens: bound by the bandwidth of the weights, so that each weight byte is read once and its block
// is decoded in registers.
#pragma once

#include <grist/core/weight.hpp>

namespace grist {

/// y [tokens, rows] = x [tokens, columns] w^T, float accumulation, no allocation. The order of each sum depends on the
/// columns and the panel's format alone: a token's bits are the same alone and among others, of a weight and of a slice
/// of its rows. (X, Y) = (float, float), (bf16, bf16), (bf16, float). Where X is bf16, numbers of blocks may be rounded
/// to bf16 once, as they are for products of many tokens.
///
/// With offsets [experts + 1] in device memory: rows offsets(e) ... offsets(e + 1) of x by expert e. Without (an empty
/// View) all rows by the only expert.
template <class X, class Y>
void matvec(const Exec& exec, View2<const X> x, View1<const int> offsets, const Weight& w, View2<Y> y);

/// The same by teams and vector lanes: what devices run, and every build has.
template <class X, class Y>
void matvec_teams(const Exec& exec, View2<const X> x, View1<const int> offsets, const Weight& w, View2<Y> y);

}  // namespace grist
