// The memory plan: its parts are what a model of these sizes must need, at any layout.
#include "support/specs.hpp"

#include <grist/backends/products.hpp>
#include <grist/core/errors.hpp>
#include <grist/model/memory_plan.hpp>

#include <gmock/gmock.h>

namespace {

using namespace grist;
using test::in_bf16;
using test::in_f32;
using testing::HasSubstr;

/// A config without weights.
ModelFiles smollm2_files(Format stored = Format::f32) { return {.spec = test::smollm2(), .stored = stored}; }

MemoryPlan plan(const ModelFiles& files, const Layout& layout, int pp_rank, int tp_rank, const ModelNumbers& numbers,
                const ModelLimits& limits) {
  Products products;
  return memory_plan(files, layout, pp_rank, tp_rank, numbers, limits, products);
}

constexpr std::uint64_t vectors = 61 * 576;  // two norms in each layer and one behind, in float everywhere
constexpr ModelLimits usual_limits{.kv_tokens = 1024};  // whole pages

TEST(MemoryPlan, OfOneRankHoldsEveryParameterOnceAsItIsStored) {
  const std::uint64_t matrices = 134515008 - vectors;
  EXPECT_EQ(plan(smollm2_files(), {}, 0, 0, in_f32, usual_limits).parameters, 4 * (matrices + vectors));
  EXPECT_EQ(plan(smollm2_files(Format::bf16), {}, 0, 0, in_bf16, usual_limits).parameters, 2 * matrices + 4 * vectors);
}

TEST(MemoryPlan, TheKvCacheHasTwoRowsPerTokenLayerAndKvHead) {
  const ModelNumbers in_int8{.type = DType::bf16, .kv_type = KvType::int8};
  EXPECT_EQ(plan(smollm2_files(), {}, 0, 0, in_int8, usual_limits).kv_cache, 2ULL * 1024 * 30 * 3 * (64 + 4));
  EXPECT_EQ(plan(smollm2_files(), {}, 0, 0, in_bf16, usual_limits).kv_cache, 2ULL * 1024 * 30 * 3 * 64 * 2);
  EXPECT_EQ(plan(smollm2_files(), {}, 0, 0, in_f32, usual_limits).kv_cache, 2ULL * 1024 * 30 * 3 * 64 * 4);
}

TEST(MemoryPlan, RanksOfTpTogetherHoldTheModelAndEachItsNorms) {
  std::uint64_t parameters = 0, kv_cache = 0;
  for (int rank = 0; rank < 3; ++rank) {
    const auto part = plan(smollm2_files(), {.tp = 3}, 0, rank, in_f32, usual_limits);
    parameters += part.parameters;
    kv_cache += part.kv_cache;
  }
  const auto alone = plan(smollm2_files(), {}, 0, 0, in_f32, usual_limits);
  EXPECT_EQ(parameters, alone.parameters + 2 * 4 * vectors);
  EXPECT_EQ(kv_cache, alone.kv_cache);
}

TEST(MemoryPlan, StagesTogetherHoldTheModelAndTheTiedMatrixTwice) {
  std::uint64_t parameters = 0, kv_cache = 0;
  for (int stage = 0; stage < 2; ++stage) {
    const auto part = plan(smollm2_files(), {.pp = 2}, stage, 0, in_f32, usual_limits);
    parameters += part.parameters;
    kv_cache += part.kv_cache;
  }
  const auto alone = plan(smollm2_files(), {}, 0, 0, in_f32, usual_limits);
  EXPECT_EQ(parameters, alone.parameters + 4ULL * 49152 * 576);
  EXPECT_EQ(kv_cache, alone.kv_cache);
}

TEST(MemoryPlan, ScratchGrowsWithTheBatchAndHardlyWithTheCache) {
  auto more = usual_limits;
  more.batch_tokens = 4 * usual_limits.batch_tokens;
  auto longer = usual_limits;
  longer.kv_tokens = 8192;
  const auto of = [](const ModelLimits& l) {
    return static_cast<double>(plan(smollm2_files(), {}, 0, 0, in_f32, l).workspace);
  };
  if (host_reaches_memory)
    EXPECT_NEAR(of(more), 4 * of(usual_limits), 0.1 * of(more));
  else
    EXPECT_GT(of(more), 2 * of(usual_limits));  // the memory of attention's teams grows up to as many as run at once
  EXPECT_LT(of(longer), 2 * of(usual_limits));
}

TEST(MemoryPlan, ConvertedWeightsTakeWhatTheirNewTypeTakes) {
  const auto as = [](WeightStorage weights) {
    return plan(smollm2_files(Format::bf16), {}, 0, 0, {.weights = weights}, usual_limits).parameters;
  };
  EXPECT_EQ(as(WeightStorage::f32) - 4 * vectors, 2 * (as(WeightStorage::stored) - 4 * vectors));
  EXPECT_EQ(as(WeightStorage::bf16), as(WeightStorage::stored));
  // 34 or 18 bytes for 32 numbers; 49152 rows of 576 are embedding and head.
  const std::uint64_t matrices = (as(WeightStorage::bf16) - 4 * vectors) / 2, embedding = 49152 * 576;
  EXPECT_EQ(as(WeightStorage::q8_0), 4 * vectors + matrices / 32 * 34);
  EXPECT_EQ(as(WeightStorage::q4_0), 4 * vectors + embedding / 32 * 34 + (matrices - embedding) / 32 * 18);
}

TEST(MemoryPlan, WhatDoesNotFitIsRefusedWithTheSizes) {
  const MemoryPlan plan{.parameters = 3ULL << 30, .kv_cache = 5ULL << 20, .workspace = 7ULL << 10};
  EXPECT_EQ(plan.total(), (3ULL << 30) + (5ULL << 20) + (7ULL << 10));
  EXPECT_NO_THROW(check_memory(plan, 1, 1));
  try {
    check_memory(plan, 1ULL << 60, 4);
    FAIL() << "no error";
  } catch (const MemoryError& error) {
    EXPECT_THAT(error.what(),
                HasSubstr("the 4 ranks that share this memory need 1073741824.00 GiB (this one 3.00 GiB of "
                          "weights, 5.0 MiB of KV cache, 7.0 KiB of scratch)"));
  }
}

}  // namespace
