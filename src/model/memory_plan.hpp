// How much memory a rank needs, before anything is allocated.
#pragma once

#include <grist/comm/process_grid.hpp>
#include <grist/model/decoder_block.hpp>
#include <grist/model/family.hpp>
#include <grist/model/parameters.hpp>

#include <cstdint>
#include <string>

namespace grist {

/// Sizes that a model is built for.
struct ModelLimits {
  Index batch_tokens = 512;  // of one forward pass
  int batch_sequences = 1;
  Index logit_rows = 1;  // of one forward pass
  Index context = 2048;  // of the longest sequence
  Index kv_tokens = 0;   // keys that the sequences of a pass have together; 0: no cache
};

/// How numbers are kept and computed with.
struct ModelNumbers {
  DType type = DType::f32;                         // of activations: f32 or bf16
  DType kv_type = DType::f32;                      // of keys and values: f32, bf16 or f16
  WeightStorage weights = WeightStorage::stored;
};

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

/// Bytes of one rank.
struct MemoryPlan {
  std::uint64_t parameters = 0;
  std::uint64_t kv_cache = 0;
  std::uint64_t workspace = 0;
  std::uint64_t libraries = 0;  // that a device's libraries and the scratch of Kokkos' teams take beside it
  [[nodiscard]] std::uint64_t total() const { return parameters + kv_cache + workspace + libraries; }
};

/// The plan of the rank with coordinates (pp_rank, tp_rank).
MemoryPlan memory_plan(const ModelFiles& files, const Layout& layout, int pp_rank, int tp_rank,
                       const ModelNumbers& numbers, const ModelLimits& limits);

/// What Model::run and logits take of a workspace: x, the rope tables, a block's scratch; the rows of logits.
std::size_t workspace_bytes(const ModelSpec& spec, const ModelParts& parts, int tp_rank, DType type,
                            const ModelLimits& limits);

/// Floats of scratch that attention of a pass takes.
Index partials_of(const ModelParts& parts, const ModelLimits& limits);

/// Throws MemoryError with the sizes where the `ranks` that share this process' memory (a node's, or a device's)
/// together need more than it has free.
void check_memory(const MemoryPlan& plan, std::uint64_t needed_by_all, int ranks);

/// "1.25 GiB"
std::string human_bytes(std::uint64_t bytes);

}  // namespace grist
