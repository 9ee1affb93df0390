// Blocks that are trained: a rank holds what the files hold at the places that the table names, at every layout.
#include "model/tensors.hpp"
#include "support/files.hpp"

#include <grist/core/errors.hpp>
#include <grist/model/initialize.hpp>
#include <grist/model/part_reader.hpp>
#include <grist/model/tensor_blocks.hpp>

#include <gtest/gtest.h>

#include <map>
#include <set>

namespace {

using namespace grist;
using test::numbers_of;

/// Compares every element of the blocks with the element of the files that the table names; returns how many.
Index check(const TensorBlocks& blocks, const ModelFiles& files, const TensorTable& table, Range layers,
            const Shard& shard) {
  std::map<std::string, std::vector<float>> read;
  Index compared = 0;
  auto tensors = blocks.tensors;
  each_block(table, layers, shard, tensors, [&](const TensorRow& row, Index, const LayerShard* layer, View3<float> b) {
    const auto block = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, b);
    const Range experts = experts_of(row, layer);
    for (Index e = 0; e < experts.size(); ++e) {
      Index first = 0;
      for (const auto& part : row.parts) {
        const auto slice = slice_of(row, part, shard, layer);
        const Source* source = held_source(files.weights, part, files.names.base);
        for (Index r = 0; source != nullptr && r < slice.rows; ++r) {
          const Index expert = experts.begin + e;
          const auto* tensor = find_source(files.weights, *source, files.names.base, expert);
          auto& numbers = read[tensor->name];
          if (numbers.empty()) numbers = numbers_of(files.weights, *tensor);
          for (Index c = 0; c < slice.columns; ++c, ++compared) {
            const auto at = static_cast<std::size_t>(source->element(expert, slice.row + r, slice.column + c));
            ASSERT_EQ(block(e, first + r, c), numbers.at(at) + (source->plus_one ? 1.0F : 0.0F)) << tensor->name;
          }
        }
        first += slice.rows;
      }
      ASSERT_EQ(first, static_cast<Index>(block.extent(1)));
    }
  });
  return compared;
}

class Blocks : public testing::TestWithParam<const char*> {};

TEST_P(Blocks, HoldWhatTheFilesHoldAtEveryLayout) {
  const auto files = open_model(test::data_file(std::string("tiny/") + GetParam()));
  const auto table = tensor_table(files.spec, files.names);
  int layouts = 0;
  for (int tp = 1; tp <= 4; ++tp) {
    for (int pp = 1; pp <= 2; ++pp) {
      try {
        (void)shard_of(files.spec, tp, 0);
      } catch (const UsageError&) {
        continue;
      }
      ++layouts;
      for (const Range& layers : stages_of(files.spec, pp)) {
        for (int rank = 0; rank < tp; ++rank) {
          const auto shard = shard_of(files.spec, tp, rank);
          auto blocks = make_blocks(table, layers, shard);
          load_blocks(blocks, files, table, layers, shard);
          check(blocks, files, table, layers, shard);
        }
      }
    }
  }
  EXPECT_GE(layouts, 4);
}

TEST_P(Blocks, BeginWithTheBitsThatInitWrites) {
  const auto config = test::data_file(std::string("tiny/") + GetParam() + "/config.json");
  const test::TemporaryFolder folder;
  const auto described = read_spec(config);
  write_initial_weights(described, 7, folder.path(), {});
  std::filesystem::copy(config, folder / "config.json");
  const auto files = open_model(folder.path());
  const auto table = tensor_table(files.spec, files.names);
  for (const int tp : {1, 2}) {
    for (int rank = 0; rank < tp; ++rank) {
      const auto shard = shard_of(files.spec, tp, rank);
      for (const Range& layers : stages_of(files.spec, 2)) {
        auto blocks = make_blocks(table, layers, shard);
        initialize_blocks(blocks, described, table, layers, shard, 7);
        EXPECT_GT(check(blocks, files, table, layers, shard), 1000);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Blocks,
                         testing::Values("llama2", "bloom", "mixtral", "gpt2", "gemma2", "qwen3_moe_fused", "qwen2"));

TEST(TensorBlocks, LieOneAfterTheOtherWithZerosBetween) {
  const auto files = open_model(test::data_file("tiny/gpt2"));
  const auto table = tensor_table(files.spec, files.names);
  const auto shard = shard_of(files.spec, 2, 1);
  const Range layers{0, files.spec.layer_count()};
  auto blocks = make_blocks(table, layers, shard);
  std::set<const float*> begins;
  Index held = 0;
  each_block(table, layers, shard, blocks.tensors, [&](const TensorRow&, Index, const LayerShard*, View3<float> block) {
    EXPECT_EQ((block.data() - blocks.flat().data()) % 64, 0);
    EXPECT_TRUE(begins.insert(block.data()).second);
    held += static_cast<Index>(block.size());
    Kokkos::deep_copy(block, 1.0F);
  });
  const auto flat = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, blocks.flat());
  EXPECT_EQ(std::count(flat.data(), flat.data() + flat.size(), 1.0F), held);
  EXPECT_EQ(std::count(flat.data(), flat.data() + flat.size(), 0.0F), static_cast<Index>(flat.size()) - held);
  EXPECT_EQ(blocks.tensors.head.data(), blocks.tensors.embedding.data()) << "a tied head is one block";
}

}  // namespace
