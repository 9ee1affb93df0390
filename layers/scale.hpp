// Scalings of a whole matrix.
//   scale   : x = factor x               (of embeddings, of logits); backward: the same on dx
//   soft cap: y = cap tanh(x / cap), which stays within the cap (Gemma 2);  dx = dy (1 - (y / cap)^2)
// x, y of any shape
//   forward : changes x in place
//   backward: reads y, changes dy into dx in place
//   parallel: nothing to sum
// Throws ShapeError. Enqueues on exec; no fence, no allocation.
#pragma once

#include <grist/core/view.hpp>

namespace grist::layers {

template <class X>
void scale(const Exec& exec, float factor, View2<X> x);

void soft_cap(const Exec& exec, float cap, View2<float> x);

template <class X>
void soft_cap_backward(const Exec& exec, float cap, View2<const float> y, View2<X> dy);

}  // namespace grist::layers
