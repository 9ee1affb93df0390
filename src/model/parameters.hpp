// The weights that this rank holds, allocated and loaded as the tensor table says, stored as the files store them.
#pragma once

#include <grist/core/weight.hpp>
#include <grist/io/weights.hpp>
#include <grist/model/limits.hpp>
#include <grist/model/mapped_pages.hpp>
#include <grist/model/tensor_table.hpp>
#include <grist/model/waiting_panels.hpp>

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace grist {

/// Every tensor that the table needs is there with its shape, and every tensor that is there has a use or is in
/// `unused`. Throws InputError naming file, tensor, expected and found; missing ones and unknown ones are listed
/// together.
void check_tensors(const io::Weights& weights, const TensorTable& table, const std::string& base,
                   const std::function<bool(const io::TensorInfo&)>& harmless);

/// The format that a part of a matrix has in memory. `assumed` where there are no files.
Format format_of_part(const io::Weights* weights, const TensorRow& row, const TensorPart& part, const std::string& base,
                      WeightStorage storage, Format assumed);

/// A rank's weight as it will lie in memory, for planning: its data are null.
Weight weight_without_data(const io::Weights* weights, const TensorRow& row, const std::string& base,
                           const LayerShard* layer, const Shard& shard, WeightStorage storage, Format assumed);

/// Bytes of a rank's slices of a stage; without files matrices are taken as `assumed`.
std::uint64_t parameter_bytes(const io::Weights* weights, const TensorTable& table, const std::string& base,
                              Range layers, const Shard& shard, WeightStorage storage, Format assumed);

/// Of them, what Parameters leaves where the files are mapped.
std::uint64_t mapped_bytes(const io::Weights& weights, const TensorTable& table, const std::string& base, Range layers,
                           const Shard& shard, const ModelNumbers& numbers);

class PartReader;

class Parameters {
public:
  /// Allocates and loads this rank's slices of the layers of a stage. What is wanted as the files store it stays where
  /// they are mapped, where kernels reach that and all memory is as near to all threads; elsewhere each thread first
  /// touches a copy of what it will read. Rows of blocks are interleaved where products read them faster so: those that
  /// can be read where the file is mapped wait for interleave_some. Throws InputError, MemoryError.
  Parameters(const io::Weights& weights, const TensorTable& table, const std::string& base, Range layers,
             const Shard& shard, const ModelNumbers& numbers, const Progress& progress);
  Parameters(const Parameters&) = delete;
  Parameters& operator=(const Parameters&) = delete;

  /// Of layers of other stages all weights are empty. A tied head is the embedding's memory where the stage has both.
  [[nodiscard]] const ModelTensors<Weight>& tensors() const { return tensors_; }

  /// Rows that wait for being interleaved. What tensors() says of them changes then; what products give does not.
  [[nodiscard]] bool waiting() const { return !waiting_.empty(); }
  void interleave_some();
  void interleave_all();

private:
  void load_vector(const TensorRow& row, const LayerShard* layer, Weight& weight);
  void load_matrix(const TensorRow& row, const LayerShard* layer, bool multiplied, Weight& weight);
  template <class F>
  static void for_pieces(const PartReader& reader, Index experts, Format format, F&& f);
  void map(const PartReader& reader, const void* first, Index bytes);
  std::byte* take(Index bytes, bool waits);
  static void copy(const PartReader& reader, Index experts, const Panel& panel, std::byte* to);

  const io::Weights& files_;
  const std::string& base_;
  const Shard& shard_;
  ModelNumbers numbers_;
  std::vector<Buffer<std::byte>> vectors_;
  Buffer<std::byte> copied_;  // all matrices that are not mapped: together, for the sake of large pages
  Index copied_bytes_ = 0;    // from its beginning, so far
  Index waiting_bytes_ = 0;   // from its end
  std::vector<std::shared_ptr<const io::MappedFile>> mappings_;
  MappedPages pages_;  // of them
  ModelTensors<Weight> tensors_;
  bool head_is_embedding_ = false;
  WaitingPanels waiting_;  // of tensors_
};

}  // namespace grist
