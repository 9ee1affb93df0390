#include <grist/layers/rms_norm.hpp>

#include <grist/core/errors.hpp>

namespace grist::layers {

template <class T>
void rms_norm(const Exec& exec, View2<const float> x, View1<const float> w, float eps, View2<T> y) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::rms_norm::forward");
  if (x.extent(0) != y.extent(0) || x.extent(1) != y.extent(1) || x.extent(1) != w.extent(0)) {
    throw ShapeError("rms_norm: x [{}, {}], w [{}] do not give y [{}, {}]", x.extent(0), x.extent(1), w.extent(0),
                     y.extent(0), y.extent(1));
  }
  constexpr int sums = 16;  // partial sums that a compiler can keep in one vector, added in a fixed order
  const Index hidden = x.extent(1);
  using Team = Kokkos::TeamPolicy<Exec>;
  Kokkos::parallel_for(
      "grist::rms_norm::forward", Team(exec, static_cast<int>(x.extent(0)), Kokkos::AUTO),
      KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index t = team.league_rank();
        const float* row = &x(t, 0);
        float squares = 0;
        Kokkos::parallel_reduce(
            Kokkos::TeamVectorRange(team, hidden / sums),
            [&](Index block, float& sum) {
              float partial[sums];
              for (int i = 0; i < sums; ++i) partial[i] = row[block * sums + i] * row[block * sums + i];
              for (int width = sums / 2; width > 0; width /= 2)
                for (int i = 0; i < width; ++i) partial[i] += partial[i + width];
              sum += partial[0];
            },
            squares);
        for (Index i = hidden / sums * sums; i < hidden; ++i) squares += row[i] * row[i];
        const float scale = 1.0F / Kokkos::sqrt(squares / static_cast<float>(hidden) + eps);
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, hidden), [&](Index i) { y(t, i) = T(row[i] * scale * w(i)); });
      });
}

template void rms_norm(const Exec&, View2<const float>, View1<const float>, float, View2<float>);
template void rms_norm(const Exec&, View2<const float>, View1<const float>, float, View2<bf16>);

}  // namespace grist::layers
