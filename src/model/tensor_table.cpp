#include <grist/model/tensor_table.hpp>

#include <format>

namespace grist {
namespace {

void add_layer(std::vector<TensorRow>& table, const ModelSpec& spec, int layer) {
  const auto name = [&](std::string_view part) { return std::format("model.layers.{}.{}", layer, part); };
  const auto parameter = [&](std::string_view part) { return std::format("layers.{}.{}", layer, part); };
  const Index hidden = spec.hidden_size, dim = spec.head_dim;
  const Index q = spec.heads * dim, kv = spec.kv_heads * dim;

  const auto norm = [&](std::string_view part, std::string_view target) {
    table.push_back({.name = name(part), .shape = {hidden}, .parameter = parameter(target), .layer = layer,
                     .initial = Initial::ones});
  };
  const auto column_parallel = [&](std::string_view part, Index out, Dealt dealt, Index unit, std::string_view target,
                                   bool bias) {
    table.push_back({.name = name(std::format("{}.weight", part)), .shape = {out, hidden}, .dealt = dealt,
                     .axis = Axis::rows, .unit = unit, .parameter = parameter(target), .layer = layer});
    if (bias)
      table.push_back({.name = name(std::format("{}.bias", part)), .shape = {out}, .dealt = dealt, .axis = Axis::columns,
                       .unit = unit, .parameter = parameter(std::format("{}_bias", target)), .layer = layer,
                       .initial = Initial::zeros});
  };
  const auto row_parallel = [&](std::string_view part, Index in, Dealt dealt, Index unit, std::string_view target,
                                bool bias) {
    table.push_back({.name = name(std::format("{}.weight", part)), .shape = {hidden, in}, .dealt = dealt,
                     .axis = Axis::columns, .unit = unit, .parameter = parameter(target), .layer = layer});
    if (bias)
      table.push_back({.name = name(std::format("{}.bias", part)), .shape = {hidden},
                       .parameter = parameter(std::format("{}_bias", target)), .layer = layer,
                       .initial = Initial::zeros, .on_one_rank = true});
  };

  norm("input_layernorm.weight", "input_norm");
  column_parallel("self_attn.q_proj", q, Dealt::heads, dim, "qkv", spec.qkv_bias);
  column_parallel("self_attn.k_proj", kv, Dealt::kv_heads, dim, "qkv", spec.qkv_bias);
  column_parallel("self_attn.v_proj", kv, Dealt::kv_heads, dim, "qkv", spec.qkv_bias);
  row_parallel("self_attn.o_proj", q, Dealt::heads, dim, "o", spec.o_bias);
  norm("post_attention_layernorm.weight", "post_attention_norm");
  column_parallel("mlp.gate_proj", spec.intermediate_size, Dealt::intermediate, 1, "gate_up", spec.mlp_bias);
  column_parallel("mlp.up_proj", spec.intermediate_size, Dealt::intermediate, 1, "gate_up", spec.mlp_bias);
  row_parallel("mlp.down_proj", spec.intermediate_size, Dealt::intermediate, 1, "down", spec.mlp_bias);
}

}  // namespace

std::vector<TensorRow> tensor_table(const ModelSpec& spec) {
  std::vector<TensorRow> table;
  const std::vector<Index> vocabulary_by_hidden{spec.vocab_size, spec.hidden_size};
  table.push_back({.name = "model.embed_tokens.weight", .shape = vocabulary_by_hidden, .dealt = Dealt::vocabulary,
                   .parameter = "embedding"});
  for (int layer = 0; layer < spec.layers; ++layer) add_layer(table, spec, layer);
  table.push_back({.name = "model.norm.weight", .shape = {spec.hidden_size}, .parameter = "norm", .layer = spec.layers,
                   .initial = Initial::ones});
  table.push_back({.name = "lm_head.weight", .shape = vocabulary_by_hidden, .dealt = Dealt::vocabulary,
                   .parameter = "head", .layer = spec.layers,
                   .tied_to = spec.tied_embeddings ? "model.embed_tokens.weight" : ""});
  return table;
}

io::Slice slice_of(const TensorRow& row, const TensorShard& shard) {
  io::Slice slice{0, row.rows(), 0, row.columns()};
  const Range range = [&] {
    switch (row.dealt) {
      case Dealt::heads: return shard.heads;
      case Dealt::kv_heads: return shard.kv_heads;
      case Dealt::intermediate: return shard.intermediate;
      case Dealt::vocabulary: return shard.vocabulary;
      case Dealt::whole: break;
    }
    return Range{};
  }();
  if (row.dealt == Dealt::whole) return slice;
  if (row.axis == Axis::rows) {
    slice.row = range.begin * row.unit;
    slice.rows = range.size() * row.unit;
  } else {
    slice.column = range.begin * row.unit;
    slice.columns = range.size() * row.unit;
  }
  return slice;
}

std::vector<TensorRow> rows_of_stage(const ModelSpec& spec, Range layers) {
  std::vector<TensorRow> rows;
  const bool first = layers.begin == 0, last = layers.end == spec.layers;
  for (auto& row : tensor_table(spec)) {
    const bool here = row.layer < 0 ? first : row.layer == spec.layers ? last : row.layer >= layers.begin && row.layer < layers.end;
    if (!here) continue;
    // A stage that has both ends keeps a tied matrix once.
    if (!row.tied_to.empty() && first) continue;
    rows.push_back(std::move(row));
  }
  return rows;
}

Index parameter_count(const ModelSpec& spec) {
  Index count = 0;
  for (const auto& row : tensor_table(spec))
    if (row.tied_to.empty()) count += row.rows() * row.columns();
  return count;
}

}  // namespace grist
