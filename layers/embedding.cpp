#include <grist/layers/embedding.hpp>

#include <grist/core/errors.hpp>

namespace grist::layers {

template <class T>
void embedding(const Exec& exec, View1<const int> ids, View2<const T> w, Index first_row, View2<float> x) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::embedding::forward");
  if (x.extent(0) != ids.extent(0) || x.extent(1) != w.extent(1)) {
    throw ShapeError("embedding: ids [{}], w [{}, {}] do not give x [{}, {}]", ids.extent(0), w.extent(0), w.extent(1),
                     x.extent(0), x.extent(1));
  }
  const Index hidden = w.extent(1), rows = w.extent(0);
  Kokkos::parallel_for(
      "grist::embedding::forward", Indices<Exec>(exec, 0, x.size()), KOKKOS_LAMBDA(Index i) {
        const Index row = ids(i / hidden) - first_row;
        x.data()[i] = row >= 0 && row < rows ? static_cast<float>(w(row, i % hidden)) : 0.0F;
      });
}

template void embedding(const Exec&, View1<const int>, View2<const float>, Index, View2<float>);
template void embedding(const Exec&, View1<const int>, View2<const bf16>, Index, View2<float>);

}  // namespace grist::layers
