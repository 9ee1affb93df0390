// What a rank holds of a tensor's part, read from the files of a model.
#pragma once

#include <grist/io/weights.hpp>
#include <grist/model/tensor_table.hpp>

#include <string>
#include <vector>

namespace grist {

/// Where a source lies in the files; null where they have neither its name nor its name without `base`. `expert` is the
/// number of one with a tensor of its own.
const io::TensorInfo* find_source(const io::Weights& weights, const Source& source, const std::string& base,
                                  Index expert = 0);

/// The first source of a part that the files hold; null where they hold none.
const Source* held_source(const io::Weights& weights, const TensorPart& part, const std::string& base);

/// A rank's rectangle of a part of a matrix, of each expert that it holds.
class PartReader {
public:
  /// The files hold the part. Throws InputError where its experts are stored in different formats, or in blocks that
  /// lie transposed.
  PartReader(const io::Weights& files, const std::string& base, const TensorRow& row, const TensorPart& part,
             const Shard& shard, const LayerShard* layer);

  [[nodiscard]] const io::Slice& slice() const { return slice_; }

  /// Writes row `row` of the rectangle of a held expert: slice().columns numbers as `wanted`, which is the stored
  /// format or one that encode_row writes. False where the row is converted and encode_row says so.
  bool read(Index expert, Index row, Format wanted, std::byte* to) const;

  /// The file and the tensor of a held expert, for messages.
  [[nodiscard]] std::string file() const { return files_.file_of(*tensors_.front()); }
  [[nodiscard]] const std::string& tensor(Index expert) const {
    return tensors_[static_cast<std::size_t>(expert)]->name;
  }

  /// The rows of all held experts where they lie in the mapped file, whole and one after the other, in the format that
  /// is wanted and on a boundary of its numbers; null elsewhere.
  [[nodiscard]] const std::byte* in_place(Format wanted) const;
  /// What keeps the file mapped.
  [[nodiscard]] std::shared_ptr<const io::MappedFile> mapping() const { return files_.mapping(*tensors_.front()); }

  /// Whether rows that follow each other here do so in the file.
  [[nodiscard]] bool in_order() const;
  /// Gives the pages of some rows of a held expert back, which lie in order.
  void release(Index expert, Index row, Index rows) const;
  /// Gives the pages of the whole tensors back.
  void release() const;

private:
  [[nodiscard]] Index file_row(Index expert, Index row) const;
  bool read_transposed(const std::byte* tensor, Index column, Format wanted, std::byte* to) const;

  const io::Weights& files_;
  const Source& source_;
  std::vector<const io::TensorInfo*> tensors_;  // of each expert held; one and the same where one tensor holds all
  std::vector<const std::byte*> data_;
  Format stored_;
  io::Slice slice_;
  Index first_expert_;
};

/// A rank's rows of a part of a norm or bias; zeros where the files lack it.
std::vector<float> read_vector(const io::Weights& files, const std::string& base, const TensorPart& part,
                               const io::Slice& slice);

}  // namespace grist
