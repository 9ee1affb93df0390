// Many tokens on a device: what cuBLASLt and hipBLASLt have in common.
#pragma once

#include <grist/backends/plan_cache.hpp>
#include <grist/backends/widened_product.hpp>

#include <cstdint>
#include <numeric>
#include <vector>

namespace grist {

/// A product as these libraries see it. Their matrices are column-major, so that what is row-major here is transposed there:
/// y^T [out, tokens] = w [out, in] x^T [in, tokens], with w given as the transpose of [in, out].
struct LtProduct {
  ProductShape shape;
  std::size_t alignment;  // of every row's first byte
};

/// Library::Algorithm is what the library may do a product by;
///   std::vector<Algorithm> candidates(const LtProduct&), the fastest first;
///   bool serves(const LtProduct&, const Algorithm&);
///   void multiply(const Exec&, const LtProduct&, const Algorithm&, const void* x, const void* w, void* y).
/// One algorithm is chosen for each weight matrix, whatever the number of tokens: with a choice for each number of tokens
/// the bits of a token would depend on its neighbours. It must not deal a sum out to several work groups. 16-bit products that
/// the library lacks (hipBLASLt on MI200: bf16 to float) are done by float ones.
template <class Library>
class LtGemm final : public Gemm {
public:
  [[nodiscard]] std::string_view name() const override { return Library::name; }

  bool multiply(const Exec& exec, ConstMatrix x, ConstMatrix w, Matrix y) override {
    const auto region = Kokkos::Profiling::ScopedRegion("grist::gemm");
    if (multiply_as_they_are(exec, x, w, y)) return true;
    return widened_.multiply(exec, x, w, y, [&](const ConstMatrix& wx, const ConstMatrix& ww, const Matrix& wy) {
      return multiply_as_they_are(exec, wx, ww, wy);
    });
  }

  [[nodiscard]] Library& library() { return library_; }

private:
  using Algorithm = typename Library::Algorithm;
  static constexpr Index planned_tokens = 512;
  static constexpr std::size_t widest_load = 16;  // bytes; more alignment helps no algorithm

  /// Of all rows, if the first of each matrix is aligned: their bytes have no greater common divisor.
  static std::size_t alignment_of(const ConstMatrix& x, const ConstMatrix& w, const Matrix& y) {
    const auto bytes = [](Index columns, DType type) { return static_cast<std::size_t>(columns) * size_of(type); };
    return std::gcd(std::gcd(widest_load, bytes(x.columns, x.type)), std::gcd(bytes(w.columns, w.type), bytes(y.columns, y.type)));
  }

  bool multiply_as_they_are(const Exec& exec, const ConstMatrix& x, const ConstMatrix& w, const Matrix& y) {
    const LtProduct product{ProductShape(x, w, y), alignment_of(x, w, y)};
    for (const void* data : {x.data, w.data, static_cast<const void*>(y.data)})
      if (reinterpret_cast<std::uintptr_t>(data) % product.alignment != 0) return false;
    const auto* algorithm = algorithms_.find_or_make(with_tokens(product, planned_tokens).shape, [&] { return choose(product); });
    if (algorithm == nullptr) return false;
    return multiply_pieces(exec, product, *algorithm, static_cast<const std::byte*>(x.data), w.data, static_cast<std::byte*>(y.data));
  }

  static LtProduct with_tokens(LtProduct product, Index tokens) {
    product.shape.tokens = tokens;
    return product;
  }

  /// The fastest for many tokens that serves a single one too.
  std::unique_ptr<Algorithm> choose(const LtProduct& product) {
    for (const Algorithm& algorithm : library_.candidates(with_tokens(product, planned_tokens)))
      if (library_.serves(with_tokens(product, 1), algorithm)) return std::make_unique<Algorithm>(algorithm);
    return nullptr;
  }

  /// In halves where the algorithm does not serve so many tokens: no row's bits depend on the others.
  bool multiply_pieces(const Exec& exec, const LtProduct& product, const Algorithm& algorithm, const std::byte* x, const void* w,
                       std::byte* y) {
    const auto& s = product.shape;
    if (*served_.find_or_make(s, [&] { return std::make_unique<bool>(library_.serves(product, algorithm)); })) {
      library_.multiply(exec, product, algorithm, x, w, y);
      return true;
    }
    if (s.batches > 1 || s.tokens == 1) return false;
    const Index half = s.tokens / 2;
    const auto rows = [half](Index columns, DType type) { return half * columns * static_cast<Index>(size_of(type)); };
    return multiply_pieces(exec, with_tokens(product, half), algorithm, x, w, y) &&
           multiply_pieces(exec, with_tokens(product, s.tokens - half), algorithm, x + rows(s.in, s.x), w, y + rows(s.out, s.y));
  }

  Library library_;
  PlanCache<ProductShape, Algorithm> algorithms_;
  PlanCache<ProductShape, bool> served_;
  WidenedProduct widened_;
};

}  // namespace grist
