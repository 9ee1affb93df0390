// Attention on a processor with vector registers: a thread per work item, in memory that the caller gives.
#include <grist/backends/attention_backward_kernel.hpp>

#include <grist/backends/cpu/tile.hpp>
#include <grist/core/errors.hpp>

namespace grist {
namespace {

/// A team of one thread: the tile's steps need no more of it.
struct Alone {};

/// Threads take items as they come, the most expensive first.
using Items = Kokkos::RangePolicy<Exec, Kokkos::Schedule<Kokkos::Dynamic>, Kokkos::IndexType<Index>>;

using Threads = Kokkos::Experimental::UniqueToken<Exec, Kokkos::Experimental::UniqueTokenScope::Instance>;

bool run(const Exec& exec, const AttentionCall& call) {
  const Threads threads(exec);
  const Index partials = attention_kernel::partial_floats(call.config, call.sequences.partials);
  const Index own = attention_kernel::own_floats(call.config.head_dim), needed = partials + own * threads.size();
  if (static_cast<Index>(call.scratch.extent(0)) < needed)
    throw ShapeError("attention: scratch has {} floats, expected {} or more", call.scratch.extent(0), needed);
  const attention_kernel::Kernel<cpu::Tile> kernel{call};
  float* const memory = call.scratch.data() + partials;
  const auto work = [&](Index tiles) { return Items(exec, 0, tiles * call.config.kv_heads).set_chunk_size(1); };
  Kokkos::parallel_for("grist::attention::forward", work(static_cast<Index>(call.sequences.items.extent(0))),
                       [=](Index i) {
                         const int thread = threads.acquire();
                         kernel.item(Alone{}, i, memory + thread * own);
                         threads.release(thread);
                       });
  if (call.sequences.merges.size() != 0)
    Kokkos::parallel_for("grist::attention::merge", work(static_cast<Index>(call.sequences.merges.extent(0))),
                         [=](Index i) { kernel.merge(Alone{}, i); });
  return true;
}

Index scratch(const AttentionConfig& config, const AttentionLimits& limits) {
  return attention_kernel::partial_floats(config, attention_partials(limits)) +
         attention_kernel::own_floats(config.head_dim) * Exec().concurrency();
}

/// Items that must wait for a thread each take two fifths less time where one makes all gradients of a sequence and KV
/// head: queries and keys apart compute the scores twice. The bits are the same.
bool sequences_suffice(Index parts, Index threads) { return threads == 1 || parts >= 2 * threads; }

template <class X>
void backward_as(const Exec& exec, const AttentionBackwardCall& call) {
  const attention_kernel::BackwardKernel<cpu::Tile, X> kernel{call};
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

bool backward(const Exec& exec, const AttentionBackwardCall& call) {
  if (call.type == DType::f32)
    backward_as<float>(exec, call);
  else
    backward_as<bf16>(exec, call);
  return true;
}

Index backward_scratch(const AttentionConfig& config, const AttentionLimits& limits) {
  return attention_kernel::shared_backward_floats(config, limits.tokens, limits.sequences) +
         attention_kernel::own_backward_floats(config.head_dim) * Exec().concurrency();
}

}  // namespace

AttentionProvider cpu_attention() { return {"cpu", true, run, scratch, backward, backward_scratch}; }

}  // namespace grist
