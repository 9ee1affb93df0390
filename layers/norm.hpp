// Norms of rows, summed in float.
//   RMS   (Zhang and Sennrich 2019): y = x / sqrt(mean(x^2) + eps) * w
//   layer (Ba et al. 2016)         : y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * w + b
//   none                           : y = x, rounded to Y
// x, y [tokens, hidden]    w, b [hidden]; b may be empty
//   forward : reads x, w, b    writes y
//   parallel: tokens and hidden are whole on each rank: nothing to sum
// The bits of a row depend on this row alone. (X, Y) is (float, float), (float, bf16) or (bf16, bf16); y may be x.
// Throws ShapeError. Enqueues on exec; no fence, no allocation.
#pragma once

#include <grist/core/view.hpp>

namespace grist::layers {

template <class X, class Y>
void rms_norm(const Exec& exec, View2<const X> x, View1<const float> w, float eps, View2<Y> y);

/// x [tokens, hidden] += delta, then y = rms_norm(x).
template <class Y>
void residual_rms_norm(const Exec& exec, View2<const float> delta, View2<float> x, View1<const float> w, float eps,
                       View2<Y> y);

/// In place, on each of `heads` heads of w's size in every row of x [tokens, width], from column `first_column` on: the
/// norm of q or k inside qkv, per head or (as one head) over all.
template <class X>
void rms_norm_heads(const Exec& exec, Index first_column, int heads, View1<const float> w, float eps, View2<X> x);

template <class X, class Y>
void layer_norm(const Exec& exec, View2<const X> x, View1<const float> w, View1<const float> b, float eps, View2<Y> y);

/// What a half of a block reads that has no norm before it.
template <class Y>
void no_norm(const Exec& exec, View2<const float> x, View2<Y> y);

}  // namespace grist::layers
