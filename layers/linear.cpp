#include <grist/layers/linear.hpp>

#include <grist/backends/gemv.hpp>
#include <grist/core/errors.hpp>

namespace grist::layers {
namespace {

template <class Y>
void add_bias(const Exec& exec, View1<const float> b, View2<Y> y) {
  const Index out = y.extent(1);
  Kokkos::parallel_for(
      "grist::linear::bias", Indices<Exec>(exec, 0, y.size()),
      KOKKOS_LAMBDA(Index i) { y(i / out, i % out) = Y(static_cast<float>(y(i / out, i % out)) + b(i % out)); });
}

template <class T>
View2<T> rows_of(View2<T> v, Index first, Index count) {
  return View2<T>(v.data() + first * v.extent(1), count, v.extent(1));
}

}  // namespace

template <class T, class Y>
void linear(const Exec& exec, Gemm& gemm, View2<const T> x, View2<const T> w, View1<const float> b, Index few,
            View2<Y> y) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::linear::forward");
  const Index tokens = x.extent(0);
  if (x.extent(1) != w.extent(1) || y.extent(0) != x.extent(0) || y.extent(1) != w.extent(0) || few > tokens ||
      (b.size() != 0 && b.extent(0) != w.extent(0))) {
    throw ShapeError("linear: x [{}, {}], w [{}, {}], b [{}], few {} do not give y [{}, {}]: y is [x rows, w rows], x and w "
                     "have equal columns", x.extent(0), x.extent(1), w.extent(0), w.extent(1), b.extent(0), few,
                     y.extent(0), y.extent(1));
  }
  if (few > 0) gemv(exec, rows_of(x, 0, few), w, rows_of(y, 0, few));
  if (few < tokens) {
    const auto many_x = rows_of(x, few, tokens - few);
    const auto many_y = rows_of(y, few, tokens - few);
    if (!gemm.multiply(exec, many_x, w, many_y)) gemv(exec, many_x, w, many_y);
  }
  if (b.size() != 0 && tokens > 0) add_bias(exec, b, y);
}

template void linear(const Exec&, Gemm&, View2<const float>, View2<const float>, View1<const float>, Index, View2<float>);
template void linear(const Exec&, Gemm&, View2<const bf16>, View2<const bf16>, View1<const float>, Index, View2<bf16>);
template void linear(const Exec&, Gemm&, View2<const bf16>, View2<const bf16>, View1<const float>, Index, View2<float>);

}  // namespace grist::layers
