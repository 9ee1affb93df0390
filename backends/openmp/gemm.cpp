// Many tokens on the CPU: oneDNN's matmul, on the same OpenMP threads as Kokkos. Weights stay row-major as they are in
// the model: the library's own packing costs 3 to 10 % at 512 tokens and saves a second copy of every weight.
#include <grist/backends/gemm.hpp>

#include <grist/core/errors.hpp>

#include <dnnl.hpp>

#include <map>
#include <tuple>

namespace grist {
namespace {

dnnl::memory::data_type data_type(DType type) {
  switch (type) {
    case DType::f32: return dnnl::memory::data_type::f32;
    case DType::bf16: return dnnl::memory::data_type::bf16;
    case DType::f16: return dnnl::memory::data_type::f16;
  }
  throw InternalError("oneDNN: unknown storage type");
}

class OneDnnGemm final : public Gemm {
public:
  [[nodiscard]] std::string_view name() const override { return "onednn"; }

  bool multiply(const Exec& exec, ConstMatrix x, ConstMatrix w, Matrix y) override {
    // One row takes another algorithm in the library, with other bits.
    if (x.rows < 2) return false;
    try {
      const Plan* plan = plan_for(x, w, y);
      if (plan == nullptr) return false;
      exec.fence("grist::gemm::onednn: runs outside of Kokkos, on its threads");
      const auto region = Kokkos::Profiling::ScopedRegion("grist::gemm::onednn");
      plan->matmul.execute(stream_,
                           {{DNNL_ARG_SRC, {plan->x, engine_, const_cast<void*>(x.data)}},
                            {DNNL_ARG_WEIGHTS, {plan->w, engine_, const_cast<void*>(w.data)}},
                            {DNNL_ARG_DST, {plan->y, engine_, y.data}}});
      stream_.wait();
    } catch (const dnnl::error& error) {
      throw InternalError("oneDNN matmul [{}, {}] x [{}, {}]^T: {}", x.rows, x.columns, w.rows, w.columns, error.what());
    }
    return true;
  }

private:
  struct Plan {
    dnnl::memory::desc x, w, y;
    dnnl::matmul matmul;
  };
  using Key = std::tuple<Index, Index, Index, DType, DType, DType>;

  /// Null where the library has no implementation for these types on this processor.
  const Plan* plan_for(const ConstMatrix& x, const ConstMatrix& w, const Matrix& y) {
    const Key key{x.rows, x.columns, w.rows, x.type, w.type, y.type};
    if (const auto found = plans_.find(key); found != plans_.end()) return found->second.get();
    if (plans_.size() >= most_plans) plans_.clear();
    using Tag = dnnl::memory::format_tag;
    auto plan = std::make_unique<Plan>();
    plan->x = {{x.rows, x.columns}, data_type(x.type), Tag::ab};
    plan->w = {{x.columns, w.rows}, data_type(w.type), Tag::ba};
    plan->y = {{x.rows, w.rows}, data_type(y.type), Tag::ab};
    const dnnl::matmul::primitive_desc description(engine_, plan->x, plan->w, plan->y, dnnl::primitive_attr{}, true);
    if (description) {
      plan->matmul = dnnl::matmul(description);
    } else {
      plan.reset();
    }
    return plans_.emplace(key, std::move(plan)).first->second.get();
  }

  static constexpr std::size_t most_plans = 1024;  // prompts of every length, in a process that lives for days
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::map<Key, std::unique_ptr<Plan>> plans_;
};

}  // namespace

std::unique_ptr<Gemm> make_onednn_gemm() { return std::make_unique<OneDnnGemm>(); }

}  // namespace grist
