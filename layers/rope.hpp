// Rotary position embedding (Su et al. 2021), in the halves form of Hugging Face: the pair (x_i, x_{i + d/2}) is turned
// by the angle position * inverse_frequency_i.
//   positions [tokens]    inverse_frequencies [head_dim / 2]    turns [tokens, head_dim]: cosines, then sines
//   x [tokens, width]: its first `heads` heads of head_dim columns are turned, the others left alone
//   forward : rope_turns once per batch, reads positions, writes turns; rope reads turns, turns x in place
//   parallel: heads may be split over tp: nothing to sum
// Enqueues on exec; no fence, no allocation.
#pragma once

#include <grist/core/view.hpp>

namespace grist::layers {

void rope_turns(const Exec& exec, View1<const int> positions, View1<const float> inverse_frequencies, View2<float> turns);

template <class T>
void rope(const Exec& exec, View2<const float> turns, int heads, View2<T> x);

}  // namespace grist::layers
