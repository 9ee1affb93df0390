// How a model is split: every item to the right ranks, whole KV groups, and refusals that name the numbers.
#include "support/specs.hpp"

#include <grist/core/errors.hpp>
#include <grist/model/sharding.hpp>

#include <gtest/gtest.h>

namespace {

using namespace grist;

using test::smollm2;

ModelSpec with_heads(int heads, int kv_heads) {
  return test::llama_spec(49152, 576, 1536, 30, heads, kv_heads, 64, true);
}

LayerShard layer_shard(const ModelSpec& spec, int tp, int rank) { return shard_of(spec, tp, rank).layers[0]; }

std::string refusal_of(const ModelSpec& spec, int tp) {
  try {
    (void)shard_of(spec, tp, 0);
    return "no error";
  } catch (const UsageError& error) {
    return error.what();
  }
}

TEST(Sharding, NineHeadsWithThreeKvHeadsGoToTwoRanksAsSixAndThree) {
  const auto first = layer_shard(smollm2(), 2, 0), second = layer_shard(smollm2(), 2, 1);
  EXPECT_EQ(first.heads, (Range{0, 6}));
  EXPECT_EQ(first.kv_heads, (Range{0, 2}));
  EXPECT_EQ(second.heads, (Range{6, 9}));
  EXPECT_EQ(second.kv_heads, (Range{2, 3}));
}

TEST(Sharding, FewerKvHeadsThanRanksAreHeldBySeveral) {
  const auto spec = with_heads(8, 2);
  for (int rank = 0; rank < 4; ++rank) {
    const auto shard = layer_shard(spec, 4, rank);
    EXPECT_EQ(shard.heads, (Range{rank * 2, rank * 2 + 2}));
    EXPECT_EQ(shard.kv_heads, (Range{rank / 2, rank / 2 + 1}));
  }
}

TEST(Sharding, SharersOfAKvHeadMayHoldUnequalParts) {
  EXPECT_EQ(layer_shard(smollm2(), 6, 0).heads, (Range{0, 2}));
  EXPECT_EQ(layer_shard(smollm2(), 6, 1).heads, (Range{2, 3}));
  EXPECT_EQ(layer_shard(smollm2(), 6, 5).heads, (Range{8, 9}));
  EXPECT_EQ(layer_shard(smollm2(), 6, 5).kv_heads, (Range{2, 3}));
}

TEST(Sharding, EveryAxisIsCoveredInOrderAndNoRankIsEmpty) {
  for (const auto& spec : {smollm2(), with_heads(32, 8), with_heads(8, 2), with_heads(7, 1)}) {
    const AttentionSpec& attention = spec.layers[0].attention;
    for (int tp = 1; tp <= attention.heads; ++tp) {
      if (refusal_of(spec, tp) != "no error") continue;
      LayerShard before;
      Range vocabulary, hidden;
      for (int rank = 0; rank < tp; ++rank) {
        const auto whole = shard_of(spec, tp, rank);
        const auto& shard = whole.layers[0];
        EXPECT_EQ(whole.vocabulary.begin, vocabulary.end);
        EXPECT_EQ(whole.hidden.begin, hidden.end);
        vocabulary = whole.vocabulary;
        hidden = whole.hidden;
        EXPECT_EQ(shard.heads.begin, before.heads.end);
        EXPECT_EQ(shard.intermediate.begin, before.intermediate.end);
        for (const auto& range : {shard.heads, shard.kv_heads, shard.intermediate, vocabulary, hidden})
          EXPECT_GT(range.size(), 0);
        // Every head finds its KV head on its own rank, and the layers' rule (heads % kv_heads == 0) holds there.
        const int group = attention.heads / attention.kv_heads;
        EXPECT_EQ(shard.heads.begin / group, shard.kv_heads.begin);
        EXPECT_EQ((shard.heads.end - 1) / group, shard.kv_heads.end - 1);
        EXPECT_EQ(shard.heads.size() % shard.kv_heads.size(), 0);
        before = shard;
      }
      EXPECT_EQ(before.heads.end, attention.heads);
      EXPECT_EQ(before.kv_heads.end, attention.kv_heads);
      EXPECT_EQ(before.intermediate.end, spec.layers[0].mlp.intermediate_size);
      EXPECT_EQ(vocabulary.end, spec.vocab_size);
      EXPECT_EQ(hidden.end, spec.hidden_size);
    }
  }
}

TEST(Sharding, LongAxesAreSplitInBlocksOfThirtyTwoAndLittleUnequally) {
  auto spec = smollm2();
  spec.vocab_size = 49157;  // the last rank takes the five that fill no block
  for (int rank = 0; rank < 3; ++rank) {
    const auto vocabulary = shard_of(spec, 3, rank).vocabulary;
    EXPECT_EQ(vocabulary.begin % 32, 0);
    EXPECT_NEAR(static_cast<double>(vocabulary.size()), 49157.0 / 3, 32 + 5);
  }
}

TEST(Sharding, WhatCannotBeSplitIsRefusedWithTheNumbers) {
  EXPECT_EQ(refusal_of(smollm2(), 4),
            "tp=4 cannot split 9 attention heads with 3 KV heads: up to 3 ranks take whole KV groups, above that tp "
            "must be a multiple of 3 and at most 9");
  EXPECT_NE(refusal_of(smollm2(), 12), "no error");
  EXPECT_EQ(refusal_of(smollm2(), 9), "no error");
  auto narrow = with_heads(8, 8);
  narrow.layers[3].mlp.intermediate_size = 7;
  EXPECT_EQ(refusal_of(narrow, 8), "tp=8 is more than intermediate_size 7 can be split to");
}

TEST(Sharding, ExpertsGoWholeWhereThereAreEnoughAndAreSplitInsideElse) {
  auto spec = with_heads(8, 8);
  spec.layers[1].mlp.experts = 5;
  spec.layers[1].mlp.experts_per_token = 2;
  const auto whole = shard_of(spec, 4, 1).layers[1];
  EXPECT_EQ(whole.experts, (Range{2, 3}));
  EXPECT_EQ(whole.intermediate, (Range{0, 1536}));
  const auto inside = shard_of(spec, 8, 1).layers[1];
  EXPECT_EQ(inside.experts, (Range{0, 5}));
  EXPECT_EQ(inside.intermediate, (Range{192, 384}));
}

TEST(Stages, CoverAllLayersInOrderAndNoneIsEmpty) {
  for (int pp = 1; pp <= 30; ++pp) {
    const auto stages = stages_of(smollm2(), pp);
    ASSERT_EQ(stages.size(), static_cast<std::size_t>(pp));
    Index end = 0;
    for (const auto& stage : stages) {
      EXPECT_EQ(stage.begin, end);
      EXPECT_GT(stage.size(), 0);
      end = stage.end;
    }
    EXPECT_EQ(end, 30);
  }
}

TEST(Stages, TheLastOneHasFewerLayersForItsLogits) {
  // The logits read 49152 x 576 parameters, as eight layers do: 19 layers, and 11 with the logits.
  EXPECT_EQ(stages_of(smollm2(), 2), (std::vector<Range>{{0, 19}, {19, 30}}));
  auto small_vocabulary = smollm2();
  small_vocabulary.vocab_size = 32;
  EXPECT_EQ(stages_of(small_vocabulary, 3), (std::vector<Range>{{0, 10}, {10, 20}, {20, 30}}));
}

TEST(Stages, MoreThanThereAreLayersAreRefusedWithTheNumbers) {
  try {
    (void)stages_of(smollm2(), 31);
    FAIL() << "no error";
  } catch (const UsageError& error) {
    EXPECT_STREQ(error.what(), "pp=31 stages are more than the model's 30 layers");
  }
}

}  // namespace
