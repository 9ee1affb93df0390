// Cross entropy of the next token: nll_t = log(sum_j e^(x_tj)) - x_t,target, over a vocabulary that may be split, and
// of sum_t scale_t nll_t the gradient dx_tj = scale_t (e^(x_tj) / sum_j e^(x_tj) - [j = target]). A target of -1 is
// masked: its nll and its gradient are 0, whatever its logits, as long as they are finite.
//   logits [tokens, columns], the columns first_column ... of the vocabulary    targets, scale [tokens]
//   highest, sums (in double), target_logits [tokens]
//   forward : cross_entropy_highest reads logits, writes highest (max over tp);
//             cross_entropy_sums reads logits, targets, highest, writes sums and target_logits (sum over tp);
//             then nll = log(sums) + highest - target_logits
//   backward: reads logits, targets, highest and sums (both as reduced over tp), scale; writes dlogits [tokens,
//             columns]
//   parallel: each rank has dlogits of its columns: nothing to sum
// Throws ShapeError. Enqueues on exec; no fence, no allocation. The sums are exact, of powers rounded to multiples of
// 2^-34: of the same logits their bits do not depend on the split.
#pragma once

#include <grist/core/view.hpp>

namespace grist::layers {

void cross_entropy_highest(const Exec& exec, View2<const float> logits, View1<float> highest);
void cross_entropy_sums(const Exec& exec, View2<const float> logits, View1<const int> targets, Index first_column,
                        View1<const float> highest, View1<double> sums, View1<float> target_logits);

/// scale holds what else multiplies the loss of a token or its logits. In float dlogits may be logits.
template <class X>
void cross_entropy_backward(const Exec& exec, View2<const float> logits, View1<const int> targets, Index first_column,
                            View1<const float> highest, View1<const double> sums, View1<const float> scale,
                            View2<X> dlogits);

}  // namespace grist::layers
