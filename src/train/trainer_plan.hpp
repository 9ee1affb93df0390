// What options and layout make of a trainer, before anything is allocated.
#pragma once

#include <grist/train/trainer.hpp>

#include <vector>

namespace grist::train {

/// Layers of this rank's chunks: chunk c of stage s is virtual stage c stages + s.
std::vector<Range> ranges_of(const ModelSpec& spec, const Layout& layout, int pp_rank, int chunks);

/// Chunks of layers on each rank: 1 where the pipeline is not interleaved, or there is none.
int chunks_of(const TrainerOptions& options, const Layout& layout);

/// What this stage does in a step.
std::vector<Action> actions_of(const TrainerOptions& options, const Layout& layout, int pp_rank, int chunks);

/// Whether on every stage all forward passes come before the first backward one.
bool all_forward_first(const TrainerOptions& options, const Layout& layout, int chunks);

/// The factor of the routers' loss: 0 where it is not part of the loss. Throws UsageError where it is asked of a model
/// without experts.
double router_factor(const ModelSpec& spec, const TrainerOptions& options);

StageOptions stage_options(const ModelSpec& spec, const TrainerOptions& options, int slots);

/// The most micro-batches of a chunk that are under way at once, from what is received for them on.
int slots_of(const std::vector<Action>& actions, int chunk);

}  // namespace grist::train
