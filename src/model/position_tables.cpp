#include <grist/model/position_tables.hpp>

#include <grist/layers/rope.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <span>

namespace grist {
namespace {

/// A slope per head, as BLOOM has them for any number of heads (Press et al. 2022): powers of 2^(-8 / n) for the
/// largest power of two n that the heads fill, then every other one for 2n.
std::vector<float> alibi_slopes(int heads) {
  const int n = static_cast<int>(std::bit_floor(static_cast<unsigned>(heads)));
  std::vector<float> slopes;
  for (int i = 1; i <= n; ++i) slopes.push_back(static_cast<float>(std::pow(2.0, -8.0 * i / n)));
  for (int i = 0; n + i < heads; ++i) slopes.push_back(static_cast<float>(std::pow(2.0, -4.0 * (2 * i + 1) / n)));
  return slopes;
}

Buffer<float> on_device(const std::string& label, std::span<const float> values) {
  if (values.empty()) return {};
  Buffer<float> buffer(label, std::ssize(values));
  Kokkos::deep_copy(buffer.view(), Kokkos::View<const float*, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>(
                                       values.data(), values.size()));
  return buffer;
}

}  // namespace

PositionTables::PositionTables(const ModelSpec& spec, std::vector<Block>& blocks) {
  for (const auto& table : spec.ropes)
    ropes_.push_back({on_device("inverse frequencies", table.inverse_frequencies),
                      on_device("long frequencies", table.long_frequencies), table});
  for (Block& block : blocks) {
    const AttentionSpec& attention = block.spec.attention;
    if (attention.position != Position::alibi) continue;
    if (slopes_.size() == 0) slopes_ = on_device("alibi slopes", alibi_slopes(attention.heads));
    block.attention.alibi_slopes =
        View1<const float>(slopes_.data() + block.shard.heads.begin, block.shard.heads.size());
  }
}

Index PositionTables::bytes(const ModelSpec& spec) {
  Index floats = 0;
  for (const auto& rope : spec.ropes)
    floats += std::ssize(rope.inverse_frequencies) + std::ssize(rope.long_frequencies);
  const auto position = [](const LayerSpec& layer) { return layer.attention.position; };
  const auto alibi = std::ranges::find(spec.layers, Position::alibi, position);
  if (alibi != spec.layers.end()) floats += alibi->attention.heads;
  return floats * static_cast<Index>(sizeof(float));
}

std::vector<View2<const float>> PositionTables::cos_sin(const Exec& exec, const Batch& batch,
                                                        const PassBuffers& pass) const {
  std::vector<View2<const float>> made;
  for (std::size_t i = 0; i < ropes_.size(); ++i) {
    const auto& [frequencies, long_frequencies, table] = ropes_[i];
    layers::rope_cos_sin(exec, batch.positions(), batch.lengths(),
                         {as_const(frequencies.view()), as_const(long_frequencies.view()), table.scale,
                          table.long_after, table.theta, table.factor},
                         pass.cos_sin[i]);
    made.push_back(as_const(pass.cos_sin[i]));
  }
  return made;
}

}  // namespace grist
