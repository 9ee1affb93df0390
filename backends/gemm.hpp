// What a library offers for matrix products; Products chooses among these and the kernels of our own.
#pragma once

#include <grist/core/view.hpp>

#include <memory>
#include <string_view>
#include <vector>

namespace grist {

/// A row-major matrix of a storage type, or several of one shape, for providers that dispatch at run time. Strides
/// count elements; a range of a wider matrix's columns is a matrix with its row stride.
template <class Data>
struct MatrixOf {
  Data* data;
  DType type;
  Index rows;
  Index columns;
  Index row_stride;
  Index batches = 1;
  Index batch_stride = 0;

  MatrixOf(Data* data_, DType type_, Index rows_, Index columns_, Index row_stride_)
      : data(data_),
        type(type_),
        rows(rows_),
        columns(columns_),
        row_stride(row_stride_),
        batch_stride(rows_ * row_stride_) {}
  template <class T>
  MatrixOf(View2<T> v)
      : MatrixOf(v.data(), dtype_of<std::remove_const_t<T>>, static_cast<Index>(v.extent(0)),
                 static_cast<Index>(v.extent(1)), static_cast<Index>(v.extent(1))) {}
  template <class T>
  MatrixOf(View3<T> v)
      : MatrixOf(v.data(), dtype_of<std::remove_const_t<T>>, static_cast<Index>(v.extent(1)),
                 static_cast<Index>(v.extent(2)), static_cast<Index>(v.extent(2))) {
    batches = static_cast<Index>(v.extent(0));
  }

  /// The element (row, column) of the first matrix.
  [[nodiscard]] Data* at(Index row, Index column) const {
    using Byte = std::conditional_t<std::is_const_v<Data>, const std::byte, std::byte>;
    return static_cast<Byte*>(data) + (row * row_stride + column) * static_cast<Index>(size_of(type));
  }
  /// Some rows of each matrix, or some columns.
  [[nodiscard]] MatrixOf row_range(Index first, Index count) const { return part(at(first, 0), count, columns); }
  [[nodiscard]] MatrixOf column_range(Index first, Index count) const { return part(at(0, first), rows, count); }

private:
  [[nodiscard]] MatrixOf part(Data* from, Index count, Index width) const {
    MatrixOf m = *this;
    m.data = from;
    m.rows = count;
    m.columns = width;
    return m;
  }
};
using ConstMatrix = MatrixOf<const void>;
using Matrix = MatrixOf<void>;

/// How a factor enters a product.
enum class Op { none, transposed };

/// C = op(A) op(B) + beta C, or so for each of equally many A, B and C; float accumulation.
struct Product {
  ConstMatrix a;
  Op op_a;
  ConstMatrix b;
  Op op_b;
  float beta;
  Matrix c;

  [[nodiscard]] Index rows() const { return c.rows; }
  [[nodiscard]] Index columns() const { return c.columns; }
  [[nodiscard]] Index inner() const { return op_a == Op::none ? a.columns : a.rows; }
};

/// A provider of matrix products. Plans are cached per shape: a library decides once, so that a shape gives the same
/// bits every time.
class Gemm {
public:
  virtual ~Gemm() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;

  /// Whether the bits of a row of C, for op(A) = A, depend neither on the other rows nor on their number: then a
  /// sequence gets in a batch what it gets alone.
  [[nodiscard]] virtual bool batch_invariant() const { return true; }

  /// Shapes agree (Products checks them). Enqueues on exec; may fence it. Returns false where this provider cannot
  /// (types, shape, processor), before it has written anything.
  virtual bool run(const Exec& exec, const Product& product) = 0;

  /// Bytes of memory that run takes beside its matrices for such a product, and keeps for the next one. No data are
  /// read.
  virtual Index scratch_bytes(const Product&) { return 0; }

  /// Rows offsets(e) ... offsets(e + 1) of x by expert e: y [rows, n] = x [rows, k] w [experts, n, k]^T. A row's bits
  /// depend on the row alone, whatever the others. Returns false where this provider cannot: most cannot.
  virtual bool grouped(const Exec&, ConstMatrix, View1<const int>, ConstMatrix, Matrix) { return false; }
};

/// Providers of this build, best first.
std::vector<std::string_view> gemm_providers();

/// The provider of that name, the best one for "auto". Throws UsageError naming those that are there.
std::unique_ptr<Gemm> make_gemm(std::string_view name = "auto");

}  // namespace grist
