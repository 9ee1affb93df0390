// Many tokens on the CPU: oneDNN's matmul, on the same OpenMP threads as Kokkos. Weights stay row-major as they are in
// the model: the library's own packing costs 3 to 10 % at 512 tokens and saves a second copy of every weight.
#include <grist/backends/cpu/int8_products.hpp>
#include <grist/backends/plan_cache.hpp>
#include <grist/backends/widened_product.hpp>

#include <grist/core/errors.hpp>

#include <dnnl.hpp>

namespace grist {
namespace {

dnnl::memory::data_type data_type(DType type) {
  switch (type) {
    case DType::f32:
      return dnnl::memory::data_type::f32;
    case DType::bf16:
      return dnnl::memory::data_type::bf16;
    case DType::f16:
      return dnnl::memory::data_type::f16;
  }
  throw InternalError("oneDNN: unknown storage type");
}

/// Intel's products of bf16 by vectors take two cycles and more, with which those of float are nearly twice as fast (75
/// and 137 GFLOP/s a core of Emerald Rapids): they are meant for tiles, which a virtual machine may hide.
bool multiplies_bf16_slowly() {
#if defined(__x86_64__)
  static const bool slowly =
      __builtin_cpu_is("intel") && __builtin_cpu_supports("avx512bf16") && !cpu::has_bf16_tiles();
  return slowly;
#else
  return false;
#endif
}

/// Whether the product is one of floats, for all numbers of rows alike.
bool widens(const Product& product) {
  return product.a.type == DType::bf16 && multiplies_bf16_slowly() && WidenedProduct::serves(product);
}

class OneDnnGemm final : public Gemm {
public:
  [[nodiscard]] std::string_view name() const override { return "onednn"; }

  bool run(const Exec& exec, const Product& product) override {
    // One row takes another algorithm in the library, with other bits.
    if (product.op_a == Op::none && product.rows() < 2) return false;
    const auto region = Kokkos::Profiling::ScopedRegion("grist::gemm::onednn");
    exec.fence("grist::gemm::onednn: runs outside of Kokkos, on its threads");
    try {
      const Plan* const as_it_is = widens(product) ? nullptr : plan_for(product);
      if (as_it_is != nullptr) {
        execute(*as_it_is, product);
        return true;
      }
      // A processor without 16-bit products has float ones.
      return widened_.run(exec, product, [&](const Product& wide) {
        exec.fence("grist::gemm::onednn: runs outside of Kokkos, on its threads");
        const Plan* plan = plan_for(wide);
        if (plan != nullptr) execute(*plan, wide);
        return plan != nullptr;
      });
    } catch (const dnnl::error& error) {
      throw InternalError("oneDNN matmul [{}, {}] x [{}, {}]: {}", product.rows(), product.inner(), product.inner(),
                          product.columns(), error.what());
    }
  }

  Index scratch_bytes(const Product& product) override {
    return !widens(product) && multiplies_types(product) ? 0 : WidenedProduct::scratch_bytes(product);
  }

private:
  struct Plan {
    dnnl::memory::desc a, b, c;
    dnnl::matmul matmul;
  };

  /// Whether it multiplies such types on this processor, which is all that its ways of last resort ask for. Asked of
  /// small matrices: plans of large ones take long.
  bool multiplies_types(const Product& product) {
    const auto small = [](auto matrix) {
      matrix.batches = 1;
      matrix.rows = matrix.columns = matrix.row_stride = 16;
      return matrix;
    };
    return plan_for({small(product.a), product.op_a, small(product.b), product.op_b, product.beta, small(product.c)}) !=
           nullptr;
  }

  /// Null where the library has no implementation for these types on this processor.
  const Plan* plan_for(const Product& product) {
    return plans_.find_or_make(ProductShape(product), [&]() -> std::unique_ptr<Plan> {
      auto plan = std::make_unique<Plan>();
      plan->a = description(product.a, product.op_a);
      plan->b = description(product.b, product.op_b);
      plan->c = description(product.c, Op::none);
      dnnl::primitive_attr attributes;
      if (product.beta != 0) {
        dnnl::post_ops add;
        add.append_sum(product.beta);
        attributes.set_post_ops(add);
      }
      const dnnl::matmul::primitive_desc chosen(engine_, plan->a, plan->b, plan->c, attributes, true);
      if (!chosen) return nullptr;
      plan->matmul = dnnl::matmul(chosen);
      return plan;
    });
  }

  /// A single matrix is no batch of one: the library has faster ways for it.
  template <class Data>
  static dnnl::memory::desc description(const MatrixOf<Data>& m, Op op) {
    const bool straight = op == Op::none;
    dnnl::memory::dims extents{straight ? m.rows : m.columns, straight ? m.columns : m.rows};
    dnnl::memory::dims strides{straight ? m.row_stride : 1, straight ? 1 : m.row_stride};
    if (m.batches > 1) {
      extents.insert(extents.begin(), m.batches);
      strides.insert(strides.begin(), m.batch_stride);
    }
    return {extents, data_type(m.type), strides};
  }

  void execute(const Plan& plan, const Product& product) {
    plan.matmul.execute(stream_, {{DNNL_ARG_SRC, {plan.a, engine_, const_cast<void*>(product.a.data)}},
                                  {DNNL_ARG_WEIGHTS, {plan.b, engine_, const_cast<void*>(product.b.data)}},
                                  {DNNL_ARG_DST, {plan.c, engine_, product.c.data}}});
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
