// The tensor table: what each tensor of a model is, where it lies in files, how it is split. It drives allocation,
// loading, slicing, initialisation, the memory estimate, and later saving and the optimizer.
#pragma once

#include <grist/io/weights.hpp>
#include <grist/model/sharding.hpp>
#include <grist/model/spec.hpp>
#include <grist/model/tensor_names.hpp>
#include <grist/model/tensors.hpp>

#include <string>
#include <vector>

namespace grist {

/// Where a part lies in a file. Row r of the part is row base + r / group * stride + r % group of the tensor, in rows
/// of the part's expert; with `pair_dim` the rows of each head of so many are taken from adjacent pairs first.
struct Source {
  std::string tensor;         // with {} in place of an expert's number where each expert has a tensor of its own
  std::vector<Index> shape;   // as in the file
  Index expert_rows = 0;      // of one expert, where one tensor holds all of them
  Index base = 0, group = 0, stride = 0;
  Index pair_dim = 0;
  bool transposed = false;    // [in, out]
  bool plus_one = false;

  [[nodiscard]] Index file_row(Index row) const;
  /// The place of an element of the part among all elements of the tensor, as the file orders them.
  [[nodiscard]] Index element(Index expert, Index row, Index column) const;
  [[nodiscard]] bool one_per_expert() const { return tensor.find("{}") != std::string::npos; }
};

/// What an axis counts, in units of so many rows or columns. `output` are the rows of a row-parallel product: whole
/// where ranks are summed, split where they are gathered.
enum class Split { whole, heads, kv_heads, intermediate, shared_intermediate, vocabulary, output };

/// Rows that come from one place; q, k and v are three parts of one weight.
struct TensorPart {
  Index rows = 0;
  Split split = Split::whole;
  Index unit = 1;
  std::vector<Source> sources;  // the first that the files hold is taken; none at all: zeros
};

enum class Initial { normal, ones, zeros };

struct TensorRow {
  std::vector<TensorPart> parts;  // empty: the model has no such tensor
  Index columns = 0;
  Index experts = 1;
  Split column_split = Split::whole;
  Index column_unit = 1;
  bool vector = false;  // a norm or a bias: one dimension, always float in memory
  Initial initial = Initial::normal;
  bool decay = true;    // weight decay when training
  bool tied = false;    // shares the values of the embedding
  int least_bits = 4;   // of a number where weights are quantized while they are loaded: 4, 8 or 16

  [[nodiscard]] bool present() const { return !parts.empty(); }
  [[nodiscard]] Index rows() const;
};

using TensorTable = ModelTensors<TensorRow>;
TensorTable tensor_table(const ModelSpec& spec, const TensorNames& names);

/// The part's rectangle that a rank holds, of each of its experts. `layer` is null for tensors outside of layers.
io::Slice slice_of(const TensorRow& row, const TensorPart& part, const Shard& shard, const LayerShard* layer);

/// The experts of the tensor that a rank holds.
Range experts_of(const TensorRow& row, const LayerShard* layer);

/// The ranks of tp that hold the same rectangle of the same experts as `tp_rank`, itself included, ascending. The first
/// owns it: it saves it, and counts it where elements are counted once; gradients of the rectangle are summed over all.
/// `shards` are those of every rank, `layer` is negative outside of layers. Of a tied head the embedding's stage owns.
std::vector<int> replicas_of(const TensorRow& row, const TensorPart& part, const std::vector<Shard>& shards,
                             Index layer, int tp_rank);

/// f(row) for all rows, in the order of computation.
template <class F>
void every_row(const TensorTable& table, F&& f) {
  each_first_tensor(f, table);
  for (const auto& layer : table.layers) each_tensor(f, layer);
  each_last_tensor(f, table);
}

/// f(row, shard of its layer or null) for the tensors of a stage; a stage with both ends has a tied matrix once.
template <class F>
void each_row(const TensorTable& table, Range layers, const Shard& shard, F&& f) {
  const auto outside = [&](const TensorRow& row) {
    if (row.present()) f(row, static_cast<const LayerShard*>(nullptr));
  };
  const bool first = layers.begin == 0, last = layers.end == static_cast<Index>(table.layers.size());
  if (first) each_first_tensor(outside, table);
  for (auto layer = static_cast<std::size_t>(layers.begin); layer < static_cast<std::size_t>(layers.end); ++layer)
    each_tensor([&](const TensorRow& row) { if (row.present()) f(row, &shard.layers[layer]); }, table.layers[layer]);
  if (last) each_last_tensor([&](const TensorRow& row) { if (!(row.tied && first)) outside(row); }, table);
}

/// A tensor as its family's files hold it.
struct FileTensor {
  std::string name;
  std::vector<Index> shape;
  Initial initial = Initial::normal;
  bool plus_one = false;  // the model computes with 1 + the file's value
};
/// All tensors that a complete set of files holds, each once, in the order of computation.
std::vector<FileTensor> file_tensors(const TensorTable& table);
/// What the tensor of a source begins as: a norm that the file holds less one begins as zeros there.
Initial initial_of(const TensorRow& row, const Source& source);

}  // namespace grist
