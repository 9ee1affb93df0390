// The tensor table: its slices tile every tensor at every layout, its sources are those of files that we know.
#include "support/specs.hpp"

#include <grist/core/errors.hpp>
#include <grist/model/tensor_table.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>

namespace {

using namespace grist;

/// Small enough to count every element.
ModelSpec small_spec(int heads, int kv_heads, bool tied, bool biases, int experts = 0) {
  auto spec = test::llama_spec(37, 12, 19, 3, heads, kv_heads, 4, tied);
  for (auto& layer : spec.layers) {
    layer.attention.q_bias = layer.attention.k_bias = layer.attention.v_bias = layer.attention.o_bias = biases;
    layer.mlp.up_bias = layer.mlp.down_bias = biases && experts == 0;
    layer.mlp.experts = experts;
    layer.mlp.experts_per_token = std::min(experts, 2);
  }
  return spec;
}

bool can_be_split(const ModelSpec& spec, int tp) {
  try {
    (void)shard_of(spec, tp, 0);
    return true;
  } catch (const UsageError&) {
    return false;
  }
}

using Counts = std::map<std::pair<const TensorRow*, std::size_t>, std::vector<int>>;

/// How many ranks of a layout hold each element of each part.
Counts holders(const ModelSpec& spec, const TensorTable& table, int tp, int pp, RowParallel row_parallel) {
  Counts count;
  for (const auto& stage : stages_of(spec, pp)) {
    for (int rank = 0; rank < tp; ++rank) {
      const auto shard = shard_of(spec, tp, rank, row_parallel);
      each_row(table, stage, shard, [&](const TensorRow& row, const LayerShard* layer) {
        for (std::size_t p = 0; p < row.parts.size(); ++p) {
          const auto& part = row.parts[p];
          auto& held = count[{&row, p}];
          held.resize(static_cast<std::size_t>(row.experts * part.rows * row.columns));
          const auto slice = slice_of(row, part, shard, layer);
          const Range experts = experts_of(row, layer);
          for (Index e = experts.begin; e < experts.end; ++e)
            for (Index r = slice.row; r < slice.row + slice.rows; ++r)
              for (Index c = slice.column; c < slice.column + slice.columns; ++c)
                ++held.at(static_cast<std::size_t>((e * part.rows + r) * row.columns + c));
        }
      });
    }
  }
  return count;
}

TEST(TensorTable, SlicesTileEveryTensorAtEveryLayout) {
  for (const auto& spec : {small_spec(9, 3, false, true), small_spec(8, 2, false, false), small_spec(4, 4, false, true),
                           small_spec(6, 6, false, false, 5)}) {
    const auto table = tensor_table(spec, {});
    int layouts = 0;
    for (int tp = 1; tp <= 8; ++tp) {
      if (!can_be_split(spec, tp)) continue;
      for (const auto kind : {RowParallel::reduce, RowParallel::gather}) {
        for (int pp = 1; pp <= 3; ++pp, ++layouts) {
          for (const auto& [place, held] : holders(spec, table, tp, pp, kind)) {
            const auto& [row, p] = place;
            const Split split = row->parts[p].split;
            const bool whole_experts = row->experts > 1 && row->experts >= tp;
            const bool split_here = whole_experts || (split == Split::output ? true : split != Split::whole);
            const int sharers = !split_here                ? tp
                                : split == Split::kv_heads ? std::max(1, tp / spec.layers[0].attention.kv_heads)
                                                           : 1;
            EXPECT_TRUE(std::ranges::all_of(held, [&](int n) { return n == sharers; }))
                << row->parts[p].sources.front().tensor << " at tp=" << tp << " pp=" << pp
                << ", each element to be held by " << sharers;
          }
        }
      }
    }
    EXPECT_GE(layouts, 18);
  }
}

/// The number of owners of each element of a part, over the ranks of tp.
std::vector<int> owners(const TensorRow& row, const TensorPart& part, const std::vector<Shard>& shards, Index layer) {
  std::vector<int> count(static_cast<std::size_t>(row.experts * part.rows * row.columns));
  for (int rank = 0; rank < static_cast<int>(shards.size()); ++rank) {
    if (replicas_of(row, part, shards, layer, rank).front() != rank) continue;
    const Shard& shard = shards[static_cast<std::size_t>(rank)];
    const LayerShard* inside = layer < 0 ? nullptr : &shard.layers[static_cast<std::size_t>(layer)];
    const auto slice = slice_of(row, part, shard, inside);
    const Range experts = experts_of(row, inside);
    for (Index e = experts.begin; e < experts.end; ++e)
      for (Index r = slice.row; r < slice.row + slice.rows; ++r)
        for (Index c = slice.column; c < slice.column + slice.columns; ++c)
          ++count.at(static_cast<std::size_t>((e * part.rows + r) * row.columns + c));
  }
  return count;
}

TEST(TensorTable, EveryElementHasOneOwnerAtEveryLayout) {
  for (const auto& spec :
       {small_spec(9, 3, false, true), small_spec(8, 2, false, true), small_spec(6, 6, true, true, 5)}) {
    const auto table = tensor_table(spec, {});
    for (int tp = 1; tp <= 8; ++tp) {
      if (!can_be_split(spec, tp)) continue;
      for (const auto kind : {RowParallel::reduce, RowParallel::gather}) {
        std::vector<Shard> shards;
        for (int rank = 0; rank < tp; ++rank) shards.push_back(shard_of(spec, tp, rank, kind));
        const auto check = [&](Index layer) {
          return [&, layer](const TensorRow& row) {
            for (const auto& part : row.parts)
              EXPECT_TRUE(std::ranges::all_of(owners(row, part, shards, layer), [](int n) { return n == 1; }))
                  << part.sources.front().tensor << " at tp=" << tp;
          };
        };
        each_first_tensor(check(-1), table);
        for (Index layer = 0; layer < spec.layer_count(); ++layer)
          each_tensor(check(layer), table.layers[static_cast<std::size_t>(layer)]);
        each_last_tensor(check(-1), table);
      }
    }
  }
}

TEST(TensorTable, KvHeadsThatRanksShareAreSummedOverThese) {
  const auto spec = small_spec(8, 2, false, true);
  const auto table = tensor_table(spec, {});
  std::vector<Shard> shards;
  for (int rank = 0; rank < 4; ++rank) shards.push_back(shard_of(spec, 4, rank));
  const TensorRow& qkv = table.layers[0].qkv;
  EXPECT_EQ(replicas_of(qkv, qkv.parts[0], shards, 0, 3), (std::vector{3}));
  EXPECT_EQ(replicas_of(qkv, qkv.parts[1], shards, 0, 3), (std::vector{2, 3}));
  EXPECT_EQ(replicas_of(qkv, qkv.parts[2], shards, 0, 0), (std::vector{0, 1}));
  EXPECT_EQ(replicas_of(table.final_norm, table.final_norm.parts[0], shards, -1, 2), (std::vector{0, 1, 2, 3}));
}

TEST(TensorTable, ATiedHeadIsHeldOnceWhereAStageHasBothEnds) {
  const auto spec = small_spec(4, 2, true, false);
  const auto table = tensor_table(spec, {});
  const auto holds = [&](Range layers, const TensorRow& wanted) {
    bool found = false;
    each_row(table, layers, shard_of(spec, 1, 0),
             [&](const TensorRow& row, const LayerShard*) { found = found || &row == &wanted; });
    return found;
  };
  EXPECT_FALSE(holds({0, 3}, table.head));
  EXPECT_TRUE(holds({0, 3}, table.embedding));
  EXPECT_TRUE(holds({1, 3}, table.head));
  EXPECT_FALSE(holds({1, 3}, table.embedding));
  EXPECT_FALSE(holds({0, 1}, table.head));
}

TEST(TensorTable, HasTheNamesAndShapesOfHuggingFace) {
  std::map<std::string, std::vector<Index>> shapes;
  for (const auto& tensor : file_tensors(tensor_table(small_spec(8, 2, false, true), {})))
    EXPECT_TRUE(shapes.emplace(tensor.name, tensor.shape).second) << tensor.name << " twice";
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

TEST(TensorTable, ASourceTakesEveryRowOfAFusedTensorOnce) {
  for (const auto fused : {TensorNames::Fused::in_turn, TensorNames::Fused::by_group}) {
    for (const bool pairs : {false, true}) {
      const auto table = tensor_table(small_spec(6, 2, false, false),
                                      {.q = "", .k = "", .v = "", .qkv = "qkv", .fused = fused, .rope_pairs = pairs});
      std::vector<Index> taken;
      for (const auto& part : table.layers[0].qkv.parts)
        for (Index r = 0; r < part.rows; ++r) taken.push_back(part.sources[0].file_row(r));
      std::ranges::sort(taken);
      std::vector<Index> every(static_cast<std::size_t>(table.layers[0].qkv.rows()));
      std::iota(every.begin(), every.end(), 0);
      EXPECT_EQ(taken, every);
    }
  }
  // Three heads of four rows to a KV group: q0 q1 q2 k v, q3 q4 q5 k v.
  const auto rows = tensor_table(small_spec(6, 2, false, false),
                                 {.q = "", .k = "", .v = "", .qkv = "qkv", .fused = TensorNames::Fused::by_group})
                        .layers[0]
                        .qkv;
  EXPECT_EQ(rows.parts[0].sources[0].file_row(12), 20);  // head 3
  EXPECT_EQ(rows.parts[1].sources[0].file_row(4), 32);   // the second KV head's key
  EXPECT_EQ(rows.parts[2].sources[0].file_row(0), 16);
}

TEST(TensorTable, CountsTheParametersOfSmolLm2AsItsCardDoes) {
  auto spec = test::smollm2();
  EXPECT_EQ(parameter_count(spec), 134515008);
  spec.tied_embeddings = false;
  EXPECT_EQ(parameter_count(spec), 134515008 + 49152 * 576);
}

}  // namespace
