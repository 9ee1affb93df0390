#include <grist/model/tensor_table.hpp>

#include <algorithm>
#include <format>
#include <set>

namespace grist {
namespace {

/// Makes the rows of one layer, or with `layer` < 0 those outside of layers.
class Rows {
public:
  Rows(const ModelSpec& spec, const TensorNames& names, Index layer)
      : spec_(spec),
        names_(names),
        prefix_(names.base + (layer < 0 ? "" : with_number(names.layer, layer))),
        inside_(layer >= 0) {}

  [[nodiscard]] TensorRow norm(const std::string& name, const char* suffix, Index size, Split split = Split::whole,
                               Index unit = 1) const {
    Source source = at(prefix_ + name + suffix, {size});
    const bool weight = std::string_view(suffix) == ".weight";
    source.plus_one = weight && names_.norms_plus_one;
    return {.parts = {{size, split, unit, {source}}}, .columns = 1, .vector = true,
            .initial = weight ? Initial::ones : Initial::zeros, .decay = false};
  }
  [[nodiscard]] TensorRow bias(const std::string& name, Index size) const { return norm(name, ".bias", size); }

  /// A matrix of one part.
  [[nodiscard]] TensorRow matrix(const std::string& name, Index rows, Index columns, Split split = Split::whole) const {
    return {.parts = {{rows, split, 1, {plain(name, rows, columns)}}}, .columns = columns};
  }

  [[nodiscard]] TensorRow qkv(const AttentionSpec& a, bool vector) const {
    const Index q = a.q_width(), kv = a.kv_width(), dim = a.head_dim, group = a.heads / a.kv_heads * dim,
                all = q + 2 * kv;
    const Index block = group + 2 * dim;  // a KV group's rows where the three lie by group
    TensorRow row = vector ? TensorRow{.columns = 1, .vector = true, .initial = Initial::zeros, .decay = false}
                           : TensorRow{.columns = spec_.hidden_size};
    const auto add = [&](const std::string& name, Index rows, Split split, Index in_turn, Index by_group, Index size,
                         bool turned, bool wanted) {
      TensorPart part{rows, split, dim, {}};
      if (wanted && !name.empty()) part.sources.push_back(one(name, rows, vector));
      if (wanted && !names_.qkv.empty()) {
        Source source = one(names_.qkv, all, vector);
        if (names_.fused == TensorNames::Fused::in_turn)
          source.base = in_turn;
        else
          source.base = by_group, source.group = size, source.stride = block;
        part.sources.push_back(source);
      }
      for (Source& source : part.sources)
        if (turned && names_.rope_pairs) source.pair_dim = dim;
      row.parts.push_back(std::move(part));
    };
    add(names_.q, q, Split::heads, 0, 0, group, true, !vector || a.q_bias);
    add(names_.k, kv, Split::kv_heads, q, group, dim, true, !vector || a.k_bias);
    add(names_.v, kv, Split::kv_heads, q + kv, group + dim, dim, false, !vector || a.v_bias);
    return row;
  }

  /// Gate and up, or up alone; of all experts.
  [[nodiscard]] TensorRow gate_up(const MlpSpec& mlp) const {
    const Index n = mlp.intermediate_size;
    TensorRow row{.columns = spec_.hidden_size, .experts = std::max(1, mlp.experts)};
    const auto add = [&](const std::string& name, const std::string& each, const std::string& all, Index base) {
      TensorPart part{n, Split::intermediate, 1, {}};
      if (mlp.experts == 0) {
        if (!name.empty()) part.sources.push_back(plain(name, n, spec_.hidden_size));
        if (mlp.gated && !names_.gate_up.empty()) {
          part.sources.push_back(plain(names_.gate_up, 2 * n, spec_.hidden_size));
          part.sources.back().base = base;
        }
      } else {
        add_experts(part, mlp.experts, each, all, n, n, 0);
        add_experts(part, mlp.experts, "", names_.experts_gate_up, n, 2 * n, base);
      }
      row.parts.push_back(std::move(part));
    };
    if (mlp.gated) add(names_.gate, names_.expert_gate, names_.experts_gate, 0);
    add(names_.up, names_.expert_up, names_.experts_up, n);
    return row;
  }

