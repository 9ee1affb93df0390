#include <grist/layers/activation.hpp>

#include <grist/core/errors.hpp>
#include <grist/core/exp_negative.hpp>

namespace grist::layers {
namespace {

using Team = Kokkos::TeamPolicy<Exec>;

/// f(x) and f'(x).
struct ValueAndSlope {
  float value, slope;
};

/// 1 / (1 + e^-x), which is e^x / (1 + e^x).
KOKKOS_INLINE_FUNCTION float sigmoid(float x) {
  const float e = exp_negative(-Kokkos::fabs(x));
  return (x < 0.0F ? e : 1.0F) / (1.0F + e);
}

template <Activation Kind>
KOKKOS_INLINE_FUNCTION ValueAndSlope activated(float x) {
  if constexpr (Kind == Activation::silu || Kind == Activation::quick_gelu) {
    constexpr float steepness = Kind == Activation::silu ? 1.0F : 1.702F;
    const float s = sigmoid(steepness * x);
    return {x * s, s * (1.0F + steepness * x * (1.0F - s))};
  } else if constexpr (Kind == Activation::gelu) {
    // (1 + erf(x / sqrt(2))) / 2, to 1e-7: Abramowitz and Stegun 7.1.26, which takes the e that the slope takes too.
    const float e = exp_negative(-0.5F * x * x), t = 1.0F / (1.0F + 0.3275911F * 0.70710678F * Kokkos::fabs(x));
    float tail = 1.061405429F;
    tail = tail * t - 1.453152027F;
    tail = tail * t + 1.421413741F;
    tail = tail * t - 0.284496736F;
    tail = tail * t + 0.254829592F;
    tail = 0.5F * tail * t * e;
    const float below = x < 0.0F ? tail : 1.0F - tail;
    return {x * below, below + x * 0.39894228F * e};
  } else if constexpr (Kind == Activation::gelu_tanh) {  // (1 + tanh(u)) / 2 = sigmoid(2 u)
    const float s = sigmoid(2 * 0.79788456F * (x + 0.044715F * x * x * x));
    return {x * s, s + x * s * (1.0F - s) * 2 * 0.79788456F * (1.0F + 3 * 0.044715F * x * x)};
  } else {
    return {x < 0.0F ? 0.0F : x, x <= 0.0F ? 0.0F : 1.0F};
  }
}

constexpr Index team_columns = 1024;  // columns of a team: one token's row is enough for many

/// y(t, c) = f(x(t, c)), times x(t, width + c) where x is that wide.
template <Activation Kind, class X>
void run(const Exec& exec, const char* label, View2<const X> x, View2<X> y) {
  const Index width = y.extent(1);
  const bool gated = x.extent(1) != y.extent(1);
  const Index pieces = (width + team_columns - 1) / team_columns;
  Kokkos::parallel_for(
      label, Team(exec, static_cast<int>(y.extent(0) * pieces), Kokkos::AUTO),
      KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index t = team.league_rank() / pieces, first = team.league_rank() % pieces * team_columns;
        const X* const from = &x(t, 0);
        X* const to = &y(t, 0);
        const Index last = first + team_columns < width ? first + team_columns : width;
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, first, last), [&](Index c) {
          const float value = activated<Kind>(static_cast<float>(from[c])).value;
          to[c] = X(gated ? value * static_cast<float>(from[width + c]) : value);
        });
      });
}

/// dx(t, c) = f'(x(t, c)) dy(t, c); where x is as wide as gate and up, the gradients of both.
template <Activation Kind, class X>
void run_backward(const Exec& exec, const char* label, View2<const X> x, View2<const X> dy, View2<X> dx) {
  const Index width = dy.extent(1);
  const bool gated = x.extent(1) != dy.extent(1);
  const Index pieces = (width + team_columns - 1) / team_columns;
  Kokkos::parallel_for(
      label, Team(exec, static_cast<int>(dy.extent(0) * pieces), Kokkos::AUTO),
      KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index t = team.league_rank() / pieces, first = team.league_rank() % pieces * team_columns;
        const Index last = first + team_columns < width ? first + team_columns : width;
        const X* const from = &x(t, 0);
        const X* const from_y = &dy(t, 0);
        X* const to = &dx(t, 0);
        if (gated) {
          Kokkos::parallel_for(Kokkos::TeamVectorRange(team, first, last), [&](Index c) {
            const auto [value, slope] = activated<Kind>(static_cast<float>(from[c]));
            const float gradient = static_cast<float>(from_y[c]), up = static_cast<float>(from[width + c]);
            to[c] = X(slope * up * gradient);
            to[width + c] = X(value * gradient);
          });
        } else {
          Kokkos::parallel_for(Kokkos::TeamVectorRange(team, first, last), [&](Index c) {
            to[c] = X(activated<Kind>(static_cast<float>(from[c])).slope * static_cast<float>(from_y[c]));
          });
        }
      });
}

