#include <grist/bench/kernels.hpp>

#include <grist/backends/matvec.hpp>
#include <grist/backends/products.hpp>
#include <grist/bench/kernel_memory.hpp>
#include <grist/bench/kernel_work.hpp>
#include <grist/bench/roofline.hpp>
#include <grist/bench/timing.hpp>
#include <grist/layers/attention.hpp>
#include <grist/layers/norm.hpp>

#include <cmath>

namespace grist::bench {
namespace {

constexpr const char *in_bytes = "bytes", *in_flop = "FLOP";
constexpr double long_enough = 0.02;   // seconds of a repetition, beside which a barrier is nothing
constexpr Index uncached = 256 << 20;  // bytes that no cache holds, as in a model of many layers

/// Copies of what a call moves, to be taken in turn.
Index copies_of(double bytes) { return 1 + static_cast<Index>(static_cast<double>(uncached) / bytes); }

template <class T>
class Kernels {
public:
  Kernels(const Exec& exec, const Communicator& ranks, const Machine& machine, const KernelSizes& sizes,
          int repetitions, const std::function<void(const Test&)>& take)
      : exec_(exec), ranks_(ranks), machine_(machine), sizes_(sizes), repetitions_(repetitions), take_(take) {}

  void matvec(Index tokens) {
    const Index columns = sizes_.hidden;
    const Index rows = uncached / static_cast<Index>(sizeof(T)) / columns / 64 * 64;
    const auto w = varied<T>(rows * columns, exec_), x = varied<T>(tokens * columns, exec_);
    const Buffer<T> y("y", tokens * rows);
    const Weight weight(as_const(w.view(rows, columns)));
    Reserve<Memory> scratch;
    const Work work = product_work(weight, tokens);
    measure(std::format("matvec {} tokens", tokens), matrix(rows, columns), in_bytes, work, [&] {
      grist::matvec(exec_, as_const(x.view(tokens, columns)), {}, weight, y.view(tokens, rows), scratch);
    });
  }

  void product(Index tokens, std::string_view gemm) {
    Products products(gemm);
    const Index rows = sizes_.intermediate, columns = sizes_.hidden;
    const auto w = varied<T>(rows * columns, exec_), x = varied<T>(tokens * columns, exec_);
    const Buffer<T> y("y", tokens * rows);
    const Weight weight(as_const(w.view(rows, columns)));
    const Work work = product_work(weight, tokens);
    measure(std::format("product {} tokens", tokens), matrix(rows, columns), in_flop, work, [&] {
      products.multiply(exec_, as_const(x.view(tokens, columns)), weight, y.view(tokens, rows));
    });
  }

  /// Of one sequence, over pages.
  void attention(const char* name, int queries, int past) {
    const AttentionConfig config{.heads = sizes_.heads,
                                 .kv_heads = sizes_.kv_heads,
                                 .head_dim = sizes_.head_dim,
                                 .scale = 1 / std::sqrt(static_cast<float>(sizes_.head_dim))};
    const int length = queries + past, pages = (length + kv_page_rows - 1) / kv_page_rows;
    std::vector<int> table;
    for (int page = 0; page < pages; ++page) table.push_back(page);
    const std::vector<int> begin{0, queries}, lengths{length}, first{0};
    const AttentionLimits limits{queries, 1, length, true};
    std::vector<AttentionItem> items(static_cast<std::size_t>(max_attention_items(config, limits))), merges = items;
    const AttentionPlan plan = plan_attention(config, limits, begin, lengths, items.data(), merges.data());
    items.resize(static_cast<std::size_t>(plan.items)), merges.resize(static_cast<std::size_t>(plan.merges));
    const auto d_begin = on_device(begin), d_lengths = on_device(lengths), d_first = on_device(first),
               d_table = on_device(table);
    const auto d_items = on_device(items), d_merges = on_device(merges);
    const Index width = Index{config.heads} * config.head_dim;
    const Index page = Index{kv_page_rows} * config.kv_heads * config.head_dim;
    const Work work = attention_work(config, kv_type_of(dtype_of<T>), 1, queries, past);
    const Index copies = copies_of(work.bytes);
    const auto keys = varied<T>(copies * pages * page, exec_), values = varied<T>(copies * pages * page, exec_);
    const auto q = varied<T>(queries * width, exec_);
    const Buffer<T> out("out", queries * width);
    const Buffer<float> scratch("scratch", attention_scratch(config, limits));
    KvPages kv{kv_type_of(dtype_of<T>), keys.data(), values.data(), config.head_dim,
               Index{kv_page_rows} * config.head_dim, page, as_const(d_table.view()), as_const(d_first.view())};
    const PackedSequences packed{as_const(d_begin.view()), as_const(d_lengths.view()), as_const(d_items.view()),
                                 as_const(d_merges.view()), plan.partials};
    const std::string sizes = std::format("{} of {} heads of {}", config.kv_heads, config.heads, config.head_dim);
    const auto call = [&, copy = Index{0}]() mutable {
      kv.keys = keys.data() + copy * pages * page;
      kv.values = values.data() + copy * pages * page;
      copy = (copy + 1) % copies;
      layers::attention(exec_, config, as_const(q.view(queries, width)), kv, packed, scratch.view(),
                        out.view(queries, width));
    };
    measure(std::format("attention {}", name), sizes, queries == 1 ? in_bytes : in_flop, work, call);
  }