  [[nodiscard]] TensorRow down(const MlpSpec& mlp) const {
    TensorRow row{
        .columns = mlp.intermediate_size, .experts = std::max(1, mlp.experts), .column_split = Split::intermediate};
    TensorPart part{spec_.hidden_size, Split::output, 1, {}};
    if (mlp.experts == 0) part.sources.push_back(plain(names_.down, spec_.hidden_size, mlp.intermediate_size));
    else
      add_experts(part, mlp.experts, names_.expert_down, names_.experts_down, spec_.hidden_size, spec_.hidden_size, 0,
                  mlp.intermediate_size);
    row.parts.push_back(std::move(part));
    return row;
  }

  [[nodiscard]] TensorRow gate_up_bias(const MlpSpec& mlp) const {
    TensorRow row{.columns = 1, .vector = true, .initial = Initial::zeros, .decay = false};
    if (mlp.gated)
      row.parts.push_back(
          {mlp.intermediate_size, Split::intermediate, 1, {one(names_.gate, mlp.intermediate_size, true)}});
    row.parts.push_back({mlp.intermediate_size, Split::intermediate, 1, {one(names_.up, mlp.intermediate_size, true)}});
    return row;
  }

  [[nodiscard]] Source plain(const std::string& name, Index rows, Index columns) const {
    Source source = at(prefix_ + name + ".weight", {rows, columns});
    source.transposed = inside_ && names_.transposed;
    if (source.transposed) std::swap(source.shape[0], source.shape[1]);
    return source;
  }

private:
  static Source at(std::string tensor, std::vector<Index> shape) {
    return {.tensor = std::move(tensor), .shape = std::move(shape)};
  }

  [[nodiscard]] Source one(const std::string& name, Index rows, bool vector) const {
    return vector ? at(prefix_ + name + ".bias", {rows}) : plain(name, rows, spec_.hidden_size);
  }

  /// A tensor for each expert, and one tensor with the `file_rows` rows of all of them.
  void add_experts(TensorPart& part, int experts, const std::string& each, const std::string& all, Index rows,
                   Index file_rows, Index base, Index columns = 0) const {
    if (columns == 0) columns = spec_.hidden_size;
    if (!each.empty()) part.sources.push_back(at(prefix_ + each + ".weight", {rows, columns}));
    if (all.empty()) return;
    Source source = at(prefix_ + all + names_.experts_suffix, {experts, file_rows, columns});
    source.expert_rows = file_rows;
    source.base = base;
    part.sources.push_back(std::move(source));
  }

