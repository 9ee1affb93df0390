// Many tokens on a device: what cuBLASLt and hipBLASLt have in common.
#pragma once

#include <grist/backends/plan_cache.hpp>

#include <cstdint>
#include <numeric>

namespace grist {

/// A product as these libraries see it. Their matrices are column-major, so that what is row-major here is transposed there:
/// y^T [out, tokens] = w [out, in] x^T [in, tokens], with w given as the transpose of [in, out].
struct LtProduct {
  ProductShape shape;
  std::size_t alignment;  // of every row's first byte
};

/// Library::Algorithm is what the library chose for a product;
///   std::unique_ptr<Algorithm> choose(const LtProduct&), null where it can not;
///   bool multiply(const Exec&, const LtProduct&, const Algorithm&, const void* x, const void* w, void* y), false where the
/// algorithm does not serve this number of tokens.
/// One algorithm is chosen for each weight matrix, whatever the number of tokens: with a choice for each number of tokens
/// the bits of a token would depend on its neighbours. It must not deal a sum out to several work groups.
template <class Library>
class LtGemm final : public Gemm {
public:
  [[nodiscard]] std::string_view name() const override { return Library::name; }

  bool multiply(const Exec& exec, ConstMatrix x, ConstMatrix w, Matrix y) override {
    const LtProduct product{ProductShape(x, w, y), alignment_of(x, w, y)};
    for (const void* data : {x.data, w.data, static_cast<const void*>(y.data)})
      if (reinterpret_cast<std::uintptr_t>(data) % product.alignment != 0) return false;
    LtProduct planned = product;
    planned.shape.tokens = planned_tokens;
    const auto* algorithm = algorithms_.find_or_make(planned.shape, [&] { return library_.choose(planned); });
    if (algorithm == nullptr) return false;
    const auto region = Kokkos::Profiling::ScopedRegion("grist::gemm");
    return library_.multiply(exec, product, *algorithm, x.data, w.data, y.data);
  }

  [[nodiscard]] Library& library() { return library_; }

private:
  static constexpr Index planned_tokens = 512;
  static constexpr std::size_t widest_load = 16;  // bytes; more alignment helps no algorithm

  /// Of all rows, if the first of each matrix is aligned: their bytes have no greater common divisor.
  static std::size_t alignment_of(const ConstMatrix& x, const ConstMatrix& w, const Matrix& y) {
    const auto bytes = [](Index columns, DType type) { return static_cast<std::size_t>(columns) * size_of(type); };
    return std::gcd(std::gcd(widest_load, bytes(x.columns, x.type)), std::gcd(bytes(w.columns, w.type), bytes(y.columns, y.type)));
  }

  Library library_;
  PlanCache<ProductShape, typename Library::Algorithm> algorithms_;
};

}  // namespace grist
