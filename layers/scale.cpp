#include <grist/layers/scale.hpp>

#include <grist/core/errors.hpp>

namespace grist::layers {

template <class X>
void scale(const Exec& exec, float factor, View2<X> x) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::scale::forward");
  Kokkos::parallel_for(
      "grist::scale::forward", Indices<Exec>(exec, 0, x.size()),
      KOKKOS_LAMBDA(Index i) { x.data()[i] = X(factor * static_cast<float>(x.data()[i])); });
}

void soft_cap(const Exec& exec, float cap, View2<float> x) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::scale::soft_cap");
  Kokkos::parallel_for(
      "grist::scale::soft_cap", Indices<Exec>(exec, 0, x.size()),
      KOKKOS_LAMBDA(Index i) { x.data()[i] = cap * Kokkos::tanh(x.data()[i] / cap); });
}

template <class X>
void soft_cap_backward(const Exec& exec, float cap, View2<const float> y, View2<X> dy) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::scale::soft_cap_backward");
  if (y.extent(0) != dy.extent(0) || y.extent(1) != dy.extent(1))
    throw ShapeError("soft_cap_backward: y [{}, {}] does not go with dy [{}, {}]", y.extent(0), y.extent(1),
                     dy.extent(0), dy.extent(1));
  Kokkos::parallel_for(
      "grist::scale::soft_cap_backward", Indices<Exec>(exec, 0, y.size()), KOKKOS_LAMBDA(Index i) {
        const float part = y.data()[i] / cap;
        dy.data()[i] = X(static_cast<float>(dy.data()[i]) * (1.0F - part) * (1.0F + part));
      });
}

template void scale(const Exec&, float, View2<float>);
template void scale(const Exec&, float, View2<bf16>);
template void soft_cap_backward(const Exec&, float, View2<const float>, View2<float>);
template void soft_cap_backward(const Exec&, float, View2<const float>, View2<bf16>);

}  // namespace grist::layers
