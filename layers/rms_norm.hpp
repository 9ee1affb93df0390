// RMSNorm: y = x / sqrt(mean(x^2) + eps) * w  (Zhang and Sennrich 2019).
//   x [tokens, hidden]    w [hidden]    y [tokens, hidden]
//   forward : reads x, w    writes y
//   parallel: tokens and hidden are whole on each rank: nothing to sum
// Enqueues on exec; no fence, no allocation.
#pragma once

#include <grist/core/view.hpp>

namespace grist::layers {

template <class T>
void rms_norm(const Exec& exec, View2<const float> x, View1<const float> w, float eps, View2<T> y);

}  // namespace grist::layers
