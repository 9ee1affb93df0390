#include <grist/train/trainer_plan.hpp>

#include <grist/model/model_parts.hpp>

#include <algorithm>
#include <map>

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
  std::map<int, bool> under_way;
  std::size_t most = 0;
  for (const Action& action : actions) {
    if (action.chunk != chunk) continue;
    if (action.kind == Action::recv_x || action.kind == Action::forward) under_way[action.micro_batch] = true;
    most = std::max(most, under_way.size());
    const bool sends = std::ranges::any_of(actions, [&](const Action& a) {
      return a.kind == Action::send_dx && a.micro_batch == action.micro_batch && a.chunk == chunk;
    });
    if (action.kind == (sends ? Action::send_dx : Action::backward)) under_way.erase(action.micro_batch);
  }
  return static_cast<int>(most);
}

std::uint64_t trainer_bytes(const ModelSpec& spec, const TensorNames& names, const Layout& layout, int pp_rank,
                            int tp_rank, const TrainerOptions& options) {
  const int chunks = chunks_of(options, layout);
  const auto shards = shards_of(spec, layout.tp, RowParallel::reduce);
  const auto ranges = ranges_of(spec, layout, pp_rank, chunks);
  const auto actions = actions_of(options, layout, pp_rank, chunks);
  const auto table = tensor_table(spec, names);
  std::uint64_t elements = 0, bytes = 0;
  for (const Range layers : ranges)
    each_row(table, layers, shards[static_cast<std::size_t>(tp_rank)],
             [&](const TensorRow& row, const LayerShard* layer) {
               const auto experts = static_cast<std::uint64_t>(experts_of(row, layer).size());
               for (const auto& part : row.parts) {
                 const auto slice = slice_of(row, part, shards[static_cast<std::size_t>(tp_rank)], layer);
                 elements += experts * static_cast<std::uint64_t>(slice.rows * slice.columns);
               }
             });
  for (int c = 0; c < chunks; ++c)
    bytes += stage_bytes(spec, shards, ranges[static_cast<std::size_t>(c)], tp_rank,
                         stage_options(spec, options, slots_of(actions, c)));
  const auto share = options.zero ? elements / static_cast<std::uint64_t>(layout.dp) : elements;
  return bytes + elements * (options.type == DType::bf16 ? 10 : 8) + share * (options.zero ? 12 : 8);
}

}  // namespace grist::train
