// Each work item streams a few rows of the weight matrix. For every (token, row) two vectors of partial sums are kept,
// so that the order of additions is the same whatever tokens share the pass.
#include <grist/backends/gemv.hpp>

#include <grist/backends/openmp/lanes.hpp>

namespace grist {
namespace {

using openmp::lane_count;
using openmp::Lanes;
using openmp::load;
using openmp::load_some;

constexpr Index rows_per_item = 4;

/// y of Tokens x Rows, at most 8 pairs: 16 vectors of sums fit the registers.
template <int Tokens, int Rows, class X, class W, class Y>
void dot_tile(const X* x, Index x_stride, const W* w, Index in, Y* y, Index y_stride) {
  Lanes even[Tokens][Rows] = {};
  Lanes odd[Tokens][Rows] = {};
  Index k = 0;
  for (; k + 2 * lane_count <= in; k += 2 * lane_count) {
    Lanes w0[Rows], w1[Rows];
    for (int r = 0; r < Rows; ++r) {
      w0[r] = load(w + r * in + k);
      w1[r] = load(w + r * in + k + lane_count);
    }
    for (int t = 0; t < Tokens; ++t) {
      const Lanes x0 = load(x + t * x_stride + k);
      const Lanes x1 = load(x + t * x_stride + k + lane_count);
      for (int r = 0; r < Rows; ++r) {
        even[t][r] += x0 * w0[r];
        odd[t][r] += x1 * w1[r];
      }
    }
  }
  if (k + lane_count <= in) {
    for (int t = 0; t < Tokens; ++t)
      for (int r = 0; r < Rows; ++r) even[t][r] += load(x + t * x_stride + k) * load(w + r * in + k);
    k += lane_count;
  }
  if (k < in) {
    for (int t = 0; t < Tokens; ++t)
      for (int r = 0; r < Rows; ++r)
        odd[t][r] += load_some(x + t * x_stride + k, in - k) * load_some(w + r * in + k, in - k);
  }
  for (int t = 0; t < Tokens; ++t)
    for (int r = 0; r < Rows; ++r) y[t * y_stride + r] = Y(openmp::sum(even[t][r] + odd[t][r]));
}

/// All tokens against Rows rows of w, which stay in the cache from the first group of tokens on.
template <int Rows, class X, class W, class Y>
void dot_rows(View2<const X> x, const W* w, Y* y, Index y_stride) {
  const Index tokens = x.extent(0), in = x.extent(1);
  const X* from = x.data();
  Index t = 0;
  if constexpr (Rows == 1) {
    for (; t + 4 <= tokens; t += 4) dot_tile<4, 1>(from + t * in, in, w, in, y + t * y_stride, y_stride);
  } else {
    for (; t + 4 <= tokens; t += 4)
      for (int r = 0; r < Rows; r += 2)
        dot_tile<4, 2>(from + t * in, in, w + r * in, in, y + t * y_stride + r, y_stride);
  }
  if (t + 2 <= tokens) {
    dot_tile<2, Rows>(from + t * in, in, w, in, y + t * y_stride, y_stride);
    t += 2;
  }
  if (t < tokens) dot_tile<1, Rows>(from + t * in, in, w, in, y + t * y_stride, y_stride);
}

}  // namespace

template <class X, class W, class Y>
void gemv(const Exec& exec, View2<const X> x, View2<const W> w, View2<Y> y) {
  const Index in = w.extent(1), out = w.extent(0);
  Kokkos::parallel_for(
      "grist::gemv", Indices<Exec>(exec, 0, (out + rows_per_item - 1) / rows_per_item),
      KOKKOS_LAMBDA(Index item) {
        Index row = item * rows_per_item;
        if (row + rows_per_item <= out) {
          dot_rows<rows_per_item>(x, w.data() + row * in, y.data() + row, out);
        } else {
          for (; row < out; ++row) dot_rows<1>(x, w.data() + row * in, y.data() + row, out);
        }
      });
}

template void gemv(const Exec&, View2<const float>, View2<const float>, View2<float>);
template void gemv(const Exec&, View2<const bf16>, View2<const bf16>, View2<bf16>);
template void gemv(const Exec&, View2<const bf16>, View2<const bf16>, View2<float>);

}  // namespace grist
