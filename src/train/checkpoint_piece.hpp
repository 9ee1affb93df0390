// Some rows of a tensor on their way between memory and a checkpoint: packed in the order of the file.
#pragma once

#include <grist/hdf5/hdf5_file.hpp>
#include <grist/train/checkpoint_layout.hpp>

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace grist {

/// Elements of one transfer: 64 MiB in float, far below what MPI-IO counts in 32 bits.
inline constexpr Index piece_elements = Index{1} << 24;

/// A tensor of a file as a matrix.
struct FileMatrix {
  Index rows, width;
  explicit FileMatrix(const std::vector<Index>& shape);
};

/// The rows that one transfer moves, equally cut on every rank.
std::vector<Range> pieces_of(const std::vector<Index>& shape);

/// The most elements of `groups` times these tensors that wait for one transfer: pieces that are queued one after the
/// other until they are as many as one may have.
Index queued_elements(const std::vector<FileTensor>& tensors, int groups);

/// What a rank moves of some rows.
class CheckpointPiece {
public:
  /// Of `runs`, sorted, those in these rows of the tensor, and of them the elements in `held` of the flat array.
  CheckpointPiece(std::span<const Run> runs, const std::vector<Index>& shape, Range rows, Range held);

  [[nodiscard]] const std::vector<io::Hyperslab>& boxes() const { return boxes_; }
  [[nodiscard]] Index size() const { return begins_.back(); }  // elements

  /// The first of the elements in the values [held] where they lie there in the order of the file without gaps: float
  /// needs no packing then.
  [[nodiscard]] std::optional<Index> place() const;

  /// packed [size()] = the elements, as `type`, of the values [held].
  void pack(const float* values, DType type, std::byte* packed) const;
  void unpack(const std::byte* packed, DType type, float* values) const;
  /// Of the elements that are owned.
  [[nodiscard]] std::uint64_t checksum(const std::byte* packed, DType type) const;

private:
  std::vector<Run> runs_;
  std::vector<Index> begins_{0};  // of each run in the packed array, and its size
  std::vector<io::Hyperslab> boxes_;
  Index width_;
};

/// The sum modulo 2^64 over the elements of a hash of place and bits: the same however the tensor is cut.
std::uint64_t checksum_of(const std::byte* values, DType type, Index first, Index count);

}  // namespace grist
