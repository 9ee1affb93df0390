#include <grist/model/memory_plan.hpp>

#include <grist/backends/device.hpp>
#include <grist/backends/products.hpp>
#include <grist/core/errors.hpp>
#include <grist/core/staging.hpp>
#include <grist/model/model_buffers.hpp>
#include <grist/model/model_parts.hpp>
#include <grist/model/parameters.hpp>
#include <grist/model/position_tables.hpp>

#include <algorithm>

namespace grist {
namespace {

/// Whether the columns of row-parallel weights that a rank would take are whole blocks of their format.
bool blocks_stay_whole(const ModelFiles& files, const std::vector<Shard>& shards, WeightStorage storage) {
  const auto table = tensor_table(files.spec, files.names);
  bool whole = true;
  for (const auto& shard : shards) {
    for (std::size_t i = 0; i < table.layers.size(); ++i) {
      each_tensor([&](const TensorRow& row) {
        if (!row.present() || row.column_split == Split::whole) return;
        const Format format = format_of_part(files.weights.tensors().empty() ? nullptr : &files.weights, row,
                                             row.parts[0], files.names.base, storage, files.stored);
        const auto slice = slice_of(row, row.parts[0], shard, &shard.layers[i]);
        const Index block = block_of(format).elements;
        whole = whole && slice.column % block == 0 && slice.columns % block == 0;
      }, table.layers[i]);
    }
  }
  return whole;
}

}  // namespace

std::vector<Shard> shards_of(const ModelSpec& spec, int tp, RowParallel row_parallel) {
  std::vector<Shard> shards;
  for (int rank = 0; rank < tp; ++rank) shards.push_back(shard_of(spec, tp, rank, row_parallel));
  return shards;
}

namespace {

/// ranges of each rank, times `unit`.
template <class F>
std::vector<Range> ranges_of(const std::vector<Shard>& shards, Index unit, F&& range) {
  std::vector<Range> ranges;
  for (const auto& shard : shards) ranges.push_back({range(shard).begin * unit, range(shard).end * unit});
  return ranges;
}

Block make_block(const ModelSpec& spec, int number, const std::vector<Shard>& shards, int tp_rank,
                 const std::vector<int>& windows) {
  const auto layer = static_cast<std::size_t>(number);
  const Shard& mine = shards[static_cast<std::size_t>(tp_rank)];
  Block block{.number = number, .spec = spec.layers[layer], .shard = mine.layers[layer]};
  const AttentionSpec& attention = block.spec.attention;
  block.pool = static_cast<int>(std::ranges::find(windows, attention.window) - windows.begin());
  block.attention = {.heads = static_cast<int>(block.shard.heads.size()),
                     .kv_heads = static_cast<int>(block.shard.kv_heads.size()),
                     .head_dim = attention.head_dim,
                     .scale = attention.scale,
                     .softcap = attention.softcap,
                     .window = attention.window,
                     .causal = attention.causal};
  block.heads = ranges_of(shards, 1, [&](const Shard& s) { return s.layers[layer].heads; });
  block.kv_heads = ranges_of(shards, 1, [&](const Shard& s) { return s.layers[layer].kv_heads; });
  const auto outputs = ranges_of(shards, 1, [](const Shard& s) { return s.hidden; });
  block.o = {mine.row_parallel,
             ranges_of(shards, attention.head_dim, [&](const Shard& s) { return s.layers[layer].heads; }), outputs};
  block.down = {mine.row_parallel, ranges_of(shards, 1, [&](const Shard& s) { return s.layers[layer].intermediate; }),
                outputs};
  block.shared_down = {mine.row_parallel,
                       ranges_of(shards, 1, [&](const Shard& s) { return s.layers[layer].shared_intermediate; }),
                       outputs};
  const bool whole_experts = block.shard.experts.size() < block.spec.mlp.experts;
  if (whole_experts) block.down.kind = RowParallel::reduce;
  return block;
}

/// f(row, shard of its layer, or null) for the matrices that products take: all but embeddings.
template <class F>
void each_matrix(const TensorTable& table, Range layers, const Shard& shard, F&& f) {
  for (Index layer = layers.begin; layer < layers.end; ++layer) {
    const auto at = static_cast<std::size_t>(layer);
    each_tensor([&](const TensorRow& row) { if (row.present() && !row.vector) f(row, &shard.layers[at]); },
                table.layers[at]);
  }
  if (layers.end == static_cast<Index>(table.layers.size())) f(table.head, static_cast<const LayerShard*>(nullptr));
}

template <class X>
std::size_t bytes_of_buffers(const ModelSpec& spec, const ModelParts& parts, int tp_rank, const ModelLimits& limits) {
  const Exec exec;
  Workspace workspace = Workspace::counting();
  const PassBuffers pass(exec, workspace, spec, limits.batch_tokens);
  std::size_t blocks = 0;
  for (const auto& block : parts.blocks)
    blocks = std::max(
        blocks,
        block_bytes<X>(exec, block,
                       {.hidden = spec.hidden_size, .tokens = limits.batch_tokens, .tp_rank = tp_rank},
                       partials_of(parts, limits)));
  const LogitBuffers<X> logits(exec, workspace, spec, parts.shards[static_cast<std::size_t>(tp_rank)],
                               limits.logit_rows);
  return std::max(pass.bytes + blocks, workspace.peak());
}

}  // namespace

ModelParts parts_of(const ModelFiles& files, const Layout& layout, int pp_rank, int tp_rank,
                    const ModelNumbers& numbers) {
  const ModelSpec& spec = files.spec;
  auto shards = shards_of(spec, layout.tp, RowParallel::reduce);
  if (layout.tp > 1 && (numbers.type == DType::f32 || !blocks_stay_whole(files, shards, numbers.weights)))
    shards = shards_of(spec, layout.tp, RowParallel::gather);
  return parts_of(spec, std::move(shards), stages_of(spec, layout.pp)[static_cast<std::size_t>(pp_rank)], tp_rank);
}

ModelParts parts_of(const ModelSpec& spec, std::vector<Shard> shards, Range layers, int tp_rank) {
  ModelParts parts{.layers = layers, .shards = std::move(shards)};
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    const AttentionSpec& attention = spec.layers[i].attention;
    parts.kv.push_back({static_cast<int>(parts.shards[static_cast<std::size_t>(tp_rank)].layers[i].kv_heads.size()),
                        attention.head_dim, attention.window});
  }
  const auto windows = kv_pool_windows(parts.kv);
  std::vector<Block> all;
  for (int number = 0; number < spec.layer_count(); ++number)
    all.push_back(make_block(spec, number, parts.shards, tp_rank, windows));
  for (std::size_t pool = 0; pool < windows.size(); ++pool)
    parts.pools.push_back(std::ranges::find(all, static_cast<int>(pool), &Block::pool)->attention);
  parts.blocks.assign(all.begin() + parts.layers.begin, all.begin() + parts.layers.end);
  return parts;
}

