#include <grist/layers/residual.hpp>

#include <grist/core/errors.hpp>

namespace grist::layers {

void residual(const Exec& exec, View2<const float> y, View2<float> x) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::residual::forward");
  if (x.extent(0) != y.extent(0) || x.extent(1) != y.extent(1)) {
    throw ShapeError("residual: y [{}, {}] cannot be added to x [{}, {}]", y.extent(0), y.extent(1), x.extent(0),
                     x.extent(1));
  }
  Kokkos::parallel_for(
      "grist::residual::forward", Indices<Exec>(exec, 0, x.size()),
      KOKKOS_LAMBDA(Index i) { x.data()[i] += y.data()[i]; });
}

}  // namespace grist::layers
