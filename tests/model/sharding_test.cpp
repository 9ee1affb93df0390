// How a model is dealt: every item to the right ranks, whole KV groups, and refusals that name the numbers.
#include <grist/core/errors.hpp>
#include <grist/model/sharding.hpp>

#include <gtest/gtest.h>

namespace {

using namespace grist;

/// SmolLM2-135M.
ModelSpec smollm2() {
  return {.family = "llama", .vocab_size = 49152, .hidden_size = 576, .intermediate_size = 1536, .layers = 30,
          .heads = 9, .kv_heads = 3, .head_dim = 64, .tied_embeddings = true};
}

ModelSpec with_heads(int heads, int kv_heads) {
  auto spec = smollm2();
  spec.heads = heads;
  spec.kv_heads = kv_heads;
  return spec;
}

std::string refusal_of(const ModelSpec& spec, int tp) {
  try {
    (void)shard_of(spec, tp, 0);
    return "no error";
  } catch (const UsageError& error) {
    return error.what();
  }
}

TEST(Sharding, NineHeadsWithThreeKvHeadsGoToTwoRanksAsSixAndThree) {
  const auto first = shard_of(smollm2(), 2, 0), second = shard_of(smollm2(), 2, 1);
  EXPECT_EQ(first.heads, (Range{0, 6}));
  EXPECT_EQ(first.kv_heads, (Range{0, 2}));
  EXPECT_EQ(second.heads, (Range{6, 9}));
  EXPECT_EQ(second.kv_heads, (Range{2, 3}));
}

TEST(Sharding, FewerKvHeadsThanRanksAreHeldBySeveral) {
  const auto spec = with_heads(8, 2);
  for (int rank = 0; rank < 4; ++rank) {
    const auto shard = shard_of(spec, 4, rank);
    EXPECT_EQ(shard.heads, (Range{rank * 2, rank * 2 + 2}));
    EXPECT_EQ(shard.kv_heads, (Range{rank / 2, rank / 2 + 1}));
  }
}

TEST(Sharding, SharersOfAKvHeadMayHoldUnequalParts) {
  EXPECT_EQ(shard_of(smollm2(), 6, 0).heads, (Range{0, 2}));
  EXPECT_EQ(shard_of(smollm2(), 6, 1).heads, (Range{2, 3}));
  EXPECT_EQ(shard_of(smollm2(), 6, 5).heads, (Range{8, 9}));
  EXPECT_EQ(shard_of(smollm2(), 6, 5).kv_heads, (Range{2, 3}));
}

TEST(Sharding, EveryAxisIsCoveredInOrderAndNoRankIsEmpty) {
  for (const auto& spec : {smollm2(), with_heads(32, 8), with_heads(8, 2), with_heads(7, 1)}) {
    for (int tp = 1; tp <= spec.heads; ++tp) {
      if (refusal_of(spec, tp) != "no error") continue;
      TensorShard before;
      for (int rank = 0; rank < tp; ++rank) {
        const auto shard = shard_of(spec, tp, rank);
        EXPECT_EQ(shard.heads.begin, before.heads.end);
        EXPECT_EQ(shard.intermediate.begin, before.intermediate.end);
        EXPECT_EQ(shard.vocabulary.begin, before.vocabulary.end);
        for (const auto& range : {shard.heads, shard.kv_heads, shard.intermediate, shard.vocabulary})
          EXPECT_GT(range.size(), 0);
        // Every head finds its KV head on its own rank, and the layers' rule (heads % kv_heads == 0) holds there.
        const int group = spec.heads / spec.kv_heads;
        EXPECT_EQ(shard.heads.begin / group, shard.kv_heads.begin);
        EXPECT_EQ((shard.heads.end - 1) / group, shard.kv_heads.end - 1);
        EXPECT_EQ(shard.heads.size() % shard.kv_heads.size(), 0);
        before = shard;
      }
      EXPECT_EQ(before.heads.end, spec.heads);
      EXPECT_EQ(before.kv_heads.end, spec.kv_heads);
      EXPECT_EQ(before.intermediate.end, spec.intermediate_size);
      EXPECT_EQ(before.vocabulary.end, spec.vocab_size);
    }
  }
}

TEST(Sharding, LongAxesAreDealtInBlocksOfThirtyTwoAndLittleUnequally) {
  auto spec = smollm2();
  spec.vocab_size = 49157;  // the last rank takes the five that fill no block
  for (int rank = 0; rank < 3; ++rank) {
    const auto vocabulary = shard_of(spec, 3, rank).vocabulary;
    EXPECT_EQ(vocabulary.begin % 32, 0);
    EXPECT_NEAR(static_cast<double>(vocabulary.size()), 49157.0 / 3, 32 + 5);
  }
}

TEST(Sharding, WhatCannotBeDealtIsRefusedWithTheNumbers) {
  EXPECT_EQ(refusal_of(smollm2(), 4),
            "tp=4 cannot deal 9 attention heads with 3 KV heads: up to 3 ranks take whole KV groups, above that tp "
            "must be a multiple of 3 and at most 9");
  EXPECT_NE(refusal_of(smollm2(), 12), "no error");
  EXPECT_EQ(refusal_of(smollm2(), 9), "no error");
  auto narrow = with_heads(8, 8);
  narrow.intermediate_size = 7;
  EXPECT_EQ(refusal_of(narrow, 8), "tp=8 is more than intermediate_size 7 or vocab_size 49152 can be dealt to");
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