Index partials_of(const ModelParts& parts, const ModelLimits& limits) {
  Index most = 0;
  for (const auto& pool : parts.pools)
    most = std::max(most, attention_scratch(pool, attention_limits(limits)));
  return most;
}

std::size_t workspace_bytes(const ModelSpec& spec, const ModelParts& parts, int tp_rank, DType type,
                            const ModelLimits& limits) {
  return type == DType::f32 ? bytes_of_buffers<float>(spec, parts, tp_rank, limits)
                            : bytes_of_buffers<bf16>(spec, parts, tp_rank, limits);
}

MemoryPlan memory_plan(const ModelFiles& files, const Layout& layout, int pp_rank, int tp_rank,
                       const ModelNumbers& numbers, const ModelLimits& limits, Products& products) {
  const auto parts = parts_of(files, layout, pp_rank, tp_rank, numbers);
  const auto table = tensor_table(files.spec, files.names);
  const Shard& shard = parts.shards[static_cast<std::size_t>(tp_rank)];
  const io::Weights* const weights = files.weights.tensors().empty() ? nullptr : &files.weights;
  MemoryPlan plan;
  plan.parameters = parameter_bytes(weights, table, files.names.base, parts.layers, shard, numbers.weights,
                                    files.stored);
  if (weights != nullptr)
    plan.mapped = mapped_bytes(*weights, table, files.names.base, parts.layers, shard, numbers);
  if (limits.kv_tokens > 0)
    plan.kv_cache = static_cast<std::uint64_t>(limits.caches) *
                    PagedKv::bytes(numbers.kv_type, parts.kv, parts.layers,
                                   {limits.kv_tokens, limits.batch_sequences, limits.batch_tokens});
  plan.workspace = workspace_bytes(files.spec, parts, tp_rank, numbers.type, limits);
  plan.batch = static_cast<std::uint64_t>(Batch::bytes(attention_limits(limits), parts.pools) +
                                          PositionTables::bytes(files.spec));
  ProductScratch scratch;
  each_matrix(table, parts.layers, shard, [&](const TensorRow& row, const LayerShard* layer) {
    const Weight w = weight_without_data(weights, row, files.names.base, layer, shard, numbers.weights, files.stored);
    Index rows = layer == nullptr ? limits.logit_rows : limits.batch_tokens;
    if (row.experts > 1)  // a row for each expert of a token
      rows *= files.spec.layers[static_cast<std::size_t>(layer - shard.layers.data())].mlp.experts_per_token;
    for (const DType y : {numbers.type, DType::f32})
      scratch = scratch.covering(products.scratch(rows, numbers.type, w, y));
  });
  plan.products = static_cast<std::uint64_t>(scratch.bytes());
  plan.code = host_reaches_memory ? 0 : 512ULL << 20;
  return plan;
}

MemoryPlan& MemoryPlan::operator+=(const MemoryPlan& other) {
  parameters += other.parameters;
  mapped += other.mapped;
  kv_cache += other.kv_cache;
  workspace += other.workspace;
  batch += other.batch;
  products += other.products;
  sampling += other.sampling;
  code = std::max(code, other.code);
  return *this;
}

void check_memory(const MemoryPlan& plan, std::uint64_t needed, int ranks) {
  const std::uint64_t available = device_facts().available;
  if (available != 0 && needed > available) {
    throw MemoryError(
        "the model does not fit: the {} ranks that share this memory need {} (this one {} of weights, {} of KV cache, "
        "{} of scratch), {} is free; use bf16, a shorter context or more nodes",
        ranks, human_bytes(needed), human_bytes(plan.parameters), human_bytes(plan.kv_cache),
        human_bytes(plan.scratch()), human_bytes(available));
  }
}

std::string human_bytes(std::uint64_t bytes) {
  const auto b = static_cast<double>(bytes);
  if (bytes >= 1ULL << 30) return std::format("{:.2f} GiB", b / (1 << 30));
  if (bytes >= 1ULL << 20) return std::format("{:.1f} MiB", b / (1 << 20));
  return std::format("{:.1f} KiB", b / (1 << 10));
}

}  // namespace grist