  const ModelSpec& spec_;
  const TensorNames& names_;
  std::string prefix_;
  bool inside_;
};

void add_norm(const Rows& rows, const std::string& name, const NormSpec& norm, Index size, TensorRow& weight,
              TensorRow& bias) {
  weight = rows.norm(name, ".weight", size);
  if (norm.bias) bias = rows.bias(name, size);
}

LayerTensors<TensorRow> layer_rows(const ModelSpec& spec, const TensorNames& names, Index number) {
  const LayerSpec& layer = spec.layers[static_cast<std::size_t>(number)];
  const AttentionSpec& attention = layer.attention;
  const MlpSpec& mlp = layer.mlp;
  const Rows rows(spec, names, number);
  const Index hidden = spec.hidden_size;
  LayerTensors<TensorRow> t;
  if (layer.pre_norm) {
    const bool apart = layer.parallel && !layer.shared_norm && !names.parallel_mlp_norm.empty();
    add_norm(rows, apart ? names.parallel_attention_norm : names.attention_norm, layer.norm, hidden, t.attention_norm,
             t.attention_norm_bias);
    if (!layer.shared_norm)
      add_norm(rows, apart ? names.parallel_mlp_norm : names.mlp_norm, layer.norm, hidden, t.mlp_norm, t.mlp_norm_bias);
  }
  if (layer.post_norm) {
    add_norm(rows, names.attention_post_norm, layer.norm, hidden, t.attention_post_norm, t.attention_post_norm_bias);
    add_norm(rows, names.mlp_post_norm, layer.norm, hidden, t.mlp_post_norm, t.mlp_post_norm_bias);
  }
  t.qkv = rows.qkv(attention, false);
  if (attention.q_bias || attention.k_bias || attention.v_bias) t.qkv_bias = rows.qkv(attention, true);
  if (attention.qk_norm == QkNorm::head) {
    t.q_norm = rows.norm(names.q_norm, ".weight", attention.head_dim);
    t.k_norm = rows.norm(names.k_norm, ".weight", attention.head_dim);
  } else if (attention.qk_norm == QkNorm::all) {
    const Index dim = attention.head_dim;
    t.q_norm = rows.norm(names.q_norm, ".weight", attention.q_width(), Split::heads, dim);
    t.k_norm = rows.norm(names.k_norm, ".weight", attention.kv_width(), Split::kv_heads, dim);
  }
  t.o = rows.matrix(names.o, hidden, attention.q_width(), Split::output);
  t.o.column_split = Split::heads;
  t.o.column_unit = attention.head_dim;
  if (attention.o_bias) t.o_bias = rows.bias(names.o, hidden);
  t.gate_up = rows.gate_up(mlp);
  if (mlp.up_bias) t.gate_up_bias = rows.gate_up_bias(mlp);
  t.down = rows.down(mlp);
  if (mlp.down_bias) t.down_bias = rows.bias(names.down, hidden);
  if (mlp.experts > 0) {
    t.router = rows.matrix(names.router, mlp.experts, hidden);
    t.router.least_bits = 16;
    if (!names.other_router.empty())
      t.router.parts[0].sources.push_back(rows.plain(names.other_router, mlp.experts, hidden));
  }
  if (const Index shared = mlp.shared_intermediate; shared > 0) {
    t.shared_gate_up = {.columns = hidden};
    for (const auto& name : {names.shared_gate, names.shared_up})
      t.shared_gate_up.parts.push_back({shared, Split::shared_intermediate, 1, {rows.plain(name, shared, hidden)}});
    t.shared_down = rows.matrix(names.shared_down, hidden, shared, Split::output);
    t.shared_down.column_split = Split::shared_intermediate;
    if (mlp.shared_gate) {
      t.shared_gate = rows.matrix(names.shared_expert_gate, 1, hidden);
      t.shared_gate.least_bits = 16;
    }
  }
  return t;
}

Range range_of(Split split, Index all, const Shard& shard, const LayerShard* layer) {
  switch (split) {
    case Split::whole: break;
    case Split::heads: return layer->heads;
    case Split::kv_heads: return layer->kv_heads;
    case Split::intermediate: return layer->intermediate;
    case Split::shared_intermediate: return layer->shared_intermediate;
    case Split::vocabulary: return shard.vocabulary;
    case Split::output: return shard.hidden;
  }
  return {0, all};
}

/// Whether experts go whole to ranks, so that nothing inside of one is split.
bool whole_experts(const TensorRow& row, const LayerShard* layer) {
  return row.experts > 1 && layer->experts.size() < row.experts;
}

}  // namespace

Index Source::file_row(Index row) const {
  if (pair_dim > 0) {
    const Index in_head = row % pair_dim, half = pair_dim / 2;
    row += 2 * (in_head % half) + in_head / half - in_head;
  }
  return base + (group > 0 ? row / group * stride + row % group : row);
}

Index Source::element(Index expert, Index row, Index column) const {
  const Index from = file_row(row);
  if (shape.size() == 1) return from;
  if (transposed) return column * shape[1] + from;
  return (expert * expert_rows + from) * shape.back() + column;
}

Index TensorRow::rows() const {
  Index sum = 0;
  for (const auto& part : parts) sum += part.rows;
  return sum;
}

TensorTable tensor_table(const ModelSpec& spec, const TensorNames& names) {
  const Rows rows(spec, names, -1);
  TensorTable table;
  table.embedding = rows.matrix(names.embedding, spec.vocab_size, spec.hidden_size, Split::vocabulary);
  table.embedding.least_bits = 8;
  table.head = table.embedding;
  // The head's name has no base in front; tied ones may be stored under either name.
  table.head.parts[0].sources[0].tensor = names.head + ".weight";
  if (spec.tied_embeddings) {
    table.head.tied = true;
    const Source head = table.head.parts[0].sources[0];
    table.head.parts[0].sources = {table.embedding.parts[0].sources[0], head};
    table.embedding.parts[0].sources.push_back(head);
  }
  if (spec.head_bias) {
    table.head_bias = Rows(spec, names, -1).bias("", spec.vocab_size);
    table.head_bias.parts[0].split = Split::vocabulary;
    table.head_bias.parts[0].sources[0].tensor = names.head + ".bias";
  }
  if (spec.learned_positions > 0) {
    table.positions = rows.matrix(names.positions, spec.learned_positions, spec.hidden_size);
    table.positions.least_bits = 8;
  }
  if (spec.embedding_norm)
    add_norm(rows, names.embedding_norm, spec.final_norm, spec.hidden_size, table.embedding_norm,
             table.embedding_norm_bias);
  add_norm(rows, names.final_norm, spec.final_norm, spec.hidden_size, table.final_norm, table.final_norm_bias);
  for (Index layer = 0; layer < spec.layer_count(); ++layer) table.layers.push_back(layer_rows(spec, names, layer));
  return table;
}

io::Slice slice_of(const TensorRow& row, const TensorPart& part, const Shard& shard, const LayerShard* layer) {
  const bool inside = !whole_experts(row, layer);
  const bool gathered = shard.row_parallel == RowParallel::gather;
  const bool split_rows = inside && (part.split != Split::output || gathered);
  const bool split_columns = inside && !gathered && row.column_split != Split::whole;
  const Range rows = range_of(split_rows ? part.split : Split::whole, part.rows / part.unit, shard, layer);
  const Range columns =
      range_of(split_columns ? row.column_split : Split::whole, row.columns / row.column_unit, shard, layer);
  return {rows.begin * part.unit, rows.size() * part.unit, columns.begin * row.column_unit,
          columns.size() * row.column_unit};
}

Range experts_of(const TensorRow& row, const LayerShard* layer) {
  return row.experts > 1 ? layer->experts : Range{0, 1};
}

std::vector<int> replicas_of(const TensorRow& row, const TensorPart& part, const std::vector<Shard>& shards,
                             Index layer, int tp_rank) {
  const auto held = [&](int rank) {
    const Shard& shard = shards[static_cast<std::size_t>(rank)];
    const LayerShard* inside = layer < 0 ? nullptr : &shard.layers[static_cast<std::size_t>(layer)];
    return std::pair(slice_of(row, part, shard, inside), experts_of(row, inside));
  };
  std::vector<int> ranks;
  for (int rank = 0; rank < static_cast<int>(shards.size()); ++rank)
    if (held(rank) == held(tp_rank)) ranks.push_back(rank);
  return ranks;
}

Initial initial_of(const TensorRow& row, const Source& source) {
  return row.initial == Initial::ones && source.plus_one ? Initial::zeros : row.initial;
}

std::vector<FileTensor> file_tensors(const TensorTable& table) {
  std::vector<FileTensor> tensors;
  std::set<std::string> seen;
  const auto add = [&](const TensorRow& row) {
    for (const auto& part : row.parts) {
      if (part.sources.empty()) continue;
      const Source& source = part.sources.front();
      const bool each = source.one_per_expert();
      for (Index expert = 0; expert < (each ? row.experts : 1); ++expert) {
        const auto name = with_number(source.tensor, expert);
        if (!seen.insert(name).second) continue;
        tensors.push_back({name, source.shape, initial_of(row, source), source.plus_one});
      }
    }
  };
  every_row(table, add);
  return tensors;
}

Index parameter_count(const ModelSpec& spec, bool active) {
  Index count = 0;
  const auto add = [&](const TensorRow& row, Index experts) {
    count += row.tied ? 0 : row.rows() * row.columns * experts;
  };
  const auto table = tensor_table(spec, {});
  each_first_tensor([&](const TensorRow& row) { add(row, 1); }, table);
  for (std::size_t i = 0; i < table.layers.size(); ++i) {
    const Index used = spec.layers[i].mlp.experts_per_token;
    each_tensor([&](const TensorRow& row) { add(row, active && row.experts > 1 ? used : row.experts); },
                table.layers[i]);
  }
  each_last_tensor([&](const TensorRow& row) { add(row, 1); }, table);
  return count;
}

}  // namespace grist
