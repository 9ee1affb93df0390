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
    const Index tokens = x.rows, in = x.columns, out = w.rows;
    for (Index batch = 0; batch < x.batches; ++batch) {
      const View2<const float> factor(static_cast<const float*>(w.data) + batch * out * in, out, in);
      const auto* const from = static_cast<const float*>(x.data) + batch * tokens * in;
      auto* const to = static_cast<float*>(y.data) + batch * tokens * out;
      if (tokens == 1)
        KokkosBlas::gemv(exec, "N", 1.0F, factor, View1<const float>(from, in), 0.0F, View1<float>(to, out));
      else
        KokkosBlas::gemm(exec, "N", "T", 1.0F, View2<const float>(from, tokens, in), factor, 0.0F, View2<float>(to, tokens, out));
    }
  }

  WidenedProduct widened_;
};

}  // namespace

std::unique_ptr<Gemm> make_kokkos_kernels_gemm() { return std::make_unique<KokkosKernelsGemm>(); }

}  // namespace grist
