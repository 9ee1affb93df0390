// Attention on a processor with vector registers: a thread per work item, in memory that the caller gives.
#include <grist/backends/attention_backward_kernel.hpp>

#include <grist/backends/cpu/attention_items.hpp>
#include <grist/backends/cpu/float_targets.hpp>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE <grist/backends/cpu/attention.cpp>  // this file, once for each of them
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include <grist/backends/cpu/row_tile-inl.hpp>

HWY_BEFORE_NAMESPACE();
namespace grist::cpu::HWY_NAMESPACE {
namespace {

/// Items that must wait for a thread each take two fifths less time where one makes all gradients of a sequence and KV
/// head: queries and keys apart compute the scores twice. The bits are the same.
bool sequences_suffice(Index parts, Index threads) { return threads == 1 || parts >= 2 * threads; }

template <class X>
void backward_as(const Exec& exec, const AttentionBackwardCall& call) {
  const attention_kernel::BackwardKernel<Tile, X> kernel{call};
  const Threads threads(exec);
  const Index shared = attention_kernel::shared_backward_floats(call.config, kernel.tokens(), kernel.sequences());
  const Index own = attention_kernel::own_backward_floats(call.config.head_dim);
  float* const memory = call.scratch.data() + shared;
  const auto each = [&](const char* label, Index items, auto&& f) {
    Kokkos::parallel_for(label, Items(exec, 0, items).set_chunk_size(1), [=](Index i) {
      const int thread = threads.acquire();
      f(i, memory + thread * own);
      threads.release(thread);
    });
  };
  Kokkos::parallel_for("grist::attention::row_sums", Indices<Exec>(exec, 0, kernel.row_sums()),
                       [=](Index i) { kernel.row_sum(i); });
  if (sequences_suffice(kernel.parts(), exec.concurrency())) {
    each("grist::attention::backward", kernel.parts(), [=](Index i, float* to) { kernel.sequence(Alone{}, i, to); });
    return;
  }
  const Index last = kernel.query_tiles() - 1;  // of causal tiles the last ones see most keys
  each("grist::attention::backward_queries", last + 1,
       [=](Index i, float* to) { kernel.queries(Alone{}, last - i, to); });
  each("grist::attention::backward_keys", kernel.key_tiles(), [=](Index i, float* to) { kernel.keys(Alone{}, i, to); });
}

}  // namespace

void run_attention(const Exec& exec, const AttentionCall& call) {
  run_items<TileOfAnyRows<Tile, RowTile, lane_count>>(exec, call);
}

void run_attention_backward(const Exec& exec, const AttentionBackwardCall& call) {
  if (call.type == DType::f32)
    backward_as<float>(exec, call);
  else
    backward_as<bf16>(exec, call);
}

}  // namespace grist::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace grist {
namespace cpu {
namespace {

HWY_EXPORT(run_attention);
HWY_EXPORT(run_attention_backward);

bool run(const Exec& exec, const AttentionCall& call) {
  HWY_DYNAMIC_DISPATCH(run_attention)(exec, call);
  return true;
}

bool backward(const Exec& exec, const AttentionBackwardCall& call) {
  HWY_DYNAMIC_DISPATCH(run_attention_backward)(exec, call);
  return true;
}

Index backward_scratch(const AttentionConfig& config, const AttentionLimits& limits) {
  return attention_kernel::shared_backward_floats(config, limits.tokens, limits.sequences) +
         attention_kernel::own_backward_floats(config.head_dim) * Exec().concurrency();
}

}  // namespace
}  // namespace cpu

AttentionProvider cpu_attention() {
  return {"cpu", true, cpu::run, cpu::items_scratch, cpu::backward, cpu::backward_scratch};
}

}  // namespace grist
#endif
