// The activations of MLPs, by the names that config.json gives them, computed in float.
//   silu(x) = x / (1 + e^-x)    relu(x) = max(x, 0)    quick_gelu(x) = x / (1 + e^(-1.702 x))
//   gelu(x) = x (1 + erf(x / sqrt(2))) / 2    gelu_tanh(x) = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2
//   activation      : y = f(x)           x, y [tokens, intermediate]; y may be x
//   gated_activation: y = f(gate) * up   gate_up [tokens, 2 * intermediate], gate first (Shazeer 2020)
//   dx = f'(x) dy;    of gated ones d_gate = f'(gate) up dy and d_up = f(gate) dy
//   forward : reads x or gate_up        writes y
//   backward: reads x or gate_up, dy    writes dx (which may be dy) or d_gate_up; relu'(0) is 0
//   parallel: a rank holds the same slice of gate and of up: nothing to sum
// Throws ShapeError. Enqueues on exec; no fence, no allocation.
#pragma once

#include <grist/core/view.hpp>

#include <optional>
#include <string_view>

namespace grist::layers {

enum class Activation { silu, gelu, gelu_tanh, relu, quick_gelu };

/// Of "silu" (or "swish"), "gelu", "gelu_pytorch_tanh" ("gelu_new", "gelu_fast"), "relu", "quick_gelu"; none for
/// others.
std::optional<Activation> activation_of(std::string_view name);

template <class X>
void activation(const Exec& exec, Activation kind, View2<const X> x, View2<X> y);

template <class X>
void gated_activation(const Exec& exec, Activation kind, View2<const X> gate_up, View2<X> y);

template <class X>
void activation_backward(const Exec& exec, Activation kind, View2<const X> x, View2<const X> dy, View2<X> dx);

template <class X>
void gated_activation_backward(const Exec& exec, Activation kind, View2<const X> gate_up, View2<const X> dy,
                               View2<X> d_gate_up);

}  // namespace grist::layers
