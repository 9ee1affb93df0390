#include <grist/layers/activation.hpp>

#include <grist/core/errors.hpp>

namespace grist::layers {
namespace {

using Team = Kokkos::TeamPolicy<Exec>;

template <Activation Kind>
KOKKOS_INLINE_FUNCTION float activated(float x) {
  if constexpr (Kind == Activation::silu) return x / (1.0F + Kokkos::exp(-x));
  if constexpr (Kind == Activation::gelu) return 0.5F * x * (1.0F + Kokkos::erf(x * 0.70710678F));
  if constexpr (Kind == Activation::gelu_tanh)
    return 0.5F * x * (1.0F + Kokkos::tanh(0.79788456F * (x + 0.044715F * x * x * x)));
  if constexpr (Kind == Activation::relu) return x < 0.0F ? 0.0F : x;  // NaN stays NaN
  if constexpr (Kind == Activation::quick_gelu) return x / (1.0F + Kokkos::exp(-1.702F * x));
}

/// y(t, c) = f(x(t, c)), times x(t, width + c) where x is that wide.
template <Activation Kind, class X>
void run(const Exec& exec, const char* label, View2<const X> x, View2<X> y) {
  const Index width = y.extent(1);
  const bool gated = x.extent(1) != y.extent(1);
  constexpr Index piece = 1024;  // columns of a team: one token's row is enough for many
  const Index pieces = (width + piece - 1) / piece;
  Kokkos::parallel_for(
      label, Team(exec, static_cast<int>(y.extent(0) * pieces), Kokkos::AUTO),
      KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index t = team.league_rank() / pieces, first = team.league_rank() % pieces * piece;
        const X* const from = &x(t, 0);
        X* const to = &y(t, 0);
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, first, first + piece < width ? first + piece : width),
                             [&](Index c) {
                               const float value = activated<Kind>(static_cast<float>(from[c]));
                               to[c] = X(gated ? value * static_cast<float>(from[width + c]) : value);
                             });
      });
}

template <class X>
void run(const Exec& exec, const char* label, Activation kind, View2<const X> x, View2<X> y) {
  switch (kind) {
    case Activation::silu:
      return run<Activation::silu>(exec, label, x, y);
    case Activation::gelu:
      return run<Activation::gelu>(exec, label, x, y);
    case Activation::gelu_tanh:
      return run<Activation::gelu_tanh>(exec, label, x, y);
    case Activation::relu:
      return run<Activation::relu>(exec, label, x, y);
    case Activation::quick_gelu:
      return run<Activation::quick_gelu>(exec, label, x, y);
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
  run(exec, "grist::activation::forward", kind, x, y);
}

template <class X>
void gated_activation(const Exec& exec, Activation kind, View2<const X> gate_up, View2<X> y) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::activation::gated");
  if (gate_up.extent(0) != y.extent(0) || gate_up.extent(1) != 2 * y.extent(1)) {
    throw ShapeError("gated_activation: gate_up [{}, {}] does not give y [{}, {}]: it holds gate and up",
                     gate_up.extent(0), gate_up.extent(1), y.extent(0), y.extent(1));
  }
  run(exec, "grist::activation::gated", kind, gate_up, y);
}

#define GRIST_INSTANTIATE(X)                                                   \
  template void activation(const Exec&, Activation, View2<const X>, View2<X>); \
  template void gated_activation(const Exec&, Activation, View2<const X>, View2<X>);
GRIST_INSTANTIATE(float)
GRIST_INSTANTIATE(bf16)
#undef GRIST_INSTANTIATE

}  // namespace grist::layers
