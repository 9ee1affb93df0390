// Walsh-Hadamard transform of heads, of each run of n channels for itself: x_i = n^(-1/2) sum_j (-1)^bits(i & j) x_j,
// where n is the largest power of two that divides head_dim, 64 at most, and bits counts ones.
//   x [tokens, width], its first heads * head_dim columns
//   forward : changes x in place. It is its own inverse and leaves the products of queries and keys as they are, but
//             spreads what a few channels have over all of a run, so that a row can do with one scale (int8)
//   parallel: nothing to sum
// Throws ShapeError. Enqueues on exec; no fence, no allocation.
#pragma once

#include <grist/core/view.hpp>

namespace grist::layers {

template <class X>
void hadamard(const Exec& exec, int heads, int head_dim, View2<X> x);

}  // namespace grist::layers