/// Calls run(constant) with the kind as a constant.
template <class Run>
void with_kind(Activation kind, Run run) {
  switch (kind) {
    case Activation::silu:
      return run.template operator()<Activation::silu>();
    case Activation::gelu:
      return run.template operator()<Activation::gelu>();
    case Activation::gelu_tanh:
      return run.template operator()<Activation::gelu_tanh>();
    case Activation::relu:
      return run.template operator()<Activation::relu>();
    case Activation::quick_gelu:
      return run.template operator()<Activation::quick_gelu>();
  }
}

}  // namespace

std::optional<Activation> activation_of(std::string_view name) {
  if (name == "silu" || name == "swish") return Activation::silu;
  if (name == "gelu") return Activation::gelu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new" || name == "gelu_fast") return Activation::gelu_tanh;
  if (name == "relu") return Activation::relu;
  if (name == "quick_gelu") return Activation::quick_gelu;
  return std::nullopt;
}

template <class X>
void activation(const Exec& exec, Activation kind, View2<const X> x, View2<X> y) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::activation::forward");
  if (x.extent(0) != y.extent(0) || x.extent(1) != y.extent(1))
    throw ShapeError("activation: x [{}, {}] does not give y [{}, {}]", x.extent(0), x.extent(1), y.extent(0),
                     y.extent(1));
  with_kind(kind, [&]<Activation Kind>() { run<Kind>(exec, "grist::activation::forward", x, y); });
}

template <class X>
void gated_activation(const Exec& exec, Activation kind, View2<const X> gate_up, View2<X> y) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::activation::gated");
  if (gate_up.extent(0) != y.extent(0) || gate_up.extent(1) != 2 * y.extent(1)) {
    throw ShapeError("gated_activation: gate_up [{}, {}] does not give y [{}, {}]: it holds gate and up",
                     gate_up.extent(0), gate_up.extent(1), y.extent(0), y.extent(1));
  }
  with_kind(kind, [&]<Activation Kind>() { run<Kind>(exec, "grist::activation::gated", gate_up, y); });
}

template <class X>
void activation_backward(const Exec& exec, Activation kind, View2<const X> x, View2<const X> dy, View2<X> dx) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::activation::backward");
  if (x.extent(0) != dy.extent(0) || x.extent(1) != dy.extent(1) || x.extent(0) != dx.extent(0) ||
      x.extent(1) != dx.extent(1))
    throw ShapeError("activation_backward: x [{}, {}], dy [{}, {}] do not give dx [{}, {}]", x.extent(0), x.extent(1),
                     dy.extent(0), dy.extent(1), dx.extent(0), dx.extent(1));
  with_kind(kind, [&]<Activation Kind>() { run_backward<Kind>(exec, "grist::activation::backward", x, dy, dx); });
}

template <class X>
void gated_activation_backward(const Exec& exec, Activation kind, View2<const X> gate_up, View2<const X> dy,
                               View2<X> d_gate_up) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::activation::gated_backward");
  if (gate_up.extent(0) != dy.extent(0) || gate_up.extent(1) != 2 * dy.extent(1) ||
      gate_up.extent(0) != d_gate_up.extent(0) || gate_up.extent(1) != d_gate_up.extent(1))
    throw ShapeError("gated_activation_backward: gate_up [{}, {}], dy [{}, {}] do not give d_gate_up [{}, {}]",
                     gate_up.extent(0), gate_up.extent(1), dy.extent(0), dy.extent(1), d_gate_up.extent(0),
                     d_gate_up.extent(1));
  with_kind(kind, [&]<Activation Kind>() {
    run_backward<Kind>(exec, "grist::activation::gated_backward", gate_up, dy, d_gate_up);
  });
}

#define GRIST_INSTANTIATE(X)                                                                            \
  template void activation(const Exec&, Activation, View2<const X>, View2<X>);                          \
  template void gated_activation(const Exec&, Activation, View2<const X>, View2<X>);                    \
  template void activation_backward(const Exec&, Activation, View2<const X>, View2<const X>, View2<X>); \
  template void gated_activation_backward(const Exec&, Activation, View2<const X>, View2<const X>, View2<X>);
GRIST_INSTANTIATE(float)
GRIST_INSTANTIATE(bf16)
#undef GRIST_INSTANTIATE

}  // namespace grist::layers
