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

struct Layout {
  cublasLtMatrixLayoutOpaque_t layout;

  explicit Layout(const LtMatrix& m) {
    check(cublasLtMatrixLayoutInit(&layout, data_type(m.type), static_cast<std::uint64_t>(m.rows),
                                   static_cast<std::uint64_t>(m.columns), m.leading_dimension),
          "cublasLtMatrixLayoutInit");
    const auto count = static_cast<std::int32_t>(m.batches);
    const std::int64_t stride = m.batch_stride;
    check(cublasLtMatrixLayoutSetAttribute(&layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count),
          "batch count");
    check(cublasLtMatrixLayoutSetAttribute(&layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                                           sizeof stride),
          "batch stride");
  }
};

struct Problem {
  cublasLtMatmulDescOpaque_t operation;
  Layout first, second, result;

  explicit Problem(const LtProduct& product)
      : first(product.first()), second(product.second()), result(product.result()) {
    check(cublasLtMatmulDescInit(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescInit");
    const auto set = [&](cublasLtMatmulDescAttributes_t what, Op op) {
      const cublasOperation_t value = op == Op::none ? CUBLAS_OP_N : CUBLAS_OP_T;
      check(cublasLtMatmulDescSetAttribute(&operation, what, &value, sizeof value), "transposition");
    };
    set(CUBLASLT_MATMUL_DESC_TRANSA, product.shape.op_b);
    set(CUBLASLT_MATMUL_DESC_TRANSB, product.shape.op_a);
  }
};

class CublasLt {
public:
  static constexpr std::string_view name = "cublaslt";
  static constexpr std::size_t workspace_bytes = 32 << 20;  // what NVIDIA advises for Hopper
  static constexpr std::size_t workspace_alignment = 256;
  static constexpr Index held_bytes = workspace_bytes + workspace_alignment;
  using Algorithm = cublasLtMatmulAlgo_t;

  CublasLt() { check(cublasLtCreate(&handle_), "cublasLtCreate"); }
  ~CublasLt() { cublasLtDestroy(handle_); }
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  std::vector<Algorithm> candidates(const LtProduct& product) {
    Problem problem(product);
    cublasLtMatmulPreferenceOpaque_t preference;
    check(cublasLtMatmulPreferenceInit(&preference), "cublasLtMatmulPreferenceInit");
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t what, auto value) {
      check(cublasLtMatmulPreferenceSetAttribute(&preference, what, &value, sizeof value), "preference");
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{workspace_bytes});
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, std::uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE});
    const auto alignment = static_cast<std::uint32_t>(product.alignment);
    const auto result_alignment = static_cast<std::uint32_t>(product.result_alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, result_alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, result_alignment);
    std::array<cublasLtMatmulHeuristicResult_t, 8> results;
    int found = 0;
    const auto status = cublasLtMatmulAlgoGetHeuristic(
        handle_, &problem.operation, &problem.first.layout, &problem.second.layout, &problem.result.layout,
        &problem.result.layout, &preference, static_cast<int>(results.size()), results.data(), &found);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED) return {};
    check(status, "cublasLtMatmulAlgoGetHeuristic");
    std::vector<Algorithm> algorithms;
    for (const auto& result : std::span(results).first(static_cast<std::size_t>(found)))
      if (result.state == CUBLAS_STATUS_SUCCESS) algorithms.push_back(result.algo);
    return algorithms;
  }

  bool serves(const LtProduct& product, const Algorithm& algorithm) {
    Problem problem(product);
    cublasLtMatmulHeuristicResult_t result{};
    const auto status =
        cublasLtMatmulAlgoCheck(handle_, &problem.operation, &problem.first.layout, &problem.second.layout,
                                &problem.result.layout, &problem.result.layout, &algorithm, &result);
    return status == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= workspace_bytes;
  }

  void multiply(const Exec& exec, const LtProduct& product, const Algorithm& algorithm, const void* a, const void* b,
                void* c) {
    Problem problem(product);
    const float one = 1, beta = product.shape.beta;
    check(cublasLtMatmul(handle_, &problem.operation, &one, b, &problem.first.layout, a, &problem.second.layout, &beta,
                         c, &problem.result.layout, c, &problem.result.layout, &algorithm, aligned_workspace(),
                         workspace_bytes, exec.cuda_stream()),
          "cublasLtMatmul");
  }

private:
  /// On a boundary of 256 bytes, which the library demands and a View's memory is not on.
  [[nodiscard]] void* aligned_workspace() const {
    void* begin = workspace_.data();
    std::size_t room = static_cast<std::size_t>(workspace_.size());
    return std::align(workspace_alignment, workspace_bytes, begin, room);
  }

  cublasLtHandle_t handle_ = nullptr;
  Buffer<std::byte> workspace_{"gemm workspace", held_bytes};
};

}  // namespace

std::unique_ptr<Gemm> make_cublaslt_gemm() { return std::make_unique<LtGemm<CublasLt>>(); }

}  // namespace grist
