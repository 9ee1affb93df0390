#include <grist/train/shared_gradients.hpp>

namespace grist::train {
namespace {

/// Rows of the k and v parts in a block of q | k | v.
Range kv_rows(const TensorRow& row, const Shard& shard, const LayerShard* layer) {
  const auto rows = [&](std::size_t part) { return slice_of(row, row.parts[part], shard, layer).rows; };
  return {rows(0), rows(0) + rows(1) + rows(2)};
}

}  // namespace

void sum_shared_gradients(const Exec& exec, const Communicator& tp, const TensorTable& table,
                          const std::vector<Shard>& shards, Range layers, ModelTensors<View3<float>>& gradients) {
  const Shard& shard = shards[static_cast<std::size_t>(tp.rank())];
  for (Index number = layers.begin; number < layers.end; ++number) {
    const auto layer = static_cast<std::size_t>(number);
    const auto& row = table.layers[layer];
    auto& gradient = gradients.layers[layer];
    for (const auto& norm : {gradient.q_norm, gradient.k_norm})
      if (norm.size() != 0) tp.all_reduce(exec, View1<float>(norm.data(), norm.size()));
    const auto sharers = replicas_of(row.qkv, row.qkv.parts[1], shards, number, tp.rank());
    if (sharers.size() == 1) continue;
    const Communicator group = tp.split(sharers.front(), tp.rank());
    const auto sum = [&](const TensorRow& tensor, const View3<float>& block) {
      if (block.size() == 0) return;
      const Range rows = kv_rows(tensor, shard, &shard.layers[layer]);
      const Index columns = block.extent(2);
      group.all_reduce(exec, View1<float>(block.data() + rows.begin * columns, rows.size() * columns));
    };
    sum(row.qkv, gradient.qkv);
    sum(row.qkv_bias, gradient.qkv_bias);
  }
}

}  // namespace grist::train
