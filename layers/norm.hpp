// Norms of rows, summed in float.
//   RMS   (Zhang and Sennrich 2019): y = x / sqrt(mean(x^2) + eps) * w
//   layer (Ba et al. 2016)         : y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * w + b
//   none                           : y = x, rounded to Y
// With n = (x - mean(x)) s, s the factor that makes its mean square 1 (mean(x) = 0 in RMS), and g = dy * w:
//   dx = s (g - mean(g) - n mean(g * n)), without mean(g) in RMS;  dw = sum over tokens of dy * n;  db = of dy
// x, y [tokens, hidden]    w, b [hidden]; b may be empty
//   forward : reads x, w, b    writes y
//   backward: reads x, w, dy   adds into dx, dw, db (dx of heads: written over dy)
//   parallel: tokens and hidden are whole on each rank: nothing to sum; dw and db are sums over this rank's tokens
// The bits of a row depend on this row alone, those of dw and db on the tokens and their order. (X, Y) is (float,
// float), (float, bf16) or (bf16, bf16), X of a backward float; y may be x.
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
/// norm of q or k inside qkv, per head.
template <class X>
void rms_norm_heads(const Exec& exec, Index first_column, int heads, View1<const float> w, float eps, View2<X> x);

template <class X, class Y>
void layer_norm(const Exec& exec, View2<const X> x, View1<const float> w, View1<const float> b, float eps, View2<Y> y);

/// What a half of a block reads that has no norm before it.
template <class Y>
void no_norm(const Exec& exec, View2<const float> x, View2<Y> y);

/// Floats of scratch that each backward takes.
Index norm_backward_scratch(Index tokens, Index hidden);

/// Also of residual_rms_norm, x being the sum; what is in dx then is delta's gradient as well as x's.
template <class Y>
void rms_norm_backward(const Exec& exec, View2<const float> x, View1<const float> w, float eps, View2<const Y> dy,
                       View1<float> scratch, View2<float> dx, View1<float> dw);

/// x [tokens, any width]: before its norm, the heads in the same columns as in dx [tokens, width]. What is there of dy
/// becomes dx; other columns are left alone.
template <class X>
void rms_norm_heads_backward(const Exec& exec, View2<const X> x, Index first_column, int heads, View1<const float> w,
                             float eps, View1<float> scratch, View2<X> dx, View1<float> dw);

/// db is empty where b was.
template <class Y>
void layer_norm_backward(const Exec& exec, View2<const float> x, View1<const float> w, float eps, View2<const Y> dy,
                         View1<float> scratch, View2<float> dx, View1<float> dw, View1<float> db);

/// dx += dy.
template <class Y>
void no_norm_backward(const Exec& exec, View2<const Y> dy, View2<float> dx);

}  // namespace grist::layers
