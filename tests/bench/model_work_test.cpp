// What passes read and multiply: by hand for one model, against sums over tokens and the trainer's count for others.
#include <grist/bench/model_work.hpp>

#include <grist/train/metrics.hpp>

#include "support/files.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace {

using namespace grist;
using namespace grist::bench;
using grist::test::data_file;

ModelFiles spec_of(const std::string& name) { return read_spec(data_file("tiny/" + name) / "config.json"); }

// llama2: hidden 64, 3 layers, 4 heads of 16 and as many KV heads, intermediate 96, vocabulary 288, stored in f16.
constexpr double layers = 3, matrices = layers * (64 * 192 + 64 * 64 + 64 * 192 + 96 * 64), head = 288 * 64;
constexpr double norms = 4 * (layers * 2 * 64 + 64), weights = 2 * (matrices + head) + norms;

TEST(ModelWork, OfOneTokenIsCountedByHand) {
  const ModelWork work(spec_of("llama2"), {.kv_type = KvType::bf16});
  const Work step = work.decode(1, 0, 1);
  EXPECT_DOUBLE_EQ(step.flops, 2 * (matrices + head) + layers * 4 * 64);
  EXPECT_DOUBLE_EQ(step.bytes, weights + layers * 2 * 64 * 2);
  const ModelWork int8(spec_of("llama2"), {.kv_type = KvType::int8});
  EXPECT_DOUBLE_EQ(int8.decode(1, 0, 1).bytes, weights + layers * 2 * 4 * (16 + 4)) << "with a scale for each row";
  EXPECT_EQ(static_cast<double>(work.bytes()), weights + 2 * head) << "beside what a step reads, the embedding";
}

TEST(ModelWork, ReadsWeightsOnceForABatchAndTheCacheForEachSequence) {
  const ModelWork work(spec_of("llama2"), {.kv_type = KvType::f32});
  const Work step = work.decode(8, 10, 2);  // 11 keys, then 12
  EXPECT_DOUBLE_EQ(step.flops, 8 * (2 * (matrices + head) + layers * 4 * 64 * 11.5));
  EXPECT_DOUBLE_EQ(step.bytes, weights + 8 * layers * 2 * 64 * 4 * 11.5);
}

TEST(ModelWork, OfAPromptCountsLogitsOnceAndKeysUnderTheMask) {
  const ModelWork work(spec_of("llama2"), {});
  const Work prompt = work.prefill(2, 5, 3);  // 6, 7 and 8 keys
  EXPECT_DOUBLE_EQ(prompt.flops, 2 * (3 * 2 * matrices + 2 * head + layers * 4 * 64 * (6 + 7 + 8)));
  EXPECT_DOUBLE_EQ(prompt.bytes, weights + 2 * layers * 2 * 64 * 4 * 5);
}

TEST(ModelWork, ConvertedWeightsAreReadAsTheyLieInMemory) {
  const ModelWork work(spec_of("llama2"), {.kv_type = KvType::bf16, .weights = WeightStorage::f32});
  EXPECT_DOUBLE_EQ(work.decode(1, 0, 1).bytes, 4 * (matrices + head) + norms + layers * 2 * 64 * 2);
  EXPECT_FALSE(work.in_blocks());
  EXPECT_TRUE(ModelWork(spec_of("llama2"), {.weights = WeightStorage::q8_0}).in_blocks());
}

TEST(ModelWork, SeesNoMoreKeysThanAWindowHas) {
  auto files = spec_of("llama2");
  for (std::size_t i = 0; i < files.spec.layers.size(); i += 2) files.spec.layers[i].attention.window = 4;
  const ModelWork work(files, {.kv_type = KvType::f32}), wide(spec_of("llama2"), {.kv_type = KvType::f32});
  for (const auto& [depth, tokens] : std::vector<std::pair<Index, Index>>{{0, 2}, {0, 9}, {2, 5}, {10, 3}}) {
    double less = 0;
    for (Index keys = depth + 1; keys <= depth + tokens; ++keys)
      less += 2 * 4 * 64 * static_cast<double>(std::max<Index>(0, keys - 4));
    EXPECT_DOUBLE_EQ(wide.prefill(1, depth, tokens).flops - work.prefill(1, depth, tokens).flops, less) << depth;
  }
  EXPECT_DOUBLE_EQ(wide.decode(1, 9, 1).bytes - work.decode(1, 9, 1).bytes, 2 * 2 * 64 * 4 * (10 - 4.0));
}

TEST(ModelWork, ReadsTheExpertsThatTokensChoose) {
  const auto files = spec_of("mixtral");
  const MlpSpec& mlp = files.spec.layers[0].mlp;
  const auto layer_count = static_cast<double>(files.spec.layer_count());
  const double chosen = mlp.experts_per_token, all = mlp.experts;
  const double expert = layer_count * static_cast<double>(3 * files.spec.hidden_size * mlp.intermediate_size) *
                        static_cast<double>(block_of(files.stored).bytes);
  ASSERT_LT(chosen, all);
  const ModelWork work(files, {});
  const double one = work.prefill(1, 0, 1).bytes, many = work.prefill(1, 0, 10000).bytes;
  EXPECT_NEAR(many - one, (all - chosen) * expert, 1e-6 * many);
  EXPECT_NEAR(work.prefill(1, 0, 2).bytes - one, chosen * (1 - chosen / all) * expert, 1e-6 * many);
}

TEST(ModelWork, IsAThirdOfWhatTrainingCounts) {
  for (const std::string name : {"llama2", "gemma3", "mixtral", "qwen2_moe", "gpt2", "falcon"}) {
    const auto files = spec_of(name);
    constexpr Index sequence = 50;
    const ModelWork work(files, {});
    // Training takes logits after every token: so do sequences of one token, on top of one whole prompt.
    const double logits = static_cast<double>(2 * files.spec.vocab_size * files.spec.hidden_size);
    const double forward = work.prefill(1, 0, sequence).flops + (sequence - 1) * logits;
    const double training = sequence * train::model_flops(files.spec, sequence);
    EXPECT_NEAR(3 * forward / training, 1, 0.02) << name << ": but for norms and biases, which training counts too";
  }
}

}  // namespace
