// Many tokens on the CPU: oneDNN's matmul, on the same OpenMP threads as Kokkos. Weights stay row-major as they are in
// the model: the library's own packing costs 3 to 10 % at 512 tokens and saves a second copy of every weight.
#include <grist/backends/gemm.hpp>

#include <grist/core/errors.hpp>

#include <dnnl.hpp>

#include <algorithm>
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
    const auto region = Kokkos::Profiling::ScopedRegion("grist::gemm::onednn");
    exec.fence("grist::gemm::onednn: runs outside of Kokkos, on its threads");
    try {
      if (const Plan* plan = plan_for(x, w, y)) {
        execute(*plan, x, w, y);
        return true;
      }
      return x.type == DType::bf16 && w.type == DType::bf16 && multiply_widened(exec, x, w, y);
    } catch (const dnnl::error& error) {
      throw InternalError("oneDNN matmul [{}, {}] x [{}, {}]^T: {}", x.rows, x.columns, w.rows, w.columns, error.what());
    }
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

  void execute(const Plan& plan, const ConstMatrix& x, const ConstMatrix& w, const Matrix& y) {
    plan.matmul.execute(stream_, {{DNNL_ARG_SRC, {plan.x, engine_, const_cast<void*>(x.data)}},
                                  {DNNL_ARG_WEIGHTS, {plan.w, engine_, const_cast<void*>(w.data)}},
                                  {DNNL_ARG_DST, {plan.y, engine_, y.data}}});
    stream_.wait();
  }

  /// bf16 on a processor without bf16 products: float products of a panel of weight rows at a time.
  bool multiply_widened(const Exec& exec, const ConstMatrix& x, const ConstMatrix& w, const Matrix& y) {
    const auto wide_x = View2<float>(room(wide_x_, x.rows * x.columns), x.rows, x.columns);
    widen(exec, x.data, wide_x);
    for (Index first = 0; first < w.rows; first += panel_rows) {
      const Index rows = std::min(panel_rows, w.rows - first);
      const auto wide_w = View2<float>(room(wide_w_, rows * w.columns), rows, w.columns);
      const auto wide_y = View2<float>(room(wide_y_, x.rows * rows), x.rows, rows);
      widen(exec, static_cast<const bf16*>(w.data) + first * w.columns, wide_w);
      exec.fence("grist::gemm::onednn: runs outside of Kokkos, on its threads");
      const Plan* plan = plan_for(as_const(wide_x), as_const(wide_w), wide_y);
      if (plan == nullptr) return false;
      execute(*plan, as_const(wide_x), as_const(wide_w), wide_y);
      if (y.type == DType::f32) {
        place(exec, wide_y, static_cast<float*>(y.data) + first, y.columns);
      } else {
        place(exec, wide_y, static_cast<bf16*>(y.data) + first, y.columns);
      }
    }
    return true;
  }

  static void widen(const Exec& exec, const void* from, View2<float> to) {
    const View1<float> out(to.data(), to.size());
    const View1<const bf16> in(static_cast<const bf16*>(from), to.size());
    Kokkos::parallel_for("grist::gemm::widen", Kokkos::RangePolicy<Exec>(exec, 0, out.size()),
                         KOKKOS_LAMBDA(Index i) { out(i) = in(i); });
  }

  /// Copies a panel into the columns of a wider matrix.
  template <class T>
  static void place(const Exec& exec, View2<float> panel, T* to, Index to_columns) {
    const Index columns = panel.extent(1);
    Kokkos::parallel_for(
        "grist::gemm::place", Kokkos::RangePolicy<Exec>(exec, 0, panel.extent(0)), KOKKOS_LAMBDA(Index row) {
          for (Index i = 0; i < columns; ++i) to[row * to_columns + i] = T(panel(row, i));
        });
  }

  /// Scratch that grows to what is asked for.
  static float* room(Buffer<float>& buffer, Index size) {
    if (buffer.size() < size) buffer = Buffer<float>("gemm scratch", size);
    return buffer.data();
  }

  static constexpr Index panel_rows = 512;
  static constexpr std::size_t most_plans = 1024;  // prompts of every length, in a process that lives for days
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::map<Key, std::unique_ptr<Plan>> plans_;
  Buffer<float> wide_x_, wide_w_, wide_y_;
};

}  // namespace

std::unique_ptr<Gemm> make_onednn_gemm() { return std::make_unique<OneDnnGemm>(); }

}  // namespace grist
