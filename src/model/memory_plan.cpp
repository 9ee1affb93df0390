#include <grist/model/memory_plan.hpp>

#include <grist/backends/device.hpp>
#include <grist/core/errors.hpp>
#include <grist/core/staging.hpp>
#include <grist/model/decoder_block.hpp>
#include <grist/model/parameters.hpp>

namespace grist {
namespace {

template <class T>
MemoryPlan plan_of(const ModelSpec& spec, const Layout& layout, int pp_rank, int tp_rank, const ModelLimits& limits) {
  const auto shard = shard_of(spec, layout.tp, tp_rank);
  const auto stage = stages_of(spec, layout.pp)[static_cast<std::size_t>(pp_rank)];
  MemoryPlan plan;
  plan.parameters = parameter_bytes(rows_of_stage(spec, stage), shard, dtype_of<T>);
  plan.kv_cache = KvCache<T>::bytes_per_token(static_cast<int>(stage.size()), static_cast<int>(shard.kv_heads.size()),
                                              spec.head_dim) * static_cast<std::uint64_t>(limits.cache_tokens);
  // What Model::forward takes: x and turns, then a block's scratch, or the logits' normed rows and pieces.
  const auto floats = [](Index n) { return Workspace::bytes_for<float>(n); };
  const Index widest = (spec.vocab_size + layout.tp - 1) / layout.tp + 32;
  const std::size_t logits = Workspace::bytes_for<T>(limits.logit_rows * spec.hidden_size) +
                             floats(limits.logit_rows * spec.hidden_size) + floats(limits.logit_rows * widest) +
                             floats(limits.logit_rows * widest * layout.tp) + 3 * floats(limits.logit_rows);
  plan.workspace = floats(limits.batch_tokens * spec.hidden_size) + floats(limits.batch_tokens * spec.head_dim) +
                   std::max(decoder_block_bytes<T>(spec, shard, limits.batch_tokens), logits);
  plan.libraries = host_reaches_memory ? 0 : 512ULL << 20;
  return plan;
}

}  // namespace

MemoryPlan memory_plan(const ModelSpec& spec, const Layout& layout, int pp_rank, int tp_rank, DType type,
                       const ModelLimits& limits) {
  return type == DType::f32 ? plan_of<float>(spec, layout, pp_rank, tp_rank, limits)
                            : plan_of<bf16>(spec, layout, pp_rank, tp_rank, limits);
}

void check_memory(const MemoryPlan& plan, std::uint64_t needed, int ranks) {
  const std::uint64_t available = device_facts().available;
  if (available != 0 && needed > available) {
    throw MemoryError("the model does not fit: the {} ranks that share this memory need {} (this one {} of weights, {} of KV cache, "
                      "{} of scratch), {} is free; use bf16, a shorter context or more nodes", ranks,
                      human_bytes(needed), human_bytes(plan.parameters), human_bytes(plan.kv_cache),
                      human_bytes(plan.workspace + plan.libraries), human_bytes(available));
  }
}

std::string human_bytes(std::uint64_t bytes) {
  const auto b = static_cast<double>(bytes);
  if (bytes >= 1ULL << 30) return std::format("{:.2f} GiB", b / (1 << 30));
  if (bytes >= 1ULL << 20) return std::format("{:.1f} MiB", b / (1 << 20));
  return std::format("{:.1f} KiB", b / (1 << 10));
}

}  // namespace grist
