// The tensor table: one row for each tensor of a model. It drives allocation, loading, slicing, initialisation and the
// memory estimate.
#pragma once

#include <grist/io/weights.hpp>
#include <grist/model/sharding.hpp>
#include <grist/model/spec.hpp>

#include <string>
#include <vector>

namespace grist {

/// What a tensor's split axis counts, in units of `unit` rows or columns.
enum class Dealt { whole, heads, kv_heads, intermediate, vocabulary };
enum class Axis { rows, columns };
enum class Initial { normal, ones, zeros };

struct TensorRow {
  std::string name;          // Hugging Face's
  std::vector<Index> shape;  // global
  Dealt dealt = Dealt::whole;
  Axis axis = Axis::rows;
  Index unit = 1;         // rows or columns per dealt item: head_dim for heads
  std::string parameter;  // where it lies in memory: tensors of one parameter follow each other by rows (q, k, v)
  int layer = -1;         // -1: before the first layer; spec.layers: behind the last
  Initial initial = Initial::normal;
  bool on_one_rank = false;  // the bias of a row-parallel product: added on tp rank 0 alone
  std::string tied_to;       // the tensor whose values it shares; files need not hold it

  [[nodiscard]] Index rows() const { return shape.size() == 1 ? 1 : shape[0]; }
  [[nodiscard]] Index columns() const { return shape.back(); }
  [[nodiscard]] bool is_matrix() const { return shape.size() == 2; }
};

/// All tensors of a model, in the order of computation.
std::vector<TensorRow> tensor_table(const ModelSpec& spec);

/// The part of a tensor that a rank holds; a vector is a matrix of one row.
io::Slice slice_of(const TensorRow& row, const TensorShard& shard);

/// The rows of the table that a pipeline stage holds.
std::vector<TensorRow> rows_of_stage(const ModelSpec& spec, Range layers);

}  // namespace grist
