// The items of attention over threads: one for each, in memory of its own.
#pragma once

#include <grist/backends/attention_kernel.hpp>
#include <grist/core/errors.hpp>

namespace grist::cpu {

/// A team of one thread: the tile's steps need no more of it.
struct Alone {};

/// Threads take items as they come, the most expensive first.
using Items = Kokkos::RangePolicy<Exec, Kokkos::Schedule<Kokkos::Dynamic>, Kokkos::IndexType<Index>>;

using Threads = Kokkos::Experimental::UniqueToken<Exec, Kokkos::Experimental::UniqueTokenScope::Instance>;

inline Index items_scratch(const AttentionConfig& config, const AttentionLimits& limits) {
  return attention_kernel::partial_floats(config, attention_partials(limits)) +
         attention_kernel::own_floats(config.head_dim) * Exec().concurrency();
}

/// A call by the steps of a tile. Throws ShapeError where scratch is too small.
template <class Tile>
void run_items(const Exec& exec, const AttentionCall& call) {
  const Threads threads(exec);
  const Index partials = attention_kernel::partial_floats(call.config, call.sequences.partials);
  const Index own = attention_kernel::own_floats(call.config.head_dim), needed = partials + own * threads.size();
  if (static_cast<Index>(call.scratch.extent(0)) < needed)
    throw ShapeError("attention: scratch has {} floats, expected {} or more", call.scratch.extent(0), needed);
  const attention_kernel::Kernel<Tile> kernel{call};
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
}

}  // namespace grist::cpu
