// The tensors that a rank trains, in float, in one flat array: its slices of a stage's layers, as the table says.
// Weights, gradients and moments are equally built.
#pragma once

#include <grist/model/family.hpp>
#include <grist/model/tensor_table.hpp>

#include <cstdint>

namespace grist {

/// Each tensor is a contiguous block [experts, rows, columns] of what the rank holds: of each expert the slices of the
/// row's parts one after the other (q | k | v). Blocks begin at multiples of 64 elements, and between them are zeros.
struct TensorBlocks {
  Buffer<float> memory;
  ModelTensors<View3<float>> tensors;  // empty: absent, or of another stage; a tied head is the embedding's block

  [[nodiscard]] View1<float> flat() const { return memory.view(); }
};

/// f(row, layer or -1, the layer's shard or null, block) for the blocks of a stage, each once.
template <class Block, class F>
void each_block(const TensorTable& table, Range layers, const Shard& shard, ModelTensors<Block>& tensors, F&& f) {
  const auto outside = [&](const TensorRow& row, Block& block) {
    if (row.present()) f(row, Index{-1}, static_cast<const LayerShard*>(nullptr), block);
  };
  const bool first = layers.begin == 0, last = layers.end == static_cast<Index>(table.layers.size());
  if (first) each_first_tensor(outside, table, tensors);
  for (Index layer = layers.begin; layer < layers.end; ++layer) {
    const auto l = static_cast<std::size_t>(layer);
    each_tensor(
        [&](const TensorRow& row, Block& block) {
          if (row.present()) f(row, layer, &shard.layers[l], block);
        },
        table.layers[l], tensors.layers[l]);
  }
  if (!last) return;
  each_last_tensor(
      [&](const TensorRow& row, Block& block) {
        if (!(row.tied && first)) outside(row, block);
      },
      table, tensors);
}

/// Elements of the flat array that make_blocks allocates.
Index block_elements(const TensorTable& table, const std::vector<Range>& ranges, const Shard& shard, Index pieces = 1);

/// Allocates, and fills with zeros. With several ranges of layers one flat array has the blocks of all. Its size is a
/// multiple of 64 `pieces`, so that so many ranks can share it evenly. Throws MemoryError.
TensorBlocks make_blocks(const TensorTable& table, const std::vector<Range>& ranges, const Shard& shard,
                         Index pieces = 1);
inline TensorBlocks make_blocks(const TensorTable& table, Range layers, const Shard& shard) {
  return make_blocks(table, std::vector{layers}, shard);
}

/// Reads the weights of the model's files, whose names are those of the table; a bias that they lack is zero. Throws
/// InputError.
void load_blocks(TensorBlocks& blocks, const ModelFiles& files, const TensorTable& table, Range layers,
                 const Shard& shard);

/// The weights that `grist init` writes with this seed, rounded to the config's dtype as there.
void initialize_blocks(TensorBlocks& blocks, const ModelFiles& files, const TensorTable& table, Range layers,
                       const Shard& shard, std::uint64_t seed);

}  // namespace grist
