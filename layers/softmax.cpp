#include <grist/layers/softmax.hpp>

namespace grist::layers {

void softmax(const Exec& exec, float temperature, View2<float> x) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::softmax::forward");
  const Index width = x.extent(1);
  using Team = Kokkos::TeamPolicy<Exec>;
  Kokkos::parallel_for(
      "grist::softmax::forward", Team(exec, static_cast<int>(x.extent(0)), Kokkos::AUTO),
      KOKKOS_LAMBDA(const Team::member_type& team) {
        float* row = &x(team.league_rank(), 0);
        float highest = 0;
        Kokkos::parallel_reduce(
            Kokkos::TeamVectorRange(team, width), [&](Index i, float& most) { most = Kokkos::fmax(most, row[i]); },
            Kokkos::Max<float>(highest));
        float total = 0;
        Kokkos::parallel_reduce(
            Kokkos::TeamVectorRange(team, width),
            [&](Index i, float& sum) {
              row[i] = Kokkos::exp((row[i] - highest) / temperature);
              sum += row[i];
            },
            total);
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, width), [&](Index i) { row[i] /= total; });
      });
}

}  // namespace grist::layers
