// Residual: x += y.
//   x, y [tokens, hidden]
//   forward : reads y    adds into x
//   backward: none: the gradient of y is that of x
//   parallel: nothing to sum
// Enqueues on exec; no fence, no allocation.
#pragma once

#include <grist/core/view.hpp>

namespace grist::layers {

void residual(const Exec& exec, View2<const float> y, View2<float> x);

}  // namespace grist::layers
