// Attention in plain nested parallelism: a team of threads per work item.
#include <grist/backends/attention_backward_kernel.hpp>

#include <grist/backends/portable/tile.hpp>
#include <grist/core/errors.hpp>

namespace grist {
namespace {

using Team = Kokkos::TeamPolicy<Exec>;

/// A team for each of `items`, which runs f(team, item, its own memory).
template <class F>
void for_teams(const Exec& exec, const char* label, Index items, Index floats, const F& f) {
  if (items == 0) return;
  const int bytes = static_cast<int>(floats * static_cast<Index>(sizeof(float)));
  const int level = bytes <= Team::scratch_size_max(0) ? 0 : 1;  // fast memory where it suffices
  auto policy = Team(exec, static_cast<int>(items), Kokkos::AUTO);
  policy.set_scratch_size(level, Kokkos::PerTeam(bytes));
  Kokkos::parallel_for(
      label, policy, KOKKOS_LAMBDA(const Team::member_type& team) {
        f(team, team.league_rank(), static_cast<float*>(team.team_scratch(level).get_shmem(bytes)));
      });
}

bool run(const Exec& exec, const AttentionCall& call) {
  if (call.scratch.extent(0) <
      static_cast<std::size_t>(attention_kernel::partial_floats(call.config, call.sequences.partials)))
    throw ShapeError("attention: scratch [{}] does not hold {} partial results", call.scratch.extent(0),
                     call.sequences.partials);
  const attention_kernel::Kernel<portable::Tile> kernel{call};
  const Index kv_heads = call.config.kv_heads, items = kv_heads * static_cast<Index>(call.sequences.items.extent(0));
  const int merges = call.config.kv_heads * static_cast<int>(call.sequences.merges.extent(0));
  for_teams(
      exec, "grist::attention::forward", items, attention_kernel::own_floats(call.config.head_dim),
      KOKKOS_LAMBDA(const Team::member_type& team, Index i, float* memory) { kernel.item(team, i, memory); });
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

template <class X>
void backward_as(const Exec& exec, const AttentionBackwardCall& call) {
  const attention_kernel::BackwardKernel<portable::Tile, X> kernel{call};
  const Index own = attention_kernel::own_backward_floats(call.config.head_dim);
  Kokkos::parallel_for(
      "grist::attention::row_sums", Indices<Exec>(exec, 0, kernel.row_sums()),
      KOKKOS_LAMBDA(Index i) { kernel.row_sum(i); });
  for_teams(
      exec, "grist::attention::backward_queries", kernel.query_tiles(), own,
      KOKKOS_LAMBDA(const Team::member_type& team, Index i, float* memory) { kernel.queries(team, i, memory); });
  for_teams(
      exec, "grist::attention::backward_keys", kernel.key_tiles(), own,
      KOKKOS_LAMBDA(const Team::member_type& team, Index i, float* memory) { kernel.keys(team, i, memory); });
}

bool backward(const Exec& exec, const AttentionBackwardCall& call) {
  if (call.type == DType::f32)
    backward_as<float>(exec, call);
  else
    backward_as<bf16>(exec, call);
  return true;
}

Index backward_scratch(const AttentionConfig& config, const AttentionLimits& limits) {
  return attention_kernel::shared_backward_floats(config, limits.tokens, limits.sequences);
}

}  // namespace

// A function: a constant would be a device's too, and with it the pointers to functions of the host.
AttentionProvider portable_attention() { return {"portable", true, run, scratch, backward, backward_scratch}; }

}  // namespace grist
