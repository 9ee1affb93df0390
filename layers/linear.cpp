#include <grist/layers/linear.hpp>

#include <grist/core/errors.hpp>
#include <grist/layers/sums.hpp>

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

namespace {

/// dx = the sum over the panels of the columns of dy that are theirs times their rows.
template <class X, class D>
void times_panels(const Exec& exec, Products& products, View2<const X> dy, const Weight& w, View2<D> dx) {
  float beta = 0;
  Index first = 0;
  for (int p = 0; p < w.panels;) {
    const X* const start = static_cast<const X*>(w.panel[p].data);
    Index rows = 0;
    while (p < w.panels && w.panel[p].data == start + rows * w.columns) rows += w.panel[p++].rows;
    const ConstMatrix panel(start, dtype_of<X>, rows, w.columns, w.columns);
    products.run(exec, ConstMatrix(dy).column_range(first, rows), Op::none, panel, Op::none, beta, dx);
    first += rows;
    beta = 1;
  }
}

}  // namespace

template <class X, class D>
void linear_backward(const Exec& exec, Products& products, View2<const X> x, const Weight& w, View2<const X> dy,
                     View2<D> dx, View2<float> dw) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::linear::backward");
  const auto is = [](const auto& v, Index rows, Index columns) {
    return static_cast<Index>(v.extent(0)) == rows && static_cast<Index>(v.extent(1)) == columns;
  };
  const Index tokens = x.extent(0);
  if (w.experts != 1 || !is(x, tokens, w.columns) || !is(dy, tokens, w.rows) || !is(dx, tokens, w.columns) ||
      !is(dw, w.rows, w.columns)) {
    throw ShapeError("linear_backward: x [{}, {}], w [{}, {}, {}], dy [{}, {}] do not give dx [{}, {}], dw [{}, {}]",
                     x.extent(0), x.extent(1), w.experts, w.rows, w.columns, dy.extent(0), dy.extent(1), dx.extent(0),
                     dx.extent(1), dw.extent(0), dw.extent(1));
  }
  for (int p = 0; p < w.panels; ++p) {
    if (const Format format = w.panel[p].format; format != format_of(dtype_of<X>))
      throw ShapeError("linear_backward: a weight stored as {} has no gradient with activations of {}: expected {}",
                       name_of(format), name_of(dtype_of<X>), name_of(dtype_of<X>));
  }
  times_panels(exec, products, dy, w, dx);
  products.run(exec, dy, Op::transposed, x, Op::none, 1, dw);
}

Index bias_backward_scratch(Index tokens, Index rows) { return chunks_of(tokens) * rows; }

template <class Y>
void bias_backward(const Exec& exec, View2<const Y> dy, View1<float> scratch, View1<float> db) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::linear::bias_backward");
  const Index tokens = dy.extent(0), rows = dy.extent(1), chunks = chunks_of(tokens);
  if (db.extent(0) != dy.extent(1))
    throw ShapeError("bias_backward: dy [{}, {}] does not give db [{}]", tokens, rows, db.extent(0));
  if (const Index needed = bias_backward_scratch(tokens, rows); static_cast<Index>(scratch.extent(0)) < needed)
    throw ShapeError("bias_backward: scratch has {} floats, expected {} or more", scratch.extent(0), needed);
  const View2<float> partial(scratch.data(), chunks, rows);
  using Team = Kokkos::TeamPolicy<Exec>;
  Kokkos::parallel_for(
      "grist::linear::bias_backward", Team(exec, static_cast<int>(chunks), Kokkos::AUTO),
      KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index first = team.league_rank() * chunk_rows;
        float* const sums = &partial(team.league_rank(), 0);
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, rows), [&](Index i) { sums[i] = 0; });
        for (Index t = first; t < tokens && t < first + chunk_rows; ++t) {
          const Y* const from = &dy(t, 0);
          Kokkos::parallel_for(Kokkos::TeamVectorRange(team, rows),
                               [&](Index i) { sums[i] += static_cast<float>(from[i]); });
        }
      });
  add_chunks(exec, "grist::linear::bias_backward_sums", partial, db);
}

template void add_bias(const Exec&, View1<const float>, View2<float>);
template void add_bias(const Exec&, View1<const float>, View2<bf16>);
template void linear(const Exec&, Products&, View2<const float>, const Weight&, View1<const float>, View2<float>);
template void linear(const Exec&, Products&, View2<const bf16>, const Weight&, View1<const float>, View2<bf16>);
template void linear(const Exec&, Products&, View2<const bf16>, const Weight&, View1<const float>, View2<float>);

#define GRIST_INSTANTIATE(X, D)                                                                                  \
  template void linear_backward(const Exec&, Products&, View2<const X>, const Weight&, View2<const X>, View2<D>, \
                                View2<float>);
GRIST_INSTANTIATE(float, float)
GRIST_INSTANTIATE(bf16, bf16)
GRIST_INSTANTIATE(bf16, float)
#undef GRIST_INSTANTIATE
template void bias_backward(const Exec&, View2<const float>, View1<float>, View1<float>);
template void bias_backward(const Exec&, View2<const bf16>, View1<float>, View1<float>);

}  // namespace grist::layers
