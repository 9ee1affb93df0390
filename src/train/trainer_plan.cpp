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

StageOptions stage_options(const TrainerOptions& options, int slots) {
  const Index tokens = options.sequence * options.micro_batch;
  return {.type = options.type,
          .recompute = options.recompute,
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
