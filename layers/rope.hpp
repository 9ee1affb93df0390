// Rotary position embedding (Su et al. 2021): pairs of a head's first rotary_dim elements are rotated by the angle
// position * inverse_frequency_i; the elements after them stay. A pair is (x_i, x_{i + rotary_dim / 2}), as in Hugging
// Face; where a family pairs neighbours, (x_2i, x_{2i + 1}), rows of q and k are reordered when they are loaded.
//   positions [tokens]    inverse_frequencies [rotary_dim / 2]
//   cos_sin [tokens, rotary_dim]: cosines, then sines, both times the attention factor of yarn and longrope (else 1)
//   x [tokens, width]: its first `heads` heads of head_dim columns are rotated, the columns after them left alone
//   forward : rope_cos_sin once per batch and table reads positions, writes cos_sin; rope reads cos_sin, rotates x in
//             place
//   backward: reads cos_sin, rotates dx back in place (by the transposed matrix, whose factor is the same)
//   parallel: heads may be split over tp: nothing to sum
// Throws ShapeError. Enqueues on exec; no fence, no allocation.
#pragma once

#include <grist/core/view.hpp>

namespace grist::layers {

/// The frequencies of one table. In sequences of more than `long_after` tokens (0: never) others serve:
/// `long_frequencies` (longrope) or, where they are empty, dynamic NTK's for a base `theta`, a factor and the
/// sequence's length:
///   theta (factor length / long_after - (factor - 1))^(d / (d - 2)), d = rotary_dim
struct RopeFrequencies {
  View1<const float> inverse_frequencies;    // [rotary_dim / 2]
  View1<const float> long_frequencies = {};  // the same, or empty
  float attention_factor = 1;
  int long_after = 0;
  float theta = 0;
  float factor = 0;
};

/// lengths [tokens]: of each token's sequence, as the choice of frequencies counts it.
void rope_cos_sin(const Exec& exec, View1<const int> positions, View1<const int> lengths, const RopeFrequencies& table,
                  View2<float> cos_sin);

template <class X>
void rope(const Exec& exec, View2<const float> cos_sin, int heads, int head_dim, View2<X> x);

template <class X>
void rope_backward(const Exec& exec, View2<const float> cos_sin, int heads, int head_dim, View2<X> dx);

}  // namespace grist::layers
