// A plain tiled product in Kokkos: there on every machine, and the reference for the other providers.
#include <grist/backends/gemm.hpp>

namespace grist {
namespace {

constexpr int tile = 4;  // a work item keeps tile x tile sums in registers

template <class X, class W, class Y>
void multiply_tiles(const Exec& exec, View2<const X> x, View2<const W> w, View2<Y> y) {
  const Index tokens = x.extent(0), in = x.extent(1), out = w.extent(0);
  const Index row_tiles = (tokens + tile - 1) / tile, column_tiles = (out + tile - 1) / tile;
  Kokkos::parallel_for(
      "grist::gemm::portable", Kokkos::RangePolicy<Exec>(exec, 0, row_tiles * column_tiles),
      KOKKOS_LAMBDA(Index item) {
        const Index m0 = item / column_tiles * tile, n0 = item % column_tiles * tile;
        float sum[tile][tile] = {};
        for (Index k = 0; k < in; ++k) {
          float xk[tile], wk[tile];
          for (int i = 0; i < tile; ++i) {  // rows beyond the edge repeat the last one and are not stored
            xk[i] = static_cast<float>(x(m0 + i < tokens ? m0 + i : tokens - 1, k));
            wk[i] = static_cast<float>(w(n0 + i < out ? n0 + i : out - 1, k));
          }
          for (int i = 0; i < tile; ++i)
            for (int j = 0; j < tile; ++j) sum[i][j] += xk[i] * wk[j];
        }
        for (int i = 0; i < tile && m0 + i < tokens; ++i)
          for (int j = 0; j < tile && n0 + j < out; ++j) y(m0 + i, n0 + j) = Y(sum[i][j]);
      });
}

template <class T>
View2<T> typed(Matrix m) { return View2<T>(static_cast<T*>(m.data), m.rows, m.columns); }
template <class T>
View2<const T> typed(ConstMatrix m) { return View2<const T>(static_cast<const T*>(m.data), m.rows, m.columns); }

class PortableGemm final : public Gemm {
public:
  [[nodiscard]] std::string_view name() const override { return "portable"; }

  bool multiply(const Exec& exec, ConstMatrix x, ConstMatrix w, Matrix y) override {
    if (x.type == DType::f32 && w.type == DType::f32 && y.type == DType::f32)
      multiply_tiles(exec, typed<float>(x), typed<float>(w), typed<float>(y));
    else if (x.type == DType::bf16 && w.type == DType::bf16 && y.type == DType::bf16)
      multiply_tiles(exec, typed<bf16>(x), typed<bf16>(w), typed<bf16>(y));
    else if (x.type == DType::bf16 && w.type == DType::bf16 && y.type == DType::f32)
      multiply_tiles(exec, typed<bf16>(x), typed<bf16>(w), typed<float>(y));
    else
      return false;
    return true;
  }
};

}  // namespace

std::unique_ptr<Gemm> make_portable_gemm() { return std::make_unique<PortableGemm>(); }

}  // namespace grist
