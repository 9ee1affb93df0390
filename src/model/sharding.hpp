// How a model is dealt to the ranks: layers to pipeline stages, heads, columns and vocabulary to tensor-parallel ranks.
#pragma once

#include <grist/model/spec.hpp>

#include <vector>

namespace grist {

/// A half-open range of items.
struct Range {
  Index begin = 0;
  Index end = 0;
  [[nodiscard]] Index size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

/// What one rank of tp holds. Heads are dealt in whole KV groups, unevenly if need be; where there are fewer KV heads
/// than ranks, each KV head is held by several ranks that share its group's heads.
struct TensorShard {
  Range heads;
  Range kv_heads;
  Range intermediate;
  Range vocabulary;
};

/// Throws UsageError with the numbers where the arithmetic does not allow it.
TensorShard shard_of(const ModelSpec& spec, int tp_size, int tp_rank);

/// Layers of each pipeline stage: contiguous, balanced by parameters read per token; the last stage also computes logits.
/// Throws UsageError where a stage would be empty.
std::vector<Range> stages_of(const ModelSpec& spec, int pp_size);

}  // namespace grist
