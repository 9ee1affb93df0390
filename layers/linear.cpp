#include <grist/layers/linear.hpp>

#include <grist/core/errors.hpp>

namespace grist::layers {

template <class Y>
void add_bias(const Exec& exec, View1<const float> b, View2<Y> y) {
  if (b.extent(0) != y.extent(1))
    throw ShapeError("add_bias: b [{}] does not go with y [{}, {}]", b.extent(0), y.extent(0), y.extent(1));
  const Index rows = y.extent(1);
  using Team = Kokkos::TeamPolicy<Exec>;
  Kokkos::parallel_for(
      "grist::linear::bias", Team(exec, static_cast<int>(y.extent(0)), Kokkos::AUTO),
      KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index t = team.league_rank();
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, rows),
                             [&](Index i) { y(t, i) = Y(static_cast<float>(y(t, i)) + b(i)); });
      });
}

template <class X, class Y>
void linear(const Exec& exec, Products& products, View2<const X> x, const Weight& w, View1<const float> b, View2<Y> y) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::linear::forward");
  if (b.size() != 0 && static_cast<Index>(b.extent(0)) != w.rows)
    throw ShapeError("linear: w [{}, {}] wants b [{}] or none, it is [{}]", w.rows, w.columns, w.rows, b.extent(0));
  products.multiply(exec, x, w, y);
  if (b.size() != 0 && y.size() != 0) add_bias(exec, b, y);
}

template void add_bias(const Exec&, View1<const float>, View2<float>);
template void add_bias(const Exec&, View1<const float>, View2<bf16>);
template void linear(const Exec&, Products&, View2<const float>, const Weight&, View1<const float>, View2<float>);
template void linear(const Exec&, Products&, View2<const bf16>, const Weight&, View1<const float>, View2<bf16>);
template void linear(const Exec&, Products&, View2<const bf16>, const Weight&, View1<const float>, View2<float>);

}  // namespace grist::layers
