// The tensor table: its slices tile every tensor at every layout, and its numbers are those of a model that we know.
#include <grist/core/errors.hpp>
#include <grist/model/tensor_table.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

namespace {

using namespace grist;

/// Small enough to count every element.
ModelSpec small_spec(int heads, int kv_heads, bool tied, bool biases) {
  return {.family = "llama", .vocab_size = 37, .hidden_size = 12, .intermediate_size = 19, .layers = 3, .heads = heads,
          .kv_heads = kv_heads, .head_dim = 4, .tied_embeddings = tied, .qkv_bias = biases, .o_bias = biases,
          .mlp_bias = biases};
}

bool can_be_dealt(const ModelSpec& spec, int tp) {
  try {
    (void)shard_of(spec, tp, 0);
    return true;
  } catch (const UsageError&) {
    return false;
  }
}

/// How many ranks of a layout hold each element of each tensor.
std::map<std::string, std::vector<int>> holders(const ModelSpec& spec, int tp, int pp) {
  std::map<std::string, std::vector<int>> count;
  for (const auto& row : tensor_table(spec))
    count[row.name].resize(static_cast<std::size_t>(row.rows() * row.columns()));
  for (const auto& stage : stages_of(spec, pp)) {
    for (int rank = 0; rank < tp; ++rank) {
      const auto shard = shard_of(spec, tp, rank);
      for (const auto& row : rows_of_stage(spec, stage)) {
        const auto slice = slice_of(row, shard);
        for (Index r = slice.row; r < slice.row + slice.rows; ++r)
          for (Index c = slice.column; c < slice.column + slice.columns; ++c)
            ++count.at(row.name).at(static_cast<std::size_t>(r * row.columns() + c));
      }
    }
  }
  return count;
}

TEST(TensorTable, SlicesTileEveryTensorAtEveryLayout) {
  for (const auto& spec :
       {small_spec(9, 3, false, true), small_spec(8, 2, false, false), small_spec(4, 4, false, true)}) {
    int layouts = 0;
    for (int tp = 1; tp <= 8; ++tp) {
      if (!can_be_dealt(spec, tp)) continue;
      for (int pp = 1; pp <= 3; ++pp, ++layouts) {
        const auto held = holders(spec, tp, pp);
        for (const auto& row : tensor_table(spec)) {
          const int sharers = row.dealt == Dealt::whole      ? tp
                              : row.dealt == Dealt::kv_heads ? std::max(1, tp / spec.kv_heads)
                                                             : 1;
          EXPECT_TRUE(std::ranges::all_of(held.at(row.name), [&](int n) { return n == sharers; }))
              << row.name << " at tp=" << tp << " pp=" << pp << ", each element to be held by " << sharers;
        }
      }
    }
    EXPECT_GE(layouts, 9);
  }
}

TEST(TensorTable, ATiedHeadIsHeldOnceWhereAStageHasBothEnds) {
  const auto spec = small_spec(4, 2, true, false);
  const auto names = [&](Range layers) {
    std::set<std::string> result;
    for (const auto& row : rows_of_stage(spec, layers)) result.insert(row.name);
    return result;
  };
  EXPECT_FALSE(names({0, 3}).contains("lm_head.weight"));
  EXPECT_TRUE(names({0, 3}).contains("model.embed_tokens.weight"));
  EXPECT_TRUE(names({1, 3}).contains("lm_head.weight"));
  EXPECT_FALSE(names({1, 3}).contains("model.embed_tokens.weight"));
  EXPECT_FALSE(names({0, 1}).contains("lm_head.weight"));
  const auto table = tensor_table(spec);
  EXPECT_EQ(table.back().tied_to, "model.embed_tokens.weight");
  EXPECT_EQ(tensor_table(small_spec(4, 2, false, false)).back().tied_to, "");
}

TEST(TensorTable, HasTheNamesAndShapesOfHuggingFace) {
  const auto table = tensor_table(small_spec(8, 2, false, true));
  std::map<std::string, std::vector<Index>> shapes;
  for (const auto& row : table) EXPECT_TRUE(shapes.emplace(row.name, row.shape).second) << row.name << " twice";
  EXPECT_EQ(shapes.size(), 3U + 3U * 16U);
  EXPECT_EQ(shapes.at("model.embed_tokens.weight"), (std::vector<Index>{37, 12}));
  EXPECT_EQ(shapes.at("model.layers.2.self_attn.q_proj.weight"), (std::vector<Index>{32, 12}));
  EXPECT_EQ(shapes.at("model.layers.2.self_attn.k_proj.weight"), (std::vector<Index>{8, 12}));
  EXPECT_EQ(shapes.at("model.layers.0.self_attn.v_proj.bias"), (std::vector<Index>{8}));
  EXPECT_EQ(shapes.at("model.layers.0.self_attn.o_proj.weight"), (std::vector<Index>{12, 32}));
  EXPECT_EQ(shapes.at("model.layers.1.mlp.gate_proj.weight"), (std::vector<Index>{19, 12}));
  EXPECT_EQ(shapes.at("model.layers.1.mlp.down_proj.weight"), (std::vector<Index>{12, 19}));
  EXPECT_EQ(shapes.at("model.layers.1.post_attention_layernorm.weight"), (std::vector<Index>{12}));
  EXPECT_EQ(shapes.at("model.norm.weight"), (std::vector<Index>{12}));
  EXPECT_EQ(shapes.at("lm_head.weight"), (std::vector<Index>{37, 12}));
}

TEST(TensorTable, PartsOfOneParameterFollowEachOtherAndHaveEqualColumns) {
  const auto table = tensor_table(small_spec(8, 2, false, true));
  std::map<std::string, Index> columns;
  std::string before;
  for (const auto& row : table) {
    if (!row.is_matrix()) continue;
    const auto [place, is_new] = columns.emplace(row.parameter, row.columns());
    EXPECT_TRUE(is_new || row.parameter == before) << row.name;
    EXPECT_EQ(place->second, row.columns()) << row.name;
    before = row.parameter;
  }
  std::vector<std::string> qkv;
  for (const auto& row : table)
    if (row.parameter == "layers.0.qkv") qkv.push_back(row.name.substr(row.name.rfind("attn.") + 5));
  EXPECT_EQ(qkv, (std::vector<std::string>{"q_proj.weight", "k_proj.weight", "v_proj.weight"}));
}

TEST(TensorTable, TheBiasBehindASumOfRanksIsAddedByOne) {
  for (const auto& row : tensor_table(small_spec(8, 2, false, true))) {
    const bool behind_a_sum = row.name.ends_with("o_proj.bias") || row.name.ends_with("down_proj.bias");
    EXPECT_EQ(row.on_one_rank, behind_a_sum) << row.name;
  }
}

TEST(TensorTable, CountsTheParametersOfSmolLm2AsItsCardDoes) {
  ModelSpec spec{.family = "llama", .vocab_size = 49152, .hidden_size = 576, .intermediate_size = 1536, .layers = 30,
                 .heads = 9, .kv_heads = 3, .head_dim = 64, .tied_embeddings = true};
  EXPECT_EQ(parameter_count(spec), 134515008);
  spec.tied_embeddings = false;
  EXPECT_EQ(parameter_count(spec), 134515008 + 49152 * 576);
}

}  // namespace
