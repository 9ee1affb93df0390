// A plain tiled product in Kokkos: there on every machine, and the reference for the other providers.
#include <grist/backends/gemm.hpp>

namespace grist {
namespace {

constexpr int tile = 4;  // a work item keeps tile x tile sums in registers

template <class T, class Y>
void multiply_tiles(const Exec& exec, View3<const T> x, View3<const T> w, View3<Y> y) {
  const Index tokens = x.extent(1), in = x.extent(2), out = w.extent(1);
  const Index row_tiles = (tokens + tile - 1) / tile, column_tiles = (out + tile - 1) / tile;
  Kokkos::parallel_for(
      "grist::gemm::portable", Indices<Exec>(exec, 0, x.extent(0) * row_tiles * column_tiles),
      KOKKOS_LAMBDA(Index item) {
        const Index n0 = item % column_tiles * tile, m0 = item / column_tiles % row_tiles * tile;
        const Index batch = item / column_tiles / row_tiles;
        float sum[tile][tile] = {};
        for (Index k = 0; k < in; ++k) {
          float xk[tile], wk[tile];
          for (int i = 0; i < tile; ++i) {  // rows beyond the edge repeat the last one and are not stored
            xk[i] = static_cast<float>(x(batch, m0 + i < tokens ? m0 + i : tokens - 1, k));
            wk[i] = static_cast<float>(w(batch, n0 + i < out ? n0 + i : out - 1, k));
          }
          for (int i = 0; i < tile; ++i)
            for (int j = 0; j < tile; ++j) sum[i][j] += xk[i] * wk[j];
        }
        for (int i = 0; i < tile && m0 + i < tokens; ++i)
          for (int j = 0; j < tile && n0 + j < out; ++j) y(batch, m0 + i, n0 + j) = Y(sum[i][j]);
      });
}

template <class T>
View3<T> typed(Matrix m) { return View3<T>(static_cast<T*>(m.data), m.batches, m.rows, m.columns); }
template <class T>
View3<const T> typed(ConstMatrix m) { return View3<const T>(static_cast<const T*>(m.data), m.batches, m.rows, m.columns); }

class PortableGemm final : public Gemm {
public:
  [[nodiscard]] std::string_view name() const override { return "portable"; }

  bool multiply(const Exec& exec, ConstMatrix x, ConstMatrix w, Matrix y) override {
    if (x.type != w.type) return false;
    switch (x.type) {
      case DType::f32: return multiply_as<float>(exec, x, w, y);
      case DType::bf16: return multiply_as<bf16>(exec, x, w, y);
      case DType::f16: return multiply_as<f16>(exec, x, w, y);
    }
    return false;
  }

private:
  template <class T>
  static bool multiply_as(const Exec& exec, ConstMatrix x, ConstMatrix w, Matrix y) {
    if (y.type == DType::f32)
      multiply_tiles(exec, typed<T>(x), typed<T>(w), typed<float>(y));
    else if (y.type == dtype_of<T>)
      multiply_tiles(exec, typed<T>(x), typed<T>(w), typed<T>(y));
    else
      return false;
    return true;
  }
};

}  // namespace

std::unique_ptr<Gemm> make_portable_gemm() { return std::make_unique<PortableGemm>(); }

}  // namespace grist
