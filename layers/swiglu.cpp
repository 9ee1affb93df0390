#include <grist/layers/swiglu.hpp>

#include <grist/core/errors.hpp>

namespace grist::layers {

template <class T>
void swiglu(const Exec& exec, View2<const T> gate_up, View2<T> y) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::swiglu::forward");
  if (gate_up.extent(0) != y.extent(0) || gate_up.extent(1) != 2 * y.extent(1)) {
    throw ShapeError("swiglu: gate_up [{}, {}] does not give y [{}, {}]: it holds gate and up", gate_up.extent(0),
                     gate_up.extent(1), y.extent(0), y.extent(1));
  }
  const Index width = y.extent(1);
  Kokkos::parallel_for(
      "grist::swiglu::forward", Indices<Exec>(exec, 0, y.size()), KOKKOS_LAMBDA(Index i) {
        const Index t = i / width, c = i % width;
        const float gate = static_cast<float>(gate_up(t, c));
        const float up = static_cast<float>(gate_up(t, width + c));
        y(t, c) = T(gate / (1.0F + Kokkos::exp(-gate)) * up);
      });
}

template void swiglu(const Exec&, View2<const float>, View2<float>);
template void swiglu(const Exec&, View2<const bf16>, View2<bf16>);

}  // namespace grist::layers
