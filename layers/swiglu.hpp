// SwiGLU: y = silu(gate) * up, silu(g) = g / (1 + e^-g)  (Shazeer 2020).
//   gate_up [tokens, 2 * intermediate], gate first    y [tokens, intermediate]
//   forward : reads gate_up    writes y
//   parallel: a rank holds the same slice of gate and of up: nothing to sum
// Enqueues on exec; no fence, no allocation.
#pragma once

#include <grist/core/view.hpp>

namespace grist::layers {

template <class T>
void swiglu(const Exec& exec, View2<const T> gate_up, View2<T> y);

}  // namespace grist::layers
