#include <grist/model/sharding.hpp>

#include <grist/core/errors.hpp>

#include <algorithm>

namespace grist {
namespace {

/// Long dimensions are split in units that keep rows aligned to a cache line and to quantized blocks of 32.
Index unit_for(Index n, int parts) { return n / 32 >= parts ? 32 : 1; }

void split_heads(const AttentionSpec& attention, int tp_size, int tp_rank, LayerShard& shard) {
  const int group = attention.heads / attention.kv_heads;
  if (tp_size <= attention.kv_heads) {
    shard.kv_heads = split(attention.kv_heads, 1, tp_size, tp_rank);
    shard.heads = {shard.kv_heads.begin * group, shard.kv_heads.end * group};
    return;
  }
  const int sharers = tp_size / attention.kv_heads;  // ranks that hold the same KV head
  if (tp_size % attention.kv_heads != 0 || sharers > group) {
    throw UsageError(
        "tp={} cannot split {} attention heads with {} KV heads: up to {} ranks take whole KV groups, above "
        "that tp must be a multiple of {} and at most {}",
        tp_size, attention.heads, attention.kv_heads, attention.kv_heads, attention.kv_heads, attention.heads);
  }
  const int kv_head = tp_rank / sharers;
  const Range part = split(group, 1, sharers, tp_rank % sharers);
  shard.kv_heads = {kv_head, kv_head + 1};
  shard.heads = {kv_head * group + part.begin, kv_head * group + part.end};
}

Range split_columns(const char* what, Index n, int tp_size, int tp_rank) {
  if (n < tp_size) throw UsageError("tp={} is more than {} {} can be split to", tp_size, what, n);
  return split(n, unit_for(n, tp_size), tp_size, tp_rank);
}

LayerShard shard_of(const LayerSpec& layer, int tp_size, int tp_rank) {
  LayerShard shard;
  split_heads(layer.attention, tp_size, tp_rank, shard);
  const MlpSpec& mlp = layer.mlp;
  const bool whole_experts = mlp.experts >= tp_size && mlp.experts > 0;
  shard.experts = whole_experts ? split(mlp.experts, 1, tp_size, tp_rank) : Range{0, mlp.experts};
  shard.intermediate = whole_experts ? Range{0, mlp.intermediate_size}
                                     : split_columns("intermediate_size", mlp.intermediate_size, tp_size, tp_rank);
  if (mlp.shared_intermediate > 0)
    shard.shared_intermediate = split_columns("the shared expert's size", mlp.shared_intermediate, tp_size, tp_rank);
  return shard;
}

double cost_of(const LayerSpec& layer, Index hidden_size) {
  const AttentionSpec& attention = layer.attention;
  const MlpSpec& mlp = layer.mlp;
  const Index used = mlp.experts == 0 ? 1 : mlp.experts_per_token;
  const Index columns = used * mlp.intermediate_size + mlp.shared_intermediate;
  return static_cast<double>(hidden_size) *
         static_cast<double>(2 * attention.q_width() + 2 * attention.kv_width() + (mlp.gated ? 3 : 2) * columns);
}

}  // namespace

Range split(Index n, Index unit, int parts, int part) {
  const Index units = n / unit;
  const auto bound = [&](Index p) { return (units * p + parts - 1) / parts * unit; };
  return {bound(part), part + 1 == parts ? n : bound(part + 1)};
}

Shard shard_of(const ModelSpec& spec, int tp_size, int tp_rank, RowParallel row_parallel) {
  Shard shard;
  shard.row_parallel = tp_size == 1 ? RowParallel::reduce : row_parallel;
  shard.vocabulary = split_columns("vocab_size", spec.vocab_size, tp_size, tp_rank);
  shard.hidden = split_columns("hidden_size", spec.hidden_size, tp_size, tp_rank);
  for (const auto& layer : spec.layers) shard.layers.push_back(shard_of(layer, tp_size, tp_rank));
  return shard;
}

std::vector<Range> stages_of(const ModelSpec& spec, int pp_size) {
  const Index layers = spec.layer_count();
  if (pp_size > layers) throw UsageError("pp={} stages are more than the model's {} layers", pp_size, layers);
  std::vector<double> until{0};  // cost of the layers before each
  for (const auto& layer : spec.layers) until.push_back(until.back() + cost_of(layer, spec.hidden_size));
  const double share = (until.back() + static_cast<double>(spec.hidden_size * spec.vocab_size)) / pp_size;
  std::vector<Range> stages;
  Index begin = 0;
  for (int stage = 0; stage < pp_size; ++stage) {
    const auto nearer = [&](double a, double b) {
      return std::abs(a - share * (stage + 1)) < std::abs(b - share * (stage + 1));
    };
    const Index still_needed = pp_size - 1 - stage;
    Index end = std::ranges::min_element(until, nearer) - until.begin();
    end = stage + 1 == pp_size ? layers : std::clamp(end, begin + 1, layers - still_needed);
    stages.push_back({begin, end});
    begin = end;
  }
  return stages;
}

}  // namespace grist
