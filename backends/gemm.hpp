// The matrix product of many tokens, by whichever library this machine has.
#pragma once

#include <grist/core/view.hpp>

#include <memory>
#include <string_view>
#include <vector>

namespace grist {

/// A row-major matrix of a storage type, or several of one shape one behind the other, for providers that dispatch at run
/// time.
template <class Data>
struct MatrixOf {
  Data* data;
  DType type;
  Index rows;
  Index columns;
  Index batches = 1;

  template <class T>
  MatrixOf(View2<T> v)
      : data(v.data()),
        type(dtype_of<std::remove_const_t<T>>),
        rows(static_cast<Index>(v.extent(0))),
        columns(static_cast<Index>(v.extent(1))) {}
  template <class T>
  MatrixOf(View3<T> v)
      : data(v.data()),
        type(dtype_of<std::remove_const_t<T>>),
        rows(static_cast<Index>(v.extent(1))),
        columns(static_cast<Index>(v.extent(2))),
        batches(static_cast<Index>(v.extent(0))) {}
};
using ConstMatrix = MatrixOf<const void>;
using Matrix = MatrixOf<void>;

/// A GEMM provider. Plans are cached per shape: a library decides once, so that a shape gives the same bits every time.
class Gemm {
public:
  virtual ~Gemm() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;

  /// Whether the bits of a row depend neither on the other rows nor on their number: then a sequence gets in a batch what
  /// it gets alone.
  [[nodiscard]] virtual bool batch_invariant() const { return true; }

  /// y [tokens, out] = x [tokens, in] w^T, w [out, in], float accumulation; or so for each of equally many x, w and y.
  /// Shapes agree (linear checks them). Enqueues on exec. Returns false where this provider cannot (types, shape,
  /// processor): the caller takes gemv, which always can.
  virtual bool multiply(const Exec& exec, ConstMatrix x, ConstMatrix w, Matrix y) = 0;
};

/// Providers of this build, best first.
std::vector<std::string_view> gemm_providers();

/// The provider of that name, the best one for "auto". Throws UsageError naming those that are there.
std::unique_ptr<Gemm> make_gemm(std::string_view name = "auto");

}  // namespace grist
