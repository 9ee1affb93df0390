// 16-bit products by a library that has only float ones: a panel of weight rows is widened at a time.
#pragma once

#include <grist/backends/gemm.hpp>
#include <grist/core/staging.hpp>

#include <algorithm>

namespace grist {

namespace widened {  // not members: device compilers take no kernel in a private one

template <class T>
void widen(const Exec& exec, const void* from, View2<float> to) {
  const View1<float> out(to.data(), to.size());
  const View1<const T> in(static_cast<const T*>(from), to.size());
  Kokkos::parallel_for("grist::gemm::widen", Indices<Exec>(exec, 0, out.size()),
                       KOKKOS_LAMBDA(Index i) { out(i) = static_cast<float>(in(i)); });
}

/// Copies a panel into the columns of a wider matrix.
template <class T>
void place(const Exec& exec, View2<float> panel, T* to, Index to_columns) {
  const Index columns = panel.extent(1);
  using Team = Kokkos::TeamPolicy<Exec>;
  Kokkos::parallel_for(
      "grist::gemm::place", Team(exec, static_cast<int>(panel.extent(0)), Kokkos::AUTO), KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index row = team.league_rank();
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, columns), [&](Index i) { to[row * to_columns + i] = T(panel(row, i)); });
      });
}

}  // namespace widened

class WidenedProduct {
public:
  /// y = x w^T by `multiply`, which does it for float matrices and returns false where it cannot. False, too, where x and w
  /// are not of one 16-bit type and y of that or float.
  template <class Multiply>
  bool multiply(const Exec& exec, ConstMatrix x, ConstMatrix w, Matrix y, Multiply&& multiply) {
    if (x.type != w.type || x.batches != 1) return false;
    if (x.type == DType::bf16) return multiply_as<bf16>(exec, x, w, y, multiply);
    if (x.type == DType::f16) return multiply_as<f16>(exec, x, w, y, multiply);
    return false;
  }

private:
  static constexpr Index panel_rows = host_reaches_memory ? 512 : 2048;  // that fit a cache, or keep a device busy

  template <class T, class Multiply>
  bool multiply_as(const Exec& exec, ConstMatrix x, ConstMatrix w, Matrix y, Multiply&& multiply) {
    if (y.type != DType::f32 && y.type != dtype_of<T>) return false;
    const View2<float> wide_x(x_.room<float>(x.rows * x.columns), x.rows, x.columns);
    widened::widen<T>(exec, x.data, wide_x);
    for (Index first = 0; first < w.rows; first += panel_rows) {
      const Index rows = std::min(panel_rows, w.rows - first);
      const View2<float> wide_w(w_.room<float>(rows * w.columns), rows, w.columns);
      const View2<float> wide_y(y_.room<float>(x.rows * rows), x.rows, rows);
      widened::widen<T>(exec, static_cast<const T*>(w.data) + first * w.columns, wide_w);
      if (!multiply(as_const(wide_x), as_const(wide_w), wide_y)) return false;
      if (y.type == DType::f32)
        widened::place(exec, wide_y, static_cast<float*>(y.data) + first, y.columns);
      else
        widened::place(exec, wide_y, static_cast<T*>(y.data) + first, y.columns);
    }
    return true;
  }

  Reserve<Memory> x_, w_, y_;
};

}  // namespace grist
