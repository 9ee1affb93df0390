// Linear: y = x W^T + b, float accumulation; in 16-bit storage y is rounded before b is added, and again behind it.
//   x [tokens, in]    w [out, in]    b [out], may be empty    y [tokens, out]
//   forward : reads x, w, b    writes y
//   parallel: column-parallel where w holds a slice of out: nothing to sum; row-parallel where it holds a slice of in:
//             y is a partial sum over tp, and one rank of tp alone adds b
// The first `few` rows belong to sequences that bring few tokens and go through gemv, the others through the GEMM
// provider: how a token is computed depends on its own sequence, never on the batch around it.
// Throws ShapeError. Enqueues on exec (a provider may fence it); no allocation.
#pragma once

#include <grist/backends/gemm.hpp>
#include <grist/core/view.hpp>

namespace grist::layers {

template <class T, class Y>
void linear(const Exec& exec, Gemm& gemm, View2<const T> x, View2<const T> w, View1<const float> b, Index few,
            View2<Y> y);

}  // namespace grist::layers
