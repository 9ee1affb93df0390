// A tiny model and what an optimizer keeps of it, as a rank of a layout holds them: each number follows from the
// tensor's name and the element's place, so that any layout knows what it should hold.
#pragma once

#include <grist/comm/process_grid.hpp>
#include <grist/train/checkpoint.hpp>

#include <support/files.hpp>
#include <support/ranks.hpp>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

namespace grist::test {

class StoredModel {
public:
  StoredModel(const ModelFiles& files, const TensorTable& table, const Layout& layout)
      : grid(test::world(), layout), files_(files), table_(table) {
    for (int rank = 0; rank < layout.tp; ++rank) shards_.push_back(shard_of(files.spec, layout.tp, rank));
    layers_ = stages_of(files.spec, layout.pp)[static_cast<std::size_t>(grid.pp().rank())];
    weights = make_blocks(table, layers_, shard());
    m = make_blocks(table, layers_, shard());
    v = make_blocks(table, layers_, shard());
    where.emplace(table, std::vector{layers_}, shards_, grid.tp().rank(), weights);
  }

  void fill() {
    load_blocks(weights, files_, table_, layers_, shard());
    initialize_blocks(m, files_, table_, layers_, shard(), 1);
    initialize_blocks(v, files_, table_, layers_, shard(), 2);
  }

  [[nodiscard]] std::vector<TensorGroup> groups() const {
    return {{"model", weights.flat()}, {"optimizer/m", m.flat()}, {"optimizer/v", v.flat()}};
  }
  /// With ZeRO-1: of the moments this rank has a range alone.
  [[nodiscard]] std::vector<TensorGroup> sharded_groups() const {
    auto groups = this->groups();
    const Range range = split(where->size(), 1, grid.layout().dp, grid.dp().rank());
    for (const auto moment : {1, 2}) {
      auto& group = groups[static_cast<std::size_t>(moment)];
      group.first = range.begin;
      group.values = Kokkos::subview(group.values, std::pair(range.begin, range.end));
    }
    return groups;
  }
  [[nodiscard]] const Shard& shard() const { return shards_[static_cast<std::size_t>(grid.tp().rank())]; }

  ProcessGrid grid;
  TensorBlocks weights, m, v;
  std::optional<CheckpointLayout> where;

private:
  const ModelFiles& files_;
  const TensorTable& table_;
  std::vector<Shard> shards_;
  Range layers_;
};

inline std::vector<float> values_of(View1<float> view) {
  const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, view);
  return {host.data(), host.data() + host.size()};
}

/// Every dp x pp x tp of all ranks that the model allows.
inline std::vector<Layout> training_layouts(const ModelSpec& spec) {
  std::vector<Layout> layouts;
  for (int tp = 1; tp <= ranks(); ++tp) {
    for (int pp = 1; pp * tp <= ranks(); ++pp) {
      if (ranks() % (tp * pp) != 0) continue;
      try {
        (void)shard_of(spec, tp, 0);
        (void)stages_of(spec, pp);
        layouts.push_back({.dp = ranks() / (tp * pp), .pp = pp, .tp = tp});
      } catch (const UsageError&) {
      }
    }
  }
  return layouts;
}

inline TrainingState a_state(Index step) {
  return {.step = step, .tokens = step * 512, .seed = ~std::uint64_t{6}, .integers = {{"sample", 77}},
          .reals = {{"loss", 0.1}}, .configuration = R"({"lr": 0.1})", .model_config = "{}"};
}

}  // namespace grist::test
