#include <grist/train/shared_gradients.hpp>

#include <map>
#include <numeric>

namespace grist::train {
namespace {

/// f(part, its rows of the block) for each part of a row.
template <class F>
void each_part(const TensorRow& row, const Shard& shard, const LayerShard& layer, View3<float> block, F&& f) {
  Index first = 0;
  for (const auto& part : row.parts) {
    const Index rows = slice_of(row, part, shard, &layer).rows, columns = static_cast<Index>(block.extent(2));
    f(part, View1<float>(block.data() + first * columns, rows * columns));
    first += rows;
  }
}

}  // namespace

SharedGradients::SharedGradients(const Communicator& tp, const std::vector<Shard>& shards, const TensorTable& table,
                                 Range layers, const ModelTensors<View3<float>>& gradients, bool sequence_parallel) {
  if (tp.size() == 1) return;
  const Shard& shard = shards[static_cast<std::size_t>(tp.rank())];
  std::map<std::vector<int>, std::size_t> known;  // each group of ranks once: all ranks meet theirs at the same time
  std::vector<int> everyone(shards.size());
  std::iota(everyone.begin(), everyone.end(), 0);
  const auto add_whole = [&](Index layer, std::initializer_list<View3<float>> blocks) {
    for (const auto& block : blocks) {
      if (!sequence_parallel || block.size() == 0) continue;
      const auto [group, added] = known.try_emplace(everyone, groups_.size());
      if (added) groups_.push_back(tp.split(0, tp.rank()));
      pieces_.push_back({layer, group->second, View1<float>(block.data(), block.size())});
    }
  };
  // A rank with several chunks of layers has these once: with its first and its last layer.
  if (layers.begin == 0) add_whole(outside, {gradients.embedding_norm, gradients.embedding_norm_bias});
  if (layers.end == std::ssize(table.layers)) add_whole(outside, {gradients.final_norm, gradients.final_norm_bias});
  for (Index number = layers.begin; number < layers.end; ++number) {
    const auto l = static_cast<std::size_t>(number);
    const auto& rows = table.layers[l];
    const auto& blocks = gradients.layers[l];
    add_whole(number, {blocks.attention_norm, blocks.attention_norm_bias, blocks.attention_post_norm,
                       blocks.attention_post_norm_bias, blocks.o_bias, blocks.mlp_norm, blocks.mlp_norm_bias,
                       blocks.down_bias, blocks.mlp_post_norm, blocks.mlp_post_norm_bias});
    const auto add = [&](const TensorRow& row, const TensorPart& part, View1<float> values) {
      const auto holders = replicas_of(row, part, shards, number, tp.rank());
      if (holders.size() == 1) return;  // then so it is on every rank
      const auto [group, added] = known.try_emplace(holders, groups_.size());
      if (added) groups_.push_back(tp.split(holders.front(), tp.rank()));
      pieces_.push_back({number, group->second, values});
    };
    for (const auto& [row, block] : {std::pair(&rows.q_norm, blocks.q_norm), std::pair(&rows.k_norm, blocks.k_norm)})
      each_part(*row, shard, shard.layers[l], block,
                [&](const TensorPart& part, View1<float> values) { add(*row, part, values); });
    for (const auto& [row, block] : {std::pair(&rows.qkv, blocks.qkv), std::pair(&rows.qkv_bias, blocks.qkv_bias)})
      each_part(*row, shard, shard.layers[l], block, [&](const TensorPart& part, View1<float> values) {
        if (part.split == Split::kv_heads) add(*row, part, values);
      });
  }
}

void SharedGradients::sum(const Exec& exec, Index layer) const {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::train::sum_shared_gradients");
  for (const Piece& piece : pieces_)
    if (piece.layer == layer) groups_[piece.holders].all_reduce(exec, piece.values);
}

}  // namespace grist::train
