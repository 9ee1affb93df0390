// cuBLASLt. Its workspace belongs to the provider, which serves one execution space instance at a time.
#include <grist/backends/lt_gemm.hpp>

#include <grist/core/errors.hpp>

#include <cublasLt.h>

#include <array>
#include <memory>
#include <span>

namespace grist {
namespace {

void check(cublasStatus_t status, const char* call) {
  if (status != CUBLAS_STATUS_SUCCESS) throw InternalError("{}: {}", call, cublasLtGetStatusString(status));
}

cudaDataType_t data_type(DType type) {
  return type == DType::f32 ? CUDA_R_32F : type == DType::bf16 ? CUDA_R_16BF : CUDA_R_16F;
}

/// A column-major matrix, or a batch of them one behind the other.
struct Layout {
  cublasLtMatrixLayoutOpaque_t layout;

  Layout(DType type, Index rows, Index columns, Index batches) {
    check(cublasLtMatrixLayoutInit(&layout, data_type(type), static_cast<std::uint64_t>(rows),
                                   static_cast<std::uint64_t>(columns), rows), "cublasLtMatrixLayoutInit");
    const auto count = static_cast<std::int32_t>(batches);
    const std::int64_t stride = rows * columns;
    check(cublasLtMatrixLayoutSetAttribute(&layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count), "batch count");
    check(cublasLtMatrixLayoutSetAttribute(&layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride),
          "batch stride");
  }
};

struct Problem {
  cublasLtMatmulDescOpaque_t operation;
  Layout w, x, y;

  explicit Problem(const ProductShape& s)
      : w(s.w, s.in, s.out, s.batches), x(s.x, s.in, s.tokens, s.batches), y(s.y, s.out, s.tokens, s.batches) {
    check(cublasLtMatmulDescInit(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescInit");
    const cublasOperation_t transposed = CUBLAS_OP_T;
    check(cublasLtMatmulDescSetAttribute(&operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed), "TRANSA");
  }
};

class CublasLt {
public:
  static constexpr std::string_view name = "cublaslt";
  using Algorithm = cublasLtMatmulAlgo_t;

  CublasLt() { check(cublasLtCreate(&handle_), "cublasLtCreate"); }
  ~CublasLt() { cublasLtDestroy(handle_); }
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  std::vector<Algorithm> candidates(const LtProduct& product) {
    Problem problem(product.shape);
    cublasLtMatmulPreferenceOpaque_t preference;
    check(cublasLtMatmulPreferenceInit(&preference), "cublasLtMatmulPreferenceInit");
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t what, auto value) {
      check(cublasLtMatmulPreferenceSetAttribute(&preference, what, &value, sizeof value), "preference");
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{workspace_bytes});
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, std::uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE});
    const auto alignment = static_cast<std::uint32_t>(product.alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment);
    std::array<cublasLtMatmulHeuristicResult_t, 8> results;
    int found = 0;
    const auto status = cublasLtMatmulAlgoGetHeuristic(handle_, &problem.operation, &problem.w.layout, &problem.x.layout,
                                                       &problem.y.layout, &problem.y.layout, &preference,
                                                       static_cast<int>(results.size()), results.data(), &found);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED) return {};
    check(status, "cublasLtMatmulAlgoGetHeuristic");
    std::vector<Algorithm> algorithms;
    for (const auto& result : std::span(results).first(static_cast<std::size_t>(found)))
      if (result.state == CUBLAS_STATUS_SUCCESS) algorithms.push_back(result.algo);
    return algorithms;
  }

  bool serves(const LtProduct& product, const Algorithm& algorithm) {
    Problem problem(product.shape);
    cublasLtMatmulHeuristicResult_t result{};
    const auto status = cublasLtMatmulAlgoCheck(handle_, &problem.operation, &problem.w.layout, &problem.x.layout,
                                                &problem.y.layout, &problem.y.layout, &algorithm, &result);
    return status == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= workspace_bytes;
  }

  void multiply(const Exec& exec, const LtProduct& product, const Algorithm& algorithm, const void* x, const void* w, void* y) {
    Problem problem(product.shape);
    const float one = 1, zero = 0;
    check(cublasLtMatmul(handle_, &problem.operation, &one, w, &problem.w.layout, x, &problem.x.layout, &zero, y,
                         &problem.y.layout, y, &problem.y.layout, &algorithm, aligned_workspace(), workspace_bytes,
                         exec.cuda_stream()), "cublasLtMatmul");
  }

private:
  /// On a boundary of 256 bytes, which the library demands and a View's memory is not on.
  [[nodiscard]] void* aligned_workspace() const {
    void* begin = workspace_.data();
    std::size_t room = static_cast<std::size_t>(workspace_.size());
    return std::align(workspace_alignment, workspace_bytes, begin, room);
  }

  static constexpr std::size_t workspace_bytes = 32 << 20;  // what NVIDIA advises for Hopper
  static constexpr std::size_t workspace_alignment = 256;
  cublasLtHandle_t handle_ = nullptr;
  Buffer<std::byte> workspace_{"gemm workspace", workspace_bytes + workspace_alignment};
};

}  // namespace

std::unique_ptr<Gemm> make_cublaslt_gemm() { return std::make_unique<LtGemm<CublasLt>>(); }

}  // namespace grist
