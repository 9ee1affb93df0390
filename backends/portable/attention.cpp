// Attention in plain nested parallelism: a team of threads per work item.
#include <grist/backends/attention_backward_kernel.hpp>

#include <grist/backends/portable/tile.hpp>
#include <grist/core/errors.hpp>
#include <grist/core/staging.hpp>

#include <algorithm>

namespace grist {
namespace {

using Team = Kokkos::TeamPolicy<Exec>;

/// Teams that a machine runs at once, each with memory of its own: no more than there are items. Those of a device have
/// 128 threads or more.
Index teams_for(Index items) {
  const Index threads = Exec().concurrency();
  return std::min(items, std::max<Index>(1, host_reaches_memory ? threads : threads / 128));
}

/// f(team, item, the team's own memory) for each of `items`. The memory is `own` floats for each team, as many as
/// `memory` holds: not Kokkos' scratch of teams, which no plan counts and whose end is no MemoryError.
template <class F>
void for_items(const Exec& exec, const char* label, Index items, Index own, View1<float> memory, const F& f) {
  if (items == 0) return;
  const Index teams = std::min(teams_for(items), static_cast<Index>(memory.extent(0)) / own);
  if (teams == 0)
    throw ShapeError("attention: scratch has {} floats left, a team takes {}", memory.extent(0), own);
  // The hint lets HIP pass 512 bytes and more as arguments, not by a buffer that others share, which no graph can keep.
  const auto policy = Kokkos::Experimental::require(Team(exec, static_cast<int>(teams), Kokkos::AUTO),
                                                    Kokkos::Experimental::WorkItemProperty::HintLightWeight);
  Kokkos::parallel_for(
      label, policy, KOKKOS_LAMBDA(const Team::member_type& team) {
        for (Index i = team.league_rank(); i < items; i += teams) {
          f(team, i, &memory(team.league_rank() * own));
          team.team_barrier();  // before the memory is written over
        }
      });
}

/// What is behind the first `used` floats of scratch.
View1<float> rest_of(View1<float> scratch, Index used) {
  const auto size = static_cast<Index>(scratch.extent(0));
  if (size < used) throw ShapeError("attention: scratch has {} floats, expected {} or more", size, used);
  return View1<float>(scratch.data() + used, size - used);
}

bool run(const Exec& exec, const AttentionCall& call) {
  const auto memory = rest_of(call.scratch, attention_kernel::partial_floats(call.config, call.sequences.partials));
  const attention_kernel::Kernel<portable::Tile> kernel{call};
  const Index kv_heads = call.config.kv_heads, items = kv_heads * static_cast<Index>(call.sequences.items.extent(0));
  const int merges = call.config.kv_heads * static_cast<int>(call.sequences.merges.extent(0));
  for_items(
      exec, "grist::attention::forward", items, attention_kernel::own_floats(call.config.head_dim), memory,
      KOKKOS_LAMBDA(const Team::member_type& team, Index i, float* own) { kernel.item(team, i, own); });
  if (merges > 0) {
    Kokkos::parallel_for(
        "grist::attention::merge", Team(exec, merges, Kokkos::AUTO),
        KOKKOS_LAMBDA(const Team::member_type& team) { kernel.merge(team, team.league_rank()); });
  }
  return true;
}

Index scratch(const AttentionConfig& config, const AttentionLimits& limits) {
  return attention_kernel::partial_floats(config, attention_partials(limits)) +
         attention_kernel::own_floats(config.head_dim) *
             teams_for(config.kv_heads * max_attention_items(config, limits));
}

template <class X>
void backward_as(const Exec& exec, const AttentionBackwardCall& call) {
  const attention_kernel::BackwardKernel<portable::Tile, X> kernel{call};
  const Index own = attention_kernel::own_backward_floats(call.config.head_dim);
  const auto memory = rest_of(
      call.scratch, attention_kernel::shared_backward_floats(call.config, kernel.tokens(), kernel.sequences()));
  Kokkos::parallel_for(
      "grist::attention::row_sums", Indices<Exec>(exec, 0, kernel.row_sums()),
      KOKKOS_LAMBDA(Index i) { kernel.row_sum(i); });
  for_items(
      exec, "grist::attention::backward_queries", kernel.query_tiles(), own, memory,
      KOKKOS_LAMBDA(const Team::member_type& team, Index i, float* to) { kernel.queries(team, i, to); });
  for_items(
      exec, "grist::attention::backward_keys", kernel.key_tiles(), own, memory,
      KOKKOS_LAMBDA(const Team::member_type& team, Index i, float* to) { kernel.keys(team, i, to); });
}

bool backward(const Exec& exec, const AttentionBackwardCall& call) {
  if (call.type == DType::f32)
    backward_as<float>(exec, call);
  else
    backward_as<bf16>(exec, call);
  return true;
}

Index backward_scratch(const AttentionConfig& config, const AttentionLimits& limits) {
  const Index group = config.heads / config.kv_heads;
  const Index tiles = std::max(attention_kernel::most_tiles(limits.tokens * group, limits.sequences, attention_rows),
                               attention_kernel::most_tiles(limits.tokens, limits.sequences, kv_page_rows));
  return attention_kernel::shared_backward_floats(config, limits.tokens, limits.sequences) +
         attention_kernel::own_backward_floats(config.head_dim) * teams_for(config.kv_heads * tiles);
}

}  // namespace

// A function: a constant would be a device's too, and with it the pointers to functions of the host.
AttentionProvider portable_attention() { return {"portable", true, run, scratch, backward, backward_scratch}; }

}  // namespace grist
