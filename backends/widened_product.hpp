// 16-bit products by a library that has only float ones: a panel of B's rows is widened at a time.
#pragma once

#include <grist/backends/gemm.hpp>
#include <grist/core/staging.hpp>

#include <algorithm>

namespace grist {

namespace widened {  // not members: device compilers take no kernel in a private one

/// to [rows, columns], of a matrix whose rows lie `stride` elements apart.
template <class T>
void widen(const Exec& exec, const T* from, Index stride, View2<float> to) {
  const Index columns = to.extent(1);
  if (stride == columns) {
    Kokkos::parallel_for(
        "grist::gemm::widen", Indices<Exec>(exec, 0, to.size()),
        KOKKOS_LAMBDA(Index i) { to.data()[i] = static_cast<float>(from[i]); });
    return;
  }
  Kokkos::parallel_for(
      "grist::gemm::widen", Indices<Exec>(exec, 0, to.size()),
      KOKKOS_LAMBDA(Index i) { to.data()[i] = static_cast<float>(from[i / columns * stride + i % columns]); });
}

/// Copies a panel into some columns of a wider matrix, whose rows lie `stride` elements apart.
template <class T>
void place(const Exec& exec, View2<float> panel, T* to, Index stride) {
  const Index columns = panel.extent(1);
  using Team = Kokkos::TeamPolicy<Exec>;
  Kokkos::parallel_for(
      "grist::gemm::place", Team(exec, static_cast<int>(panel.extent(0)), Kokkos::AUTO),
      KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index row = team.league_rank();
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, columns),
                             [&](Index i) { to[row * stride + i] = T(panel(row, i)); });
      });
}

}  // namespace widened

class WidenedProduct {
public:
  /// Whether it is C = A B^T, with nothing added and no batches, A and B of one 16-bit type and C of that or float.
  static bool serves(const Product& p) {
    return p.a.type == p.b.type && p.a.type != DType::f32 && (p.c.type == DType::f32 || p.c.type == p.a.type) &&
           p.op_a == Op::none && p.op_b == Op::transposed && p.beta == 0 && p.c.batches == 1;
  }

  /// By `run`, which does it for float matrices and returns false where it cannot. False, too, where it does not serve.
  template <class Run>
  bool run(const Exec& exec, const Product& product, Run&& run) {
    if (!serves(product)) return false;
    if (product.a.type == DType::bf16) return run_as<bf16>(exec, product, run);
    if (product.a.type == DType::f16) return run_as<f16>(exec, product, run);
    return false;
  }

  /// Bytes that run takes for such a product, and keeps.
  static Index scratch_bytes(const Product& product) {
    return serves(product) ? floats_for(product) * static_cast<Index>(sizeof(float)) : 0;
  }

private:
  static constexpr Index panel_rows = host_reaches_memory ? 512 : 2048;  // that fit a cache, or keep a device busy

  template <class T, class Run>
  bool run_as(const Exec& exec, const Product& product, Run&& run) {
    const auto& [a, op_a, b, op_b, beta, c] = product;
    const Index floats = floats_for(product);
    float* const memory = memory_.room<float>(floats, floats);
    const View2<float> wide_a(memory, a.rows, a.columns);
    widened::widen(exec, static_cast<const T*>(a.data), a.row_stride, wide_a);
    for (Index first = 0; first < b.rows; first += panel_rows) {
      const Index rows = std::min(panel_rows, b.rows - first);
      const View2<float> wide_b(wide_a.data() + wide_a.size(), rows, b.columns);
      const View2<float> wide_c(wide_b.data() + wide_b.size(), a.rows, rows);
      widened::widen(exec, static_cast<const T*>(b.at(first, 0)), b.row_stride, wide_b);
      if (!run(Product{as_const(wide_a), op_a, as_const(wide_b), op_b, beta, wide_c})) return false;
      if (c.type == DType::f32)
        widened::place(exec, wide_c, static_cast<float*>(c.at(0, first)), c.row_stride);
      else
        widened::place(exec, wide_c, static_cast<T*>(c.at(0, first)), c.row_stride);
    }
    return true;
  }

  /// A, and a panel of B and of C.
  static Index floats_for(const Product& p) {
    const Index rows = std::min(panel_rows, p.b.rows);
    return p.a.rows * p.a.columns + rows * (p.b.columns + p.a.rows);
  }

  Reserve<Memory> memory_;
};

}  // namespace grist
