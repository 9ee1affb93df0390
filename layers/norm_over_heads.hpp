// The RMS norm of q or k over all heads of a token (OLMo 2), where each rank of tp has some of them:
//   y = x / sqrt(sum of x^2 over all heads / (heads head_dim) + eps) * w
// With s = 1 / sqrt(...) and g = dy * w:  dx = s (g - x s^2 sum(g x) / (heads head_dim));  dw = sum of dy * x s
//   x [tokens, width]: the rank's heads of head_dim columns, from `first_column` on; w [columns of these heads]
//   squares, along [tokens, heads]: sums over each head, of all ranks; head_sums makes those of one
//   forward : head_sums reads x, writes this rank's squares (gather over tp);
//             rms_norm_over_heads reads squares, w, writes x in place
//   backward: head_sums reads x, w, dy, writes this rank's along (gather over tp); then reads x, squares, along, dy,
//             writes dx over dy, adds into dw
//   parallel: sums are added in the order of heads, so that no split changes a bit; dw of heads that ranks share are
//             parts
// Throws ShapeError. Enqueues on exec; no fence, no allocation.
#pragma once

#include <grist/core/view.hpp>

namespace grist::layers {

/// sums [tokens, heads] = of x y w over each head, in float. x and y are [tokens, any width]; y may be x, and w empty:
/// all ones.
template <class X>
void head_sums(const Exec& exec, View2<const X> x, View2<const X> y, Index first_column, Index head_dim,
               View1<const float> w, View2<float> sums);

template <class X>
void rms_norm_over_heads(const Exec& exec, View2<const float> squares, Index first_column, Index head_dim,
                         View1<const float> w, float eps, View2<X> x);

/// x is what it was before the norm. along [tokens, parts]: sums of x dy w, which count `share` times: 1 / n where n
/// ranks hold this rank's heads, and each has a part of dy. scratch: norm_backward_scratch(tokens, w.size()).
template <class X>
void rms_norm_over_heads_backward(const Exec& exec, View2<const X> x, View2<const float> squares,
                                  View2<const float> along, float share, Index first_column, Index head_dim,
                                  View1<const float> w, float eps, View1<float> scratch, View2<X> dx,
                                  View1<float> dw);

}  // namespace grist::layers
