// Many tokens on the CPU: oneDNN's matmul, on the same OpenMP threads as Kokkos. Weights stay row-major as they are in
// the model: the library's own packing costs 3 to 10 % at 512 tokens and saves a second copy of every weight.
#include <grist/backends/plan_cache.hpp>
#include <grist/backends/widened_product.hpp>

#include <grist/core/errors.hpp>

#include <dnnl.hpp>

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
    const auto region = Kokkos::Profiling::ScopedRegion("grist::gemm::onednn");
    exec.fence("grist::gemm::onednn: runs outside of Kokkos, on its threads");
    try {
      if (const Plan* plan = plan_for(x, w, y)) {
        execute(*plan, x, w, y);
        return true;
      }
      // A processor without 16-bit products has float ones.
      return widened_.multiply(exec, x, w, y, [&](const ConstMatrix& wx, const ConstMatrix& ww, const Matrix& wy) {
        exec.fence("grist::gemm::onednn: runs outside of Kokkos, on its threads");
        const Plan* plan = plan_for(wx, ww, wy);
        if (plan != nullptr) execute(*plan, wx, ww, wy);
        return plan != nullptr;
      });
    } catch (const dnnl::error& error) {
      throw InternalError("oneDNN matmul [{}, {}] x [{}, {}]^T: {}", x.rows, x.columns, w.rows, w.columns, error.what());
    }
  }

private:
  struct Plan {
    dnnl::memory::desc x, w, y;
    dnnl::matmul matmul;
  };

  /// Null where the library has no implementation for these types on this processor.
  const Plan* plan_for(const ConstMatrix& x, const ConstMatrix& w, const Matrix& y) {
    return plans_.find_or_make(ProductShape(x, w, y), [&]() -> std::unique_ptr<Plan> {
      auto plan = std::make_unique<Plan>();
      plan->x = description(x.batches, x.rows, x.columns, x.type, Order::rows);
      plan->w = description(x.batches, x.columns, w.rows, w.type, Order::columns);
      plan->y = description(x.batches, x.rows, w.rows, y.type, Order::rows);
      const dnnl::matmul::primitive_desc chosen(engine_, plan->x, plan->w, plan->y, dnnl::primitive_attr{}, true);
      if (!chosen) return nullptr;
      plan->matmul = dnnl::matmul(chosen);
      return plan;
    });
  }

  enum class Order { rows, columns };
  /// A single matrix is no batch of one: the library has faster ways for it.
  static dnnl::memory::desc description(Index batches, Index rows, Index columns, DType type, Order order) {
    using Tag = dnnl::memory::format_tag;
    if (batches == 1) return {{rows, columns}, data_type(type), order == Order::rows ? Tag::ab : Tag::ba};
    return {{batches, rows, columns}, data_type(type), order == Order::rows ? Tag::abc : Tag::acb};
  }

  void execute(const Plan& plan, const ConstMatrix& x, const ConstMatrix& w, const Matrix& y) {
    plan.matmul.execute(stream_, {{DNNL_ARG_SRC, {plan.x, engine_, const_cast<void*>(x.data)}},
                                  {DNNL_ARG_WEIGHTS, {plan.w, engine_, const_cast<void*>(w.data)}},
                                  {DNNL_ARG_DST, {plan.y, engine_, y.data}}});
    stream_.wait();
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  PlanCache<ProductShape, Plan> plans_;
  WidenedProduct widened_;
};

}  // namespace

std::unique_ptr<Gemm> make_onednn_gemm() { return std::make_unique<OneDnnGemm>(); }

}  // namespace grist
