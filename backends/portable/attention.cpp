// Attention in plain nested parallelism: a team of threads per work item.
#include <grist/backends/attention_kernel.hpp>

#include <grist/backends/portable/tile.hpp>
#include <grist/core/errors.hpp>

namespace grist {
namespace {

using Team = Kokkos::TeamPolicy<Exec>;

bool run(const Exec& exec, const AttentionCall& call) {
  if (call.scratch.extent(0) <
      static_cast<std::size_t>(attention_kernel::partial_floats(call.config, call.sequences.partials)))
    throw ShapeError("attention: scratch [{}] does not hold {} partial results", call.scratch.extent(0),
                     call.sequences.partials);
  const attention_kernel::Kernel<portable::Tile> kernel{call};
  const int items = call.config.kv_heads * static_cast<int>(call.sequences.items.extent(0));
  const int merges = call.config.kv_heads * static_cast<int>(call.sequences.merges.extent(0));
  const auto floats = static_cast<int>(attention_kernel::own_floats(call.config.head_dim));
  const int bytes = floats * static_cast<int>(sizeof(float));
  const int level = bytes <= Team::scratch_size_max(0) ? 0 : 1;  // fast memory where it suffices
  if (items > 0) {
    auto policy = Team(exec, items, Kokkos::AUTO);
    policy.set_scratch_size(level, Kokkos::PerTeam(bytes));
    Kokkos::parallel_for(
        "grist::attention::forward", policy, KOKKOS_LAMBDA(const Team::member_type& team) {
          kernel.item(team, team.league_rank(), static_cast<float*>(team.team_scratch(level).get_shmem(bytes)));
        });
  }
  if (merges > 0) {
    Kokkos::parallel_for(
        "grist::attention::merge", Team(exec, merges, Kokkos::AUTO),
        KOKKOS_LAMBDA(const Team::member_type& team) { kernel.merge(team, team.league_rank()); });
  }
  return true;
}

/// Tiles lie in the scratch of Kokkos' teams.
Index scratch(const AttentionConfig& config, const AttentionLimits& limits) {
  return attention_kernel::partial_floats(config, attention_partials(limits));
}

}  // namespace

// A function: a constant would be a device's too, and with it the pointers to functions of the host.
AttentionProvider portable_attention() { return {"portable", true, run, scratch}; }

}  // namespace grist