  /// Reads floats and writes activations, as the triad does.
  void rms_norm(Index tokens) {
    const Index width = sizes_.hidden;
    const Work work = moving_work(tokens * width, sizeof(float) + sizeof(T));
    const Index copies = copies_of(work.bytes);
    const auto x = varied<float>(copies * tokens * width, exec_), w = varied<float>(width, exec_);
    const auto y = varied<T>(copies * tokens * width, exec_);
    const auto call = [&, copy = Index{0}]() mutable {
      const Index at = copy * tokens * width;
      copy = (copy + 1) % copies;
      layers::rms_norm(exec_, View2<const float>(x.data() + at, tokens, width), as_const(w.view()), 1e-5F,
                       View2<T>(y.data() + at, tokens, width));
    };
    measure(std::format("rms_norm {} tokens", tokens), std::format("{}", width), in_bytes, work, call, true);
  }

private:
  static std::string matrix(Index rows, Index columns) { return std::format("{} x {}", rows, columns); }

  /// Every rank does the same work at the same time. The unit is the kernel's on every machine, so that results may be
  /// compared, whichever limit is the lower one there.
  void measure(const std::string& name, const std::string& sizes, const std::string& unit, const Work& one,
               const std::function<void()>& f, bool writes = false) {
    f();
    const double first = timed(exec_, ranks_, f);
    const int calls = 1 + static_cast<int>(std::min(1e4, long_enough / std::max(first, 1e-7)));
    const double all = static_cast<double>(calls) * ranks_.size();
    const Work work = all * one;
    const Limit limit = roofline(work, {machine_.gemm(dtype_of<T>, false), writes ? machine_.triad : machine_.read});
    Test test{.name = name,
              .sizes = sizes,
              .unit = unit,
              .amount = unit == in_flop ? work.flops : work.bytes,
              .work = work,
              .limit_seconds = limit.seconds,
              .limit_name = writes ? "triad" : limit.name,
              .time = utc_time()};
    for (int i = 0; i < repetitions_; ++i)
      test.seconds.push_back(timed(exec_, ranks_, [&] {
        for (int call = 0; call < calls; ++call) f();
      }));
    take_(test);
  }

  const Exec& exec_;
  const Communicator& ranks_;
  const Machine& machine_;
  const KernelSizes& sizes_;
  int repetitions_;
  const std::function<void(const Test&)>& take_;
};

}  // namespace

KernelSizes sizes_of(const ModelSpec& spec) {
  const auto& [attention, mlp] = std::tie(spec.layers[0].attention, spec.layers[0].mlp);
  return {spec.hidden_size, mlp.intermediate_size, attention.heads, attention.kv_heads, attention.head_dim};
}

template <class T>
void measure_kernels(const Exec& exec, const Communicator& ranks, const Machine& machine, const KernelSizes& sizes,
                     std::string_view gemm, int repetitions, const std::function<void(const Test&)>& take) {
  Kernels<T> kernels(exec, ranks, machine, sizes, repetitions, take);
  for (const Index tokens : {1, 8}) kernels.matvec(tokens);
  kernels.product(512, gemm);
  kernels.attention("decode @ d4096", 1, 4096);
  kernels.attention("prefill 512", 512, 0);
  kernels.rms_norm(512);
}

template void measure_kernels<float>(const Exec&, const Communicator&, const Machine&, const KernelSizes&,
                                     std::string_view, int, const std::function<void(const Test&)>&);
template void measure_kernels<bf16>(const Exec&, const Communicator&, const Machine&, const KernelSizes&,
                                    std::string_view, int, const std::function<void(const Test&)>&);

}  // namespace grist::bench
