// Where the elements of this rank's blocks lie in the global tensors of a checkpoint.
#pragma once

#include <grist/model/tensor_blocks.hpp>

#include <string>
#include <vector>

namespace grist {

/// Elements that lie one after the other in a row of a tensor of the file, whose shape is read as a matrix: all
/// dimensions but the last are rows, a vector has one column. In memory they lie `stride` apart.
struct Run {
  Index row, column, columns;
  Index offset, stride;  // in the flat array
  bool owned;            // by this rank of tp: it saves it
};

class CheckpointLayout {
public:
  /// `layers` are this rank's chunks, `shards` those of all ranks of tp; `blocks` hold all chunks. Proves from the
  /// table and the shards that the owners' slices tile every tensor exactly once; throws InternalError with the
  /// tensor's name where they do not. The table must outlive the layout.
  CheckpointLayout(const TensorTable& table, std::vector<Range> layers, const std::vector<Shard>& shards, int tp_rank,
                   const TensorBlocks& blocks);

  /// Of the whole model, in the same order on every rank.
  [[nodiscard]] const std::vector<FileTensor>& tensors() const { return tensors_; }
  [[nodiscard]] const std::vector<Range>& layers() const { return layers_; }
  [[nodiscard]] Index layer_count() const { return layer_count_; }  // of the model
  /// Elements of the flat array.
  [[nodiscard]] Index size() const { return size_; }

  /// Whether this rank holds some of a tensor.
  [[nodiscard]] bool holds(std::size_t tensor) const { return !pieces_[tensor].empty(); }
  /// What this rank holds of a tensor, by row and column of the file.
  [[nodiscard]] std::vector<Run> runs(std::size_t tensor) const;

private:
  /// An expert's slice of a part.
  struct Piece {
    const Source* source;
    io::Slice slice;
    Index expert;
    Index offset;  // in the flat array
    bool owned;
  };

  std::vector<FileTensor> tensors_;
  std::vector<std::vector<Piece>> pieces_;  // of each tensor
  std::vector<Range> layers_;
  Index layer_count_, size_;
};

/// Throws InternalError, naming the tensor, where the owners' slices do not tile every tensor exactly once.
void check_tiling(const TensorTable& table, const std::vector<Shard>& shards);

}  // namespace grist
