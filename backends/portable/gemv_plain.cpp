// One team of threads per row of the weight matrix, one sum over the team per token.
#include <grist/backends/gemv.hpp>

namespace grist {

template <class X, class W, class Y>
void gemv_plain(const Exec& exec, View2<const X> x, View2<const W> w, View2<Y> y) {
  const Index tokens = x.extent(0), in = w.extent(1), out = w.extent(0);
  using Team = Kokkos::TeamPolicy<Exec>;
  Kokkos::parallel_for(
      "grist::gemv_plain", Team(exec, static_cast<int>(out), Kokkos::AUTO), KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index row = team.league_rank();
        for (Index t = 0; t < tokens; ++t) {
          float dot = 0;
          Kokkos::parallel_reduce(
              Kokkos::TeamVectorRange(team, in),
              [&](Index k, float& sum) { sum += static_cast<float>(x(t, k)) * static_cast<float>(w(row, k)); }, dot);
          Kokkos::single(Kokkos::PerTeam(team), [&] { y(t, row) = Y(dot); });
        }
      });
}

template void gemv_plain(const Exec&, View2<const float>, View2<const float>, View2<float>);
template void gemv_plain(const Exec&, View2<const bf16>, View2<const bf16>, View2<bf16>);
template void gemv_plain(const Exec&, View2<const bf16>, View2<const bf16>, View2<float>);

}  // namespace grist
