// Matrix products as a service: which kernel or library serves which row is decided here and nowhere else.
#pragma once

#include <grist/backends/gemm.hpp>
#include <grist/core/staging.hpp>
#include <grist/core/weight.hpp>

#include <memory>
#include <string_view>

namespace grist {

/// Bytes of memory that products take beside their matrices, and keep.
struct ProductScratch {
  Index panel = 0;  // rows of a weight, converted
  Index pair = 0;   // two rows and their product
  Index matvec = 0;
  Index provider = 0;
  [[nodiscard]] Index bytes() const { return panel + pair + matvec + provider; }
  /// What serves both: each thing is as large as the larger one.
  [[nodiscard]] ProductScratch covering(const ProductScratch& other) const;
};

/// Products of activations with weights, and of any two matrices. Rows whose sequences bring few tokens go through a
/// kernel of our own, which reads each weight once (matvec.hpp); the others through the provider, or through that
/// kernel too where it is faster. Serves one execution space instance at a time. Warm calls allocate nothing: scratch
/// grows to the largest shape seen.
class Products {
public:
  /// Throws UsageError where the build has no provider of that name.
  explicit Products(std::string_view provider = "auto") : Products(make_gemm(provider)) {}
  explicit Products(std::unique_ptr<Gemm> provider);

  [[nodiscard]] std::string_view name() const { return gemm_->name(); }
  [[nodiscard]] bool batch_invariant() const { return gemm_->batch_invariant(); }

  /// The first `few` rows of every following x are tokens whose sequences bring few tokens. Which kernel serves a row
  /// follows from that and the weight alone, so that a token's bits depend on its own sequence, never on the batch
  /// around it.
  void serve(Index few) { few_ = few; }

  /// y [tokens, rows] = x [tokens, columns] w^T, of a weight with one expert. (X, Y) = (float, float), (bf16, bf16),
  /// (bf16, float). For the provider, panels of another format than X are converted to X, a few rows at a time.
  /// Throws ShapeError. Enqueues on exec; a provider may fence it.
  template <class X, class Y>
  void multiply(const Exec& exec, View2<const X> x, const Weight& w, View2<Y> y);

  /// What multiply or grouped takes of scratch for up to `tokens` rows of x. The weight's data are not read.
  [[nodiscard]] ProductScratch scratch(Index tokens, DType x, const Weight& w, DType y);

  /// Rows offsets(e) ... offsets(e + 1) of x [tokens, columns] by expert e: y [tokens, rows]; rows before offsets(0)
  /// and from offsets(experts) on are left as they are. offsets [experts + 1], ascending, lie in device memory. Weights
  /// of experts without rows are not read. With token_of, the token of each row, ascending within an expert, rows of
  /// tokens after the few go through the provider where the host reads offsets, the provider is batch-invariant and the
  /// panels are stored as X. A row's bits depend on the row, and on whether its token is one of the few, alone. Throws
  /// ShapeError. Enqueues on exec; with token_of it may fence it.
  template <class X, class Y>
  void grouped(const Exec& exec, View2<const X> x, View1<const int> offsets, const Weight& w, View2<Y> y,
               View1<const int> token_of = {});

  /// dx [tokens, columns] = dy [tokens, rows] times the rows' expert; the rows that grouped leaves are left. Panels are
  /// stored as X; of several a 16-bit dx is rounded after each. (X, D) = (float, float), (bf16, bf16), (bf16, float).
  /// Throws ShapeError. Waits for the offsets.
  template <class X, class D>
  void grouped_backward(const Exec& exec, View2<const X> dy, View1<const int> offsets, const Weight& w, View2<D> dx);

  /// dw [experts, rows, columns] of each expert += dy^T x of its rows. Throws ShapeError. Waits for the offsets.
  template <class X>
  void grouped_weights_backward(const Exec& exec, View2<const X> dy, View2<const X> x, View1<const int> offsets,
                                View3<float> dw);

  /// C = op(A) op(B) + beta C, each of equally many matrices. A and B of one type; C of that or float. With beta = 0
  /// what C held is not read. Throws ShapeError. Enqueues on exec; a provider may fence it.
  void run(const Exec& exec, ConstMatrix a, Op op_a, ConstMatrix b, Op op_b, float beta, Matrix c);

private:
  template <class X, class Y>
  bool multiply_by_provider(const Exec& exec, View2<const X> x, const Weight& w, View2<Y> y);

  template <class X, class Y>
  void multiply_by_expert(const Exec& exec, View2<const X> x, const Weight& expert, View2<Y> y);

  /// f(expert, its first row, how many), for experts that have rows among `rows`.
  template <class F>
  void for_experts(const Exec& exec, View1<const int> offsets, Index rows, F&& f);

  std::unique_ptr<Gemm> gemm_, portable_;
  Index few_ = 0;
  Reserve<Memory> panel_;  // rows of a weight, converted
  Reserve<Memory> pair_;   // two rows and their product
  Reserve<Memory> matvec_;
  Staging offsets_;
};

}  // namespace grist
