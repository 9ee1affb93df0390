#include <grist/layers/cross_entropy.hpp>

namespace grist::layers {

using Team = Kokkos::TeamPolicy<Exec>;

void cross_entropy_highest(const Exec& exec, View2<const float> logits, View1<float> highest) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::cross_entropy::forward");
  const Index columns = logits.extent(1);
  Kokkos::parallel_for(
      "grist::cross_entropy::highest", Team(exec, static_cast<int>(logits.extent(0)), Kokkos::AUTO),
      KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index t = team.league_rank();
        float most = 0;
        Kokkos::parallel_reduce(
            Kokkos::TeamVectorRange(team, columns), [&](Index i, float& m) { m = Kokkos::fmax(m, logits(t, i)); },
            Kokkos::Max<float>(most));
        Kokkos::single(Kokkos::PerTeam(team), [&] { highest(t) = most; });
      });
}

void cross_entropy_sums(const Exec& exec, View2<const float> logits, View1<const int> targets, Index first_column,
                        View1<const float> highest, View1<float> sums, View1<float> target_logits) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::cross_entropy::forward");
  const Index columns = logits.extent(1);
  Kokkos::parallel_for(
      "grist::cross_entropy::sums", Team(exec, static_cast<int>(logits.extent(0)), Kokkos::AUTO),
      KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index t = team.league_rank();
        float sum = 0;
        Kokkos::parallel_reduce(
            Kokkos::TeamVectorRange(team, columns),
            [&](Index i, float& s) { s += Kokkos::exp(logits(t, i) - highest(t)); }, sum);
        Kokkos::single(Kokkos::PerTeam(team), [&] {
          const Index column = targets(t) - first_column;
          sums(t) = sum;
          target_logits(t) = column >= 0 && column < columns ? logits(t, column) : 0.0F;
        });
      });
}

}  // namespace grist::layers
