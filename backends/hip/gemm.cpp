// hipBLASLt. It is given no workspace, which most algorithms want that deal a sum out to several work groups; whether a
// row keeps its bits is for gemm_test to say on the device.
#include <grist/backends/lt_gemm.hpp>

#include <grist/core/errors.hpp>

#include <hipblaslt/hipblaslt-ext.hpp>
#include <hipblaslt/hipblaslt.h>

#include <array>
#include <span>

namespace grist {
namespace {

void check(hipblasStatus_t status, const char* call) {
  if (status != HIPBLAS_STATUS_SUCCESS) throw InternalError("{}: status {}", call, static_cast<int>(status));
}

hipDataType data_type(DType type) {
  return type == DType::f32 ? HIP_R_32F : type == DType::bf16 ? HIP_R_16BF : HIP_R_16F;
}

struct Layout {
  hipblasLtMatrixLayout_t layout = nullptr;

  explicit Layout(const LtMatrix& m) {
    check(hipblasLtMatrixLayoutCreate(&layout, data_type(m.type), static_cast<std::uint64_t>(m.rows),
                                      static_cast<std::uint64_t>(m.columns), m.leading_dimension),
          "hipblasLtMatrixLayoutCreate");
    const auto count = static_cast<std::int32_t>(m.batches);
    const std::int64_t stride = m.batch_stride;
    check(hipblasLtMatrixLayoutSetAttribute(layout, HIPBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count),
          "batch count");
    check(
        hipblasLtMatrixLayoutSetAttribute(layout, HIPBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride),
        "batch stride");
  }
  ~Layout() { (void)hipblasLtMatrixLayoutDestroy(layout); }
  Layout(const Layout&) = delete;
  Layout& operator=(const Layout&) = delete;
};

struct Problem {
  hipblasLtMatmulDesc_t operation = nullptr;
  Layout first, second, result;

  explicit Problem(const LtProduct& product)
      : first(product.first()), second(product.second()), result(product.result()) {
    check(hipblasLtMatmulDescCreate(&operation, HIPBLAS_COMPUTE_32F, HIP_R_32F), "hipblasLtMatmulDescCreate");
    const auto set = [&](hipblasLtMatmulDescAttributes_t what, Op op) {
      const hipblasOperation_t value = op == Op::none ? HIPBLAS_OP_N : HIPBLAS_OP_T;
      check(hipblasLtMatmulDescSetAttribute(operation, what, &value, sizeof value), "transposition");
    };
    set(HIPBLASLT_MATMUL_DESC_TRANSA, product.shape.op_b);
    set(HIPBLASLT_MATMUL_DESC_TRANSB, product.shape.op_a);
  }
  ~Problem() { (void)hipblasLtMatmulDescDestroy(operation); }
  Problem(const Problem&) = delete;
  Problem& operator=(const Problem&) = delete;
};

class HipblasLt {
public:
  static constexpr std::string_view name = "hipblaslt";
  static constexpr Index held_bytes = 0;
  using Algorithm = hipblasLtMatmulAlgo_t;

  HipblasLt() {
    check(hipblasLtCreate(&handle_), "hipblasLtCreate");
    check(hipblasLtMatmulPreferenceCreate(&preference_), "hipblasLtMatmulPreferenceCreate");
    const std::uint64_t none = 0;
    check(hipblasLtMatmulPreferenceSetAttribute(preference_, HIPBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &none,
                                                sizeof none),
          "preference");
  }
  ~HipblasLt() {
    (void)hipblasLtMatmulPreferenceDestroy(preference_);
    (void)hipblasLtDestroy(handle_);
  }
  HipblasLt(const HipblasLt&) = delete;
  HipblasLt& operator=(const HipblasLt&) = delete;

  std::vector<Algorithm> candidates(const LtProduct& product) {
    const Problem problem(product);
    std::array<hipblasLtMatmulHeuristicResult_t, 8> results;
    int found = 0;
    const auto status = hipblasLtMatmulAlgoGetHeuristic(
        handle_, problem.operation, problem.first.layout, problem.second.layout, problem.result.layout,
        problem.result.layout, preference_, static_cast<int>(results.size()), results.data(), &found);
    if (status == HIPBLAS_STATUS_NOT_SUPPORTED) return {};
    check(status, "hipblasLtMatmulAlgoGetHeuristic");
    std::vector<Algorithm> algorithms;
    for (const auto& result : std::span(results).first(static_cast<std::size_t>(found)))
      if (result.state == HIPBLAS_STATUS_SUCCESS) algorithms.push_back(result.algo);
    return algorithms;
  }

  /// hipblasLtMatmul itself launches an algorithm that was chosen for another shape without asking.
  bool serves(const LtProduct& product, Algorithm algorithm) {
    const Problem problem(product);
    const float one = 1, beta = product.shape.beta;
    std::size_t workspace = 0;
    const auto status = hipblaslt_ext::matmulIsAlgoSupported(handle_, problem.operation, &one, problem.first.layout,
                                                             problem.second.layout, &beta, problem.result.layout,
                                                             problem.result.layout, algorithm, workspace);
    return status == HIPBLAS_STATUS_SUCCESS && workspace == 0;
  }

  void multiply(const Exec& exec, const LtProduct& product, const Algorithm& algorithm, const void* a, const void* b,
                void* c) {
    const Problem problem(product);
    const float one = 1, beta = product.shape.beta;
    check(hipblasLtMatmul(handle_, problem.operation, &one, b, problem.first.layout, a, problem.second.layout, &beta, c,
                          problem.result.layout, c, problem.result.layout, &algorithm, nullptr, 0, exec.hip_stream()),
          "hipblasLtMatmul");
  }

private:
  hipblasLtHandle_t handle_ = nullptr;
  hipblasLtMatmulPreference_t preference_ = nullptr;
};

}  // namespace

std::unique_ptr<Gemm> make_hipblaslt_gemm() { return std::make_unique<LtGemm<HipblasLt>>(); }

}  // namespace grist
