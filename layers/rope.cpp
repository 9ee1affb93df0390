#include <grist/layers/rope.hpp>

#include <grist/core/errors.hpp>

namespace grist::layers {

void rope_turns(const Exec& exec, View1<const int> positions, View1<const float> inverse_frequencies,
                View2<float> turns) {
  const Index half = inverse_frequencies.extent(0);
  if (turns.extent(0) != positions.extent(0) || static_cast<Index>(turns.extent(1)) != 2 * half) {
    throw ShapeError("rope_turns: positions [{}], inverse_frequencies [{}] do not give turns [{}, {}]",
                     positions.extent(0), half, turns.extent(0), turns.extent(1));
  }
  Kokkos::parallel_for(
      "grist::rope::turns", Indices<Exec>(exec, 0, positions.extent(0) * half), KOKKOS_LAMBDA(Index item) {
        const Index t = item / half, i = item % half;
        const float angle = static_cast<float>(positions(t)) * inverse_frequencies(i);
        turns(t, i) = Kokkos::cos(angle);
        turns(t, half + i) = Kokkos::sin(angle);
      });
}

template <class T>
void rope(const Exec& exec, View2<const float> turns, int heads, View2<T> x) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::rope::forward");
  const Index head_dim = turns.extent(1), half = head_dim / 2;
  if (turns.extent(0) != x.extent(0) || heads * head_dim > static_cast<Index>(x.extent(1))) {
    throw ShapeError("rope: {} heads of {} do not fit x [{}, {}] with turns [{}, {}]", heads, head_dim, x.extent(0),
                     x.extent(1), turns.extent(0), turns.extent(1));
  }
  Kokkos::parallel_for(
      "grist::rope::forward", Indices<Exec>(exec, 0, x.extent(0) * heads), KOKKOS_LAMBDA(Index item) {
        const Index t = item / heads;
        T* head = &x(t, item % heads * head_dim);
        for (Index i = 0; i < half; ++i) {
          const float cosine = turns(t, i), sine = turns(t, half + i);
          const float a = static_cast<float>(head[i]), b = static_cast<float>(head[half + i]);
          head[i] = T(a * cosine - b * sine);
          head[half + i] = T(b * cosine + a * sine);
        }
      });
}

template void rope(const Exec&, View2<const float>, int, View2<float>);
template void rope(const Exec&, View2<const float>, int, View2<bf16>);

}  // namespace grist::layers
