// Kokkos Kernels: float products on any backend, by whatever BLAS it was built with.
#include <grist/backends/widened_product.hpp>

#include <KokkosBlas2_gemv.hpp>
#include <KokkosBlas3_gemm.hpp>

namespace grist {
namespace {

class KokkosKernelsGemm final : public Gemm {
public:
  [[nodiscard]] std::string_view name() const override { return "kokkos_kernels"; }

  bool multiply(const Exec& exec, ConstMatrix x, ConstMatrix w, Matrix y) override {
    if (x.type == DType::f32 && w.type == DType::f32 && y.type == DType::f32) {
      multiply_floats(exec, x, w, y);
      return true;
    }
    return widened_.multiply(exec, x, w, y, [&](const ConstMatrix& wx, const ConstMatrix& ww, const Matrix& wy) {
      multiply_floats(exec, wx, ww, wy);
      return true;
    });
  }

private:
  static void multiply_floats(const Exec& exec, const ConstMatrix& x, const ConstMatrix& w, const Matrix& y) {
    for (Index batch = 0; batch < x.batches; ++batch) {
      const View2<const float> xb(static_cast<const float*>(x.data) + batch * x.rows * x.columns, x.rows, x.columns);
      const View2<const float> wb(static_cast<const float*>(w.data) + batch * w.rows * w.columns, w.rows, w.columns);
      const View2<float> yb(static_cast<float*>(y.data) + batch * y.rows * y.columns, y.rows, y.columns);
      if (x.rows == 1)
        KokkosBlas::gemv(exec, "N", 1.0F, wb, View1<const float>(xb.data(), x.columns), 0.0F, View1<float>(yb.data(), y.columns));
      else
        KokkosBlas::gemm(exec, "N", "T", 1.0F, xb, wb, 0.0F, yb);
    }
  }

  WidenedProduct widened_;
};

}  // namespace

std::unique_ptr<Gemm> make_kokkos_kernels_gemm() { return std::make_unique<KokkosKernelsGemm>(); }

}  // namespace grist
