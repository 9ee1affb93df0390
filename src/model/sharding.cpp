#include <grist/model/sharding.hpp>

#include <grist/core/errors.hpp>

#include <algorithm>

namespace grist {
namespace {

/// Deals n items in parts that differ by at most one unit.
Range deal(Index n, Index unit, int parts, int part) {
  const Index units = n / unit;
  const auto bound = [&](Index p) { return (units * p + parts - 1) / parts * unit; };
  return {bound(part), part + 1 == parts ? n : bound(part + 1)};
}

/// Long dimensions are dealt in units that keep rows aligned to a cache line and to the blocks of quantized formats.
Index unit_for(Index n, int parts) { return n / 32 >= parts ? 32 : 1; }

}  // namespace

TensorShard shard_of(const ModelSpec& spec, int tp_size, int tp_rank) {
  TensorShard shard;
  if (tp_size <= spec.kv_heads) {
    const Index group = spec.heads / spec.kv_heads;
    shard.kv_heads = deal(spec.kv_heads, 1, tp_size, tp_rank);
    shard.heads = {shard.kv_heads.begin * group, shard.kv_heads.end * group};
  } else {
    const int sharers = tp_size / spec.kv_heads;  // ranks that hold the same KV head
    const int group = spec.heads / spec.kv_heads;
    if (tp_size % spec.kv_heads != 0 || sharers > group) {
      throw UsageError("tp={} cannot deal {} attention heads with {} KV heads: up to {} ranks take whole KV groups, above "
                       "that tp must be a multiple of {} and at most {}", tp_size, spec.heads, spec.kv_heads,
                       spec.kv_heads, spec.kv_heads, spec.heads);
    }
    const int kv_head = tp_rank / sharers;
    const Range part = deal(group, 1, sharers, tp_rank % sharers);
    shard.kv_heads = {kv_head, kv_head + 1};
    shard.heads = {kv_head * group + part.begin, kv_head * group + part.end};
  }
  if (spec.intermediate_size < tp_size || spec.vocab_size < tp_size)
    throw UsageError("tp={} is more than intermediate_size {} or vocab_size {} can be dealt to", tp_size,
                     spec.intermediate_size, spec.vocab_size);
  shard.intermediate = deal(spec.intermediate_size, unit_for(spec.intermediate_size, tp_size), tp_size, tp_rank);
  shard.vocabulary = deal(spec.vocab_size, unit_for(spec.vocab_size, tp_size), tp_size, tp_rank);
  return shard;
}

std::vector<Range> stages_of(const ModelSpec& spec, int pp_size) {
  if (pp_size > spec.layers)
    throw UsageError("pp={} stages are more than the model's {} layers", pp_size, spec.layers);
  const double attention = static_cast<double>(spec.hidden_size) * spec.head_dim * (2.0 * spec.heads + 2.0 * spec.kv_heads);
  const double layer = attention + 3.0 * static_cast<double>(spec.hidden_size * spec.intermediate_size);
  const double head = static_cast<double>(spec.hidden_size * spec.vocab_size);
  const double share = (layer * spec.layers + head) / pp_size;
  std::vector<Range> stages;
  Index begin = 0;
  for (int stage = 0; stage < pp_size; ++stage) {
    const Index still_needed = pp_size - 1 - stage;
    Index end = static_cast<Index>(share * (stage + 1) / layer + 0.5);
    end = stage + 1 == pp_size ? spec.layers : std::clamp(end, begin + 1, Index{spec.layers} - still_needed);
    stages.push_back({begin, end});
    begin = end;
  }
  return stages;
}

}  // namespace grist
