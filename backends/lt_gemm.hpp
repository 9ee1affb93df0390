// Many tokens on a device: what cuBLASLt and hipBLASLt have in common.
#pragma once

#include <grist/backends/plan_cache.hpp>
#include <grist/backends/widened_product.hpp>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

namespace grist {

/// A matrix, or a batch of them, as these libraries see it: column-major, so that what is row-major here is transposed
/// there.
struct LtMatrix {
  DType type;
  Index rows, columns, leading_dimension, batches, batch_stride;
};

/// A product as these libraries see it: C^T [columns, rows] = op(B)^T op(A)^T. B comes first, transposed there where it
/// is transposed here, and A second.
struct LtProduct {
  ProductShape shape;
  std::size_t alignment;         // of the first byte of every row of A and B
  std::size_t result_alignment;  // of C

  [[nodiscard]] LtMatrix first() const {
    const bool straight = shape.op_b == Op::none;
    return {shape.b,
            straight ? shape.columns : shape.inner,
            straight ? shape.inner : shape.columns,
            shape.b_stride,
            shape.batches,
            shape.b_batch_stride};
  }
  [[nodiscard]] LtMatrix second() const {
    const bool straight = shape.op_a == Op::none;
    return {shape.a,
            straight ? shape.inner : shape.rows,
            straight ? shape.rows : shape.inner,
            shape.a_stride,
            shape.batches,
            shape.a_batch_stride};
  }
  [[nodiscard]] LtMatrix result() const {
    return {shape.c, shape.columns, shape.rows, shape.c_stride, shape.batches, shape.c_batch_stride};
  }
};

/// Library::Algorithm is what the library may do a product by;
///   std::vector<Algorithm> candidates(const LtProduct&), the fastest first;
///   bool serves(const LtProduct&, const Algorithm&);
///   Index held_bytes, of memory that it holds from the start;
///   void multiply(const Exec&, const LtProduct&, const Algorithm&, const void* a, const void* b, void* c).
/// One algorithm is chosen for each B, whatever the number of rows: with a choice for each number of rows the bits of a
/// token would depend on its neighbours. It must not split a sum over several work groups. For weights in float the
/// choice does not even depend on how many rows of B there are: the rows that a rank has of a weight give the bits that
/// they give in the whole of it. 16-bit products that the library lacks (hipBLASLt on MI200: bf16 to float) are done by
/// float ones.
template <class Library>
class LtGemm final : public Gemm {
public:
  [[nodiscard]] std::string_view name() const override { return Library::name; }

  bool run(const Exec& exec, const Product& product) override {
    const auto region = Kokkos::Profiling::ScopedRegion("grist::gemm");
    if (run_as_it_is(exec, product)) return true;
    return widened_.run(exec, product, [&](const Product& wide) { return run_as_it_is(exec, wide); });
  }

  Index scratch_bytes(const Product& product) override {
    const LtProduct p = lt_product(product);
    const auto* algorithm = algorithms_.find_or_make(planned(p).shape, [&] { return choose(p); });
    return Library::held_bytes + (algorithm != nullptr ? 0 : WidenedProduct::scratch_bytes(product));
  }

  [[nodiscard]] Library& library() { return library_; }

private:
  using Algorithm = typename Library::Algorithm;
  static constexpr Index planned_rows = 512;
  static constexpr Index planned_weight_rows = 4096;  // in float
  static constexpr std::size_t widest_load = 16;  // bytes; more alignment helps no algorithm

  /// Of all rows, if the first of the matrix is aligned: a common divisor of their bytes.
  static std::size_t alignment_of(Index stride, DType type) {
    return std::gcd(widest_load, static_cast<std::size_t>(stride) * size_of(type));
  }
  static bool is_float_weight(const ProductShape& s) {
    return s.a == DType::f32 && s.b == DType::f32 && s.c == DType::f32 && s.op_a == Op::none &&
           s.op_b == Op::transposed && s.beta == 0 && s.batches == 1;
  }

  bool run_as_it_is(const Exec& exec, const Product& p) {
    const LtProduct product = lt_product(p);
    for (const void* data : {p.a.data, p.b.data})
      if (reinterpret_cast<std::uintptr_t>(data) % product.alignment != 0) return false;
    if (reinterpret_cast<std::uintptr_t>(p.c.data) % product.result_alignment != 0) return false;
    const auto* algorithm = algorithms_.find_or_make(planned(product).shape, [&] { return choose(product); });
    if (algorithm == nullptr) return false;
    return run_pieces(exec, product, *algorithm, static_cast<const std::byte*>(p.a.data), p.b.data,
                      static_cast<std::byte*>(p.c.data));
  }

  static LtProduct lt_product(const Product& p) {
    const ProductShape s(p);
    return {s, std::gcd(alignment_of(s.a_stride, s.a), alignment_of(s.b_stride, s.b)),
            is_float_weight(s) ? sizeof(float) : alignment_of(s.c_stride, s.c)};
  }

  static LtProduct with_rows(LtProduct product, Index rows) {
    product.shape.rows = rows;
    return product;
  }

  /// With the number of rows that algorithms are chosen for, the matrices of a batch as far apart as that asks for.
  static LtProduct planned(LtProduct product) {
    auto& s = product.shape;
    s.rows = planned_rows;
    if (s.batches > 1) {
      if (s.op_a == Op::none) s.a_batch_stride = s.rows * s.a_stride;
      s.c_batch_stride = s.rows * s.c_stride;
    }
    if (s.op_a == Op::transposed) s.a_stride = std::max(s.a_stride, s.rows);
    if (is_float_weight(s)) s.columns = s.c_stride = planned_weight_rows;
    return product;
  }

  /// The fastest for many rows that serves a single one too.
  std::unique_ptr<Algorithm> choose(const LtProduct& product) {
    for (const Algorithm& algorithm : library_.candidates(planned(product)))
      if (library_.serves(with_rows(product, 1), algorithm)) return std::make_unique<Algorithm>(algorithm);
    return nullptr;
  }

  /// In halves where the algorithm does not serve so many rows: no row's bits depend on the others.
  bool run_pieces(const Exec& exec, const LtProduct& product, const Algorithm& algorithm, const std::byte* a,
                  const void* b, std::byte* c) {
    const auto& s = product.shape;
    if (*served_.find_or_make(s, [&] { return std::make_unique<bool>(library_.serves(product, algorithm)); })) {
      library_.multiply(exec, product, algorithm, a, b, c);
      return true;
    }
    // Of a transposed A half the rows begin within a row of A, where nothing is promised about alignment.
    if (s.batches > 1 || s.rows == 1 || s.op_a == Op::transposed) return false;
    const Index half = s.rows / 2;
    const auto bytes = [half](Index stride, DType type) { return half * stride * static_cast<Index>(size_of(type)); };
    return run_pieces(exec, with_rows(product, half), algorithm, a, b, c) &&
           run_pieces(exec, with_rows(product, s.rows - half), algorithm, a + bytes(s.a_stride, s.a), b,
                      c + bytes(s.c_stride, s.c));
  }

  Library library_;
  PlanCache<ProductShape, Algorithm> algorithms_;
  PlanCache<ProductShape, bool> served_;
  WidenedProduct widened_;
};

}  // namespace grist
