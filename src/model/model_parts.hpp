// What a layout makes of a model: the parts of each rank, and the scratch that they take.
#pragma once

#include <grist/comm/process_grid.hpp>
#include <grist/model/decoder_block.hpp>
#include <grist/model/family.hpp>
#include <grist/model/limits.hpp>

#include <vector>

namespace grist {

/// The layout's parts of a model, without weights.
struct ModelParts {
  Range layers;  // of this stage
  std::vector<Shard> shards;   // of each rank of tp
  std::vector<Block> blocks;   // of this stage
  std::vector<KvLayer> kv;     // of the whole model, with this rank's KV heads
  std::vector<AttentionConfig> pools;  // of kv_pool_windows(kv)
};

/// In f32, and where blocks of quantized columns could not be kept whole, row-parallel products gather (RowParallel).
/// Throws UsageError where the layout does not go with the model.
ModelParts parts_of(const ModelFiles& files, const Layout& layout, int pp_rank, int tp_rank,
                    const ModelNumbers& numbers);

/// The same for some layers and given shards.
ModelParts parts_of(const ModelSpec& spec, std::vector<Shard> shards, Range layers, int tp_rank);

/// The shard of every rank of tp.
std::vector<Shard> shards_of(const ModelSpec& spec, int tp, RowParallel row_parallel);

/// What Model::run and logits take of a workspace: x, the rope tables, a block's scratch; the rows of logits.
std::size_t workspace_bytes(const ModelSpec& spec, const ModelParts& parts, int tp_rank, DType type,
                            const ModelLimits& limits);

/// What a pass asks of attention and of Batch: every key may be of its own pass or of the cache.
inline AttentionLimits attention_limits(const ModelLimits& limits) {
  return {limits.batch_tokens, limits.batch_sequences, limits.kv_tokens + limits.batch_tokens};
}

/// Floats of scratch that attention of a pass takes.
Index partials_of(const ModelParts& parts, const ModelLimits& limits);

}  // namespace grist
