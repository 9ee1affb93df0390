#include <grist/backends/attention.hpp>

#include <grist/backends/attention_kernel.hpp>
#include <grist/core/staging.hpp>

#include <algorithm>
#include <tuple>

namespace grist {

// Each provider's folder defines its own NAME_attention; CMake lists those that were found.
#define GRIST_PROVIDER(name) AttentionProvider name##_attention();
#include "attention_providers.def"
#undef GRIST_PROVIDER

std::span<const AttentionProvider> attention_providers() {
#define GRIST_PROVIDER(name) name##_attention(),
  static const AttentionProvider providers[] = {
#include "attention_providers.def"
  };
#undef GRIST_PROVIDER
  return providers;
}

namespace {

Index tiles_of(Index rows) { return (rows + attention_rows - 1) / attention_rows; }

/// Work items that the machine computes at once.
Index workers() { return std::max<Index>(1, host_reaches_memory ? Exec().concurrency() : Exec().concurrency() / 512); }

/// On devices a graph is recorded for each number of items: they come in steps, filled up by items without chunks.
constexpr Index item_step = host_reaches_memory ? 1 : 32;

/// A tile of query rows with the keys that it sees.
struct Tile {
  AttentionItem item;
  Index cost;    // keys times lanes
  Index places;  // of partial results, for a chunk
};

Tile tile_of(const AttentionConfig& config, int sequence, int row, int queries, int length) {
  const int group = config.heads / config.kv_heads, count = std::min(queries * group - row, attention_rows);
  const int first_position = length - queries + row / group,
            last_position = length - queries + (row + count - 1) / group;
  const int first = config.window > 0 ? std::max(0, first_position - config.window + 1) : 0;
  const int end = config.causal ? last_position + 1 : length;
  const int chunk = first / attention_chunk, lanes = count > attention_few_rows ? attention_rows : attention_few_rows;
  return {{sequence, row, chunk, (end - 1) / attention_chunk - chunk + 1, -1},
          Index{end - first} * lanes,
          lanes / attention_few_rows};
}

template <class F>
void for_tiles(const AttentionConfig& config, std::span<const int> query_begin, std::span<const int> kv_length, F&& f) {
  for (int s = 0; s < static_cast<int>(kv_length.size()); ++s) {
    const auto at = static_cast<std::size_t>(s);
    const int queries = query_begin[at + 1] - query_begin[at];
    for (int row = 0; row < queries * (config.heads / config.kv_heads); row += attention_rows)
      f(tile_of(config, s, row, queries, kv_length[at]));
  }
}

}  // namespace

Index attention_partials(const AttentionLimits& limits) {
  return (attention_rows / attention_few_rows) *
         (limits.kv_tokens / attention_chunk + (limits.decodes ? limits.sequences : 1));
}

Index max_attention_items(const AttentionConfig& config, const AttentionLimits& limits) {
  const Index items =
      tiles_of(limits.tokens * (config.heads / config.kv_heads)) + limits.sequences + attention_partials(limits);
  return (items + item_step - 1) / item_step * item_step;
}

Index attention_scratch(const AttentionConfig& config, const AttentionLimits& limits) {
  Index floats = 0;
  for (const auto& provider : attention_providers()) floats = std::max(floats, provider.scratch(config, limits));
  return floats;
}

Index attention_backward_scratch(const AttentionConfig& config, const AttentionLimits& limits) {
  Index floats = 0;
  for (const auto& provider : attention_providers())
    if (provider.backward != nullptr) floats = std::max(floats, provider.backward_scratch(config, limits));
  return floats;
}

AttentionPlan plan_attention(const AttentionConfig& config, const AttentionLimits& limits,
                             std::span<const int> query_begin, std::span<const int> kv_length, AttentionItem* items,
                             AttentionItem* merges) {
  Index total = 0;
  for_tiles(config, query_begin, kv_length, [&](const Tile& tile) { total += tile.cost; });
  // A tile that alone takes more than half of a worker's share is split.
  const Index share = std::max<Index>(1, total * config.kv_heads / (2 * workers()));
  AttentionPlan plan;
  for_tiles(config, query_begin, kv_length, [&](const Tile& tile) {
    AttentionItem item = tile.item;
    const int pieces = static_cast<int>(std::min<Index>(item.chunks, (tile.cost + share - 1) / share));
    if (pieces < 2 || plan.partials + item.chunks * tile.places > attention_partials(limits)) {
      items[plan.items++] = item;
      return;
    }
    item.partial = plan.partials;
    merges[plan.merges++] = item;
    plan.partials += item.chunks * tile.places;
    const int end = item.chunk + item.chunks, most = (item.chunks + pieces - 1) / pieces;
    for (; item.chunk < end; item.chunk += most, item.partial += most * tile.places) {
      item.chunks = std::min(most, end - item.chunk);
      items[plan.items++] = item;
    }
  });
  const auto cost = [&](const AttentionItem& item) {
    const auto at = static_cast<std::size_t>(item.sequence);
    const auto tile = tile_of(config, item.sequence, item.row, query_begin[at + 1] - query_begin[at], kv_length[at]);
    return tile.cost * item.chunks / tile.item.chunks;
  };
  std::sort(items, items + plan.items, [&](const AttentionItem& a, const AttentionItem& b) {
    const Index cost_a = cost(a), cost_b = cost(b);
    return std::tie(cost_b, a.sequence, a.row, a.chunk) < std::tie(cost_a, b.sequence, b.row, b.chunk);
  });
  while (plan.items % item_step != 0) items[plan.items++] = {};
  return plan;
}

}  // namespace grist
