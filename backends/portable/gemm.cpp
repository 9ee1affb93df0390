// A plain tiled product in Kokkos: there on every machine, and the reference for the other providers.
#include <grist/backends/gemm.hpp>

namespace grist {
namespace {

constexpr int tile = 4;  // a work item keeps tile x tile sums in registers

/// A matrix of a batch, an element (i, k) of op(M) at data[i * outer + k * inner].
template <class T>
struct Strided {
  T* data;
  Index batch, outer, inner;

  Strided(const ConstMatrix& m, Op op)
      : data(static_cast<T*>(m.data)),
        batch(m.batch_stride),
        outer(op == Op::none ? m.row_stride : 1),
        inner(op == Op::none ? 1 : m.row_stride) {}
};

template <class T, class Y>
void multiply_tiles(const Exec& exec, const Product& product) {
  const Index rows = product.rows(), columns = product.columns(), inner = product.inner();
  const Index row_tiles = (rows + tile - 1) / tile, column_tiles = (columns + tile - 1) / tile;
  const Strided<const T> a(product.a, product.op_a), b(product.b, product.op_b == Op::none ? Op::transposed : Op::none);
  Y* const c = static_cast<Y*>(product.c.data);
  const Index c_batch = product.c.batch_stride, c_row = product.c.row_stride;
  const float beta = product.beta;
  Kokkos::parallel_for(
      "grist::gemm::portable", Indices<Exec>(exec, 0, product.c.batches * row_tiles * column_tiles),
      KOKKOS_LAMBDA(Index item) {
        const Index n0 = item % column_tiles * tile, m0 = item / column_tiles % row_tiles * tile;
        const Index batch = item / column_tiles / row_tiles;
        const T* from_a[tile];
        const T* from_b[tile];
        for (int i = 0; i < tile; ++i) {  // rows beyond the edge repeat the last one and are not stored
          from_a[i] = a.data + batch * a.batch + (m0 + i < rows ? m0 + i : rows - 1) * a.outer;
          from_b[i] = b.data + batch * b.batch + (n0 + i < columns ? n0 + i : columns - 1) * b.outer;
        }
        float sum[tile][tile] = {};
        for (Index k = 0; k < inner; ++k) {
          float ak[tile], bk[tile];
          for (int i = 0; i < tile; ++i) {
            ak[i] = static_cast<float>(from_a[i][k * a.inner]);
            bk[i] = static_cast<float>(from_b[i][k * b.inner]);
          }
          for (int i = 0; i < tile; ++i)
            for (int j = 0; j < tile; ++j) sum[i][j] += ak[i] * bk[j];
        }
        for (int i = 0; i < tile && m0 + i < rows; ++i) {
          for (int j = 0; j < tile && n0 + j < columns; ++j) {
            Y& to = c[batch * c_batch + (m0 + i) * c_row + n0 + j];
            to = beta == 0 ? Y(sum[i][j]) : Y(sum[i][j] + beta * static_cast<float>(to));
          }
        }
      });
}

class PortableGemm final : public Gemm {
public:
  [[nodiscard]] std::string_view name() const override { return "portable"; }

  bool run(const Exec& exec, const Product& product) override {
    if (product.a.type != product.b.type) return false;
    switch (product.a.type) {
      case DType::f32:
        return run_as<float>(exec, product);
      case DType::bf16:
        return run_as<bf16>(exec, product);
      case DType::f16:
        return run_as<f16>(exec, product);
    }
    return false;
  }

private:
  template <class T>
  static bool run_as(const Exec& exec, const Product& product) {
    if (product.c.type == DType::f32)
      multiply_tiles<T, float>(exec, product);
    else if (product.c.type == dtype_of<T>)
      multiply_tiles<T, T>(exec, product);
    else
      return false;
    return true;
  }
};

}  // namespace

std::unique_ptr<Gemm> make_portable_gemm() { return std::make_unique<PortableGemm>(); }

}  // namespace grist
