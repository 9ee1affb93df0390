#include <grist/comm/communicator.hpp>
#include <grist/layers/experts.hpp>
#include <grist/train/trainer_state.hpp>

namespace grist::train {

RouterBalance::RouterBalance(const ModelSpec& spec, const TrainerOptions& options, const Layout& layout, int chunks)
    : factor(router_factor(spec, options)) {
  if (factor == 0) return;
  routers = routers_of(spec);
  at_once = all_forward_first(options, layout, chunks);
  sums = {"sums of routers", Index{2} * routers.experts};
  all = {"sums of routers of all ranks", Index{2} * routers.experts};
}

/// From now on forward passes count what is chosen.
void Trainer::State::count_choices() {
  Kokkos::deep_copy(balance.sums.view(), 0.0);
  for (const auto& stage : stages) stage->balance({.sums = balance.sums.view()});
}

/// Counts what routers choose in all micro-batches, where a backward pass comes before the last forward one.
void Trainer::State::route_step(const Exec& exec, const std::vector<MicroBatch>& batches) {
  count_choices();
  for (const MicroBatch& batch : batches)
    each_stage(exec, batch, [&](Stage& stage) { stage.route(exec, 0); });
}

/// Of all ranks, for the backward passes, which take the gradient of the sum of `counted` losses on each rank of dp:
/// the routers' loss counts as often as there are tokens.
void Trainer::State::sum_choices(const Exec& exec, Index counted) {
  grid.pp().all_reduce(exec, balance.sums.view());
  grid.dp().all_reduce(exec, balance.sums.view());
  round_all(exec, as_const(balance.sums.view()), balance.all.view());
  const auto tokens = static_cast<double>(grid.dp().all_reduce(counted));
  const View2<const float> all(balance.all.data(), 2, balance.routers.experts);
  for (const auto& stage : stages)
    stage->balance({.sums = {}, .all = all, .factor = static_cast<float>(balance.factor * tokens)});
}

/// Of the last step, not multiplied.
double Trainer::State::router_loss() const {
  const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, balance.all.view());
  return layers::load_balancing_loss(host.data(), balance.routers.experts, balance.routers.per_token);
}

}  // namespace grist::train
