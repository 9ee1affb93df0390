#include <grist/train/trainer_plan.hpp>

#include <grist/model/model_parts.hpp>

#include <algorithm>

namespace grist::train {

std::vector<Range> ranges_of(const ModelSpec& spec, const Layout& layout, int pp_rank, int chunks) {
  const auto stages = stages_of(spec, layout.pp * chunks);
  std::vector<Range> ranges;
  for (int c = 0; c < chunks; ++c) ranges.push_back(stages[static_cast<std::size_t>(c * layout.pp + pp_rank)]);
  return ranges;
}

int chunks_of(const TrainerOptions& options, const Layout& layout) {
  return options.pipeline == Pipeline::interleaved && layout.pp > 1 ? options.chunks : 1;
}

std::vector<Action> actions_of(const TrainerOptions& options, const Layout& layout, int pp_rank, int chunks) {
  const auto kind = chunks == 1 && options.pipeline == Pipeline::interleaved ? Pipeline::one_f_one_b : options.pipeline;
  return pipeline_actions(kind, pp_rank, layout.pp, chunks, options.micro_batches);
}

bool all_forward_first(const TrainerOptions& options, const Layout& layout, int chunks) {
  for (int rank = 0; rank < layout.pp; ++rank) {
    const auto actions = actions_of(options, layout, rank, chunks);
    const auto is_backward = [](const Action& a) { return a.kind == Action::backward || a.kind == Action::recv_dy; };
    const auto is_forward = [](const Action& a) {
      return a.kind == Action::forward || a.kind == Action::recv_x || a.kind == Action::send_y;
    };
    if (std::any_of(std::ranges::find_if(actions, is_backward), actions.end(), is_forward)) return false;
  }
  return true;
}

double router_factor(const ModelSpec& spec, const TrainerOptions& options) {
  const double factor = options.router_aux_loss.value_or(double{spec.router_aux_loss});
  if (factor > 0 && routers_of(spec).experts == 0)
    throw UsageError("the routers' loss is to be {} times part of the loss, and the model has no experts", factor);
  return factor;
}

StageOptions stage_options(const ModelSpec& spec, const TrainerOptions& options, int slots) {
  const Index tokens = options.sequence * options.micro_batch;
  return {.type = options.type,
          .recompute = options.recompute,
          .balanced = router_factor(spec, options) > 0,
          .sequence_parallel = options.sequence_parallel,
          .limits = {.tokens = tokens,
                     .sequences = static_cast<int>(options.micro_batch) * options.documents,
                     .slots = slots,
                     .logit_rows = std::min<Index>(tokens, 256)}};
}

int slots_of(const std::vector<Action>& actions, int chunk) {
  const auto has = [&](Action::Kind kind) {
    return std::ranges::any_of(actions, [&](const Action& a) { return a.kind == kind && a.chunk == chunk; });
  };
  const auto first = has(Action::recv_x) ? Action::recv_x : Action::forward;
  const auto last = has(Action::send_dx) ? Action::send_dx : Action::backward;
  int under_way = 0, most = 0;
  for (const Action& action : actions) {
    if (action.chunk != chunk) continue;
    if (action.kind == first) most = std::max(most, ++under_way);
    if (action.kind == last) --under_way;
  }
  return most;
}

}  // namespace grist::train
