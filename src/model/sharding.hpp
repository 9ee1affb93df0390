// How a model is split: layers over pipeline stages; heads, columns, experts and vocabulary over tensor-parallel ranks.
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

/// What one rank of tp holds of a layer. Heads go in whole KV groups, unevenly if need be; where there are fewer KV
/// heads than ranks, each KV head is held by several ranks that share its group's heads. Experts go whole where there
/// are enough of them (then `intermediate` is all of it), else each expert's columns are split.
struct LayerShard {
  Range heads;
  Range kv_heads;
  Range intermediate;
  Range experts;
  Range shared_intermediate;
};

/// How products whose inputs are split over tp (o and down) are done.
enum class RowParallel {
  reduce,  // Megatron-LM: each rank multiplies its columns, one all_reduce sums; bits depend on the layout
  gather,  // inputs are gathered, each rank makes some rows of the output whole: bits are those of one rank
};

struct Shard {
  Range vocabulary;
  Range hidden;  // rows of o and down that this rank makes under RowParallel::gather
  RowParallel row_parallel = RowParallel::reduce;
  std::vector<LayerShard> layers;
};

/// Throws UsageError with the numbers where the arithmetic does not allow it.
Shard shard_of(const ModelSpec& spec, int tp_size, int tp_rank, RowParallel row_parallel = RowParallel::reduce);

/// n items in `parts` parts, in whole units that differ by at most one.
Range split(Index n, Index unit, int parts, int part);

/// Layers of each pipeline stage: contiguous, balanced by parameters read per token; the last stage also computes
/// logits. Throws UsageError where a stage would be empty.
std::vector<Range> stages_of(const ModelSpec& spec, int pp_size);

}  // namespace grist
