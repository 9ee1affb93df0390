// Kokkos Kernels: float products on any backend, by whatever BLAS it was built with.
#include <grist/backends/widened_product.hpp>

#include <KokkosBlas2_gemv.hpp>
#include <KokkosBlas3_gemm.hpp>

namespace grist {
namespace {

class KokkosKernelsGemm final : public Gemm {
public:
  [[nodiscard]] std::string_view name() const override { return "kokkos_kernels"; }
  /// A BLAS takes another way at the edge of its tiles.
  [[nodiscard]] bool batch_invariant() const override { return false; }

  bool run(const Exec& exec, const Product& product) override {
    if (product.a.type == DType::f32 && product.b.type == DType::f32 && product.c.type == DType::f32) {
      run_floats(exec, product);
      return true;
    }
    return widened_.run(exec, product, [&](const Product& wide) {
      run_floats(exec, wide);
      return true;
    });
  }

  Index scratch_bytes(const Product& product) override { return WidenedProduct::scratch_bytes(product); }

private:
  /// The matrix number `batch`: a View of its columns within rows as long as the stride.
  template <class T, class Data>
  static auto view(const MatrixOf<Data>& m, Index batch) {
    const View2<T> rows(static_cast<T*>(m.data) + batch * m.batch_stride, m.rows, m.row_stride);
    return Kokkos::subview(rows, Kokkos::ALL, Kokkos::pair<Index, Index>(0, m.columns));
  }

  static void run_floats(const Exec& exec, const Product& product) {
    const char* const op_a = product.op_a == Op::none ? "N" : "T";
    const char* const op_b = product.op_b == Op::none ? "N" : "T";
    for (Index batch = 0; batch < product.c.batches; ++batch) {
      const auto a = view<const float>(product.a, batch), b = view<const float>(product.b, batch);
      const auto c = view<float>(product.c, batch);
      if (product.rows() == 1 && product.op_a == Op::none)
        KokkosBlas::gemv(exec, product.op_b == Op::none ? "T" : "N", 1.0F, b, Kokkos::subview(a, 0, Kokkos::ALL),
                         product.beta, Kokkos::subview(c, 0, Kokkos::ALL));
      else
        KokkosBlas::gemm(exec, op_a, op_b, 1.0F, a, b, product.beta, c);
    }
  }

  WidenedProduct widened_;
};

}  // namespace

std::unique_ptr<Gemm> make_kokkos_kernels_gemm() { return std::make_unique<KokkosKernelsGemm>(); }

}  // namespace grist
