// One team of threads per row of a panel, one sum over the team per token.
#include <grist/backends/matvec.hpp>

namespace grist {
namespace {

/// Rows of one format: y's columns from first_row on.
template <class Block, class X, class Y>
void multiply_panel(const Exec& exec, View2<const X> x, View1<const int> offsets, const Block* w, Index rows,
                    Index experts, Index first_row, View2<Y> y) {
  const Index tokens = x.extent(0), columns = x.extent(1), blocks = columns / Block::elements;
  const bool one = offsets.extent(0) == 0;
  using Team = Kokkos::TeamPolicy<Exec>;
  Kokkos::parallel_for(
      "grist::matvec_plain", Team(exec, static_cast<int>(experts * rows), Kokkos::AUTO),
      KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index row = team.league_rank() % rows, expert = team.league_rank() / rows;
        const Block* const from = w + static_cast<Index>(team.league_rank()) * blocks;
        const Index begin = one ? 0 : offsets(expert), end = one ? tokens : offsets(expert + 1);
        for (Index t = begin; t < end; ++t) {
          float dot = 0;
          Kokkos::parallel_reduce(
              Kokkos::TeamVectorRange(team, columns),
              [&](Index k, float& sum) {
                sum += static_cast<float>(x(t, k)) *
                       from[k / Block::elements].value(static_cast<int>(k % Block::elements));
              },
              dot);
          Kokkos::single(Kokkos::PerTeam(team), [&] { y(t, first_row + row) = Y(dot); });
        }
      });
}

}  // namespace

template <class X, class Y>
void matvec_plain(const Exec& exec, View2<const X> x, View1<const int> offsets, const Weight& w, View2<Y> y) {
  Index first = 0;
  for (int p = 0; p < w.panels; ++p) {
    const Panel& panel = w.panel[p];
    with_format(panel.format, [&]<class Block>(Block) {
      multiply_panel(exec, x, offsets, static_cast<const Block*>(panel.data), panel.rows, w.experts, first, y);
    });
    first += panel.rows;
  }
}

template void matvec_plain(const Exec&, View2<const float>, View1<const int>, const Weight&, View2<float>);
template void matvec_plain(const Exec&, View2<const bf16>, View1<const int>, const Weight&, View2<bf16>);
template void matvec_plain(const Exec&, View2<const bf16>, View1<const int>, const Weight&, View2<float>);

}  // namespace grist
