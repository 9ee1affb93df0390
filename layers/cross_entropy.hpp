// Cross entropy of the next token: nll_t = log(sum_j e^(x_tj)) - x_t,target, over a vocabulary that may be split.
//   logits [tokens, columns], the columns first_column ... of the vocabulary    targets [tokens]
//   highest, sums, target_logits [tokens]
//   forward : cross_entropy_highest reads logits, writes highest (max over tp);
//             cross_entropy_sums reads logits, targets, highest, writes sums and target_logits (sum over tp);
//             then nll = log(sums) + highest - target_logits
// Enqueues on exec; no fence, no allocation. The sums are in a fixed order.
#pragma once

#include <grist/core/view.hpp>

namespace grist::layers {

void cross_entropy_highest(const Exec& exec, View2<const float> logits, View1<float> highest);
void cross_entropy_sums(const Exec& exec, View2<const float> logits, View1<const int> targets, Index first_column,
                        View1<const float> highest, View1<float> sums, View1<float> target_logits);

}  // namespace grist::layers
