// The matrix product of few tokens: bound by the bandwidth of the weights, so that each weight byte is read once.
#pragma once

#include <grist/core/view.hpp>

namespace grist {

/// y [tokens, out] = x [tokens, in] w^T, w [out, in], float accumulation, no allocation. The order of each sum depends
/// on `in` alone: a token's bits are the same alone and among others. Instantiated for (X, W, Y) = (float, float, float),
/// (bf16, bf16, bf16), (bf16, bf16, float).
template <class X, class W, class Y>
void gemv(const Exec& exec, View2<const X> x, View2<const W> w, View2<Y> y);

/// The same in plain Kokkos: what devices run, and the reference for gemv.
template <class X, class W, class Y>
void gemv_plain(const Exec& exec, View2<const X> x, View2<const W> w, View2<Y> y);

}  // namespace grist
