// Weights that are quantized while they are loaded: as far from the golden logits as their bits make them, at every
// layout the same, and in the formats that WeightStorage promises.
#include "support/compare.hpp"
#include "support/files.hpp"
#include "support/golden.hpp"
#include "support/layouts.hpp"
#include "support/providers.hpp"
#include "support/ranks.hpp"
#include "support/sequences.hpp"
#include "support/tools_recorder.hpp"

#include <grist/backends/matvec.hpp>
#include <grist/backends/threads.hpp>
#include <grist/model/gguf_conversion.hpp>
#include <grist/model/parameters.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

namespace {

using namespace grist;
using test::columns_of;

constexpr Index most_ids = 128;

struct Found {
  std::vector<float> logits;  // of every position, this rank's columns
  Range vocabulary;
};

Found logits_of(const ModelFiles& files, const ProcessGrid& grid, WeightStorage weights,
                const std::vector<int>& ids) {
  const auto model = make_model(files, grid, {.numbers = {.weights = weights},
                                              .products = test::invariant_gemm(),
                                              .limits = {.batch_tokens = 256, .kv_tokens = most_ids}});
  test::Sequences sequences(*model, most_ids, 1);
  return {sequences.all_logits(Exec(), sequences.next(0, ids, false, std::ssize(ids))), model->vocabulary()};
}

struct StoredAs {
  std::string model;
  WeightStorage weights;
  double least, most;  // of the largest error, as a fraction of the logits' range
};

class Quantized : public testing::TestWithParam<StoredAs> {};

TEST_P(Quantized, LogitsAreAsNearAsTheirBitsMakeThemAndTheSameAtEveryLayout) {
  const auto& [name, weights, least, most] = GetParam();
  const auto files = open_model(test::data_file("tiny/" + name));
  const auto vocabulary = static_cast<std::size_t>(files.spec.vocab_size);
  const auto golden = test::read_golden(name).front();
  const auto alone = logits_of(files, ProcessGrid(comm_self(), {}), weights, golden.ids).logits;
  const auto [low, high] = std::ranges::minmax(golden.logits);
  const double worst = test::compare(alone, golden.logits).worst / (high - low);
  EXPECT_LE(worst, most);
  EXPECT_GE(worst, least) << "this was not quantized";
  for (const auto& layout : test::layouts_for(files.spec)) {
    SCOPED_TRACE(to_string(layout));
    const ProcessGrid grid(test::world(), layout);
    const auto [found, held] = logits_of(files, grid, weights, golden.ids);
    if (found.empty()) continue;
    const auto mine = columns_of(alone, vocabulary, held);
    ASSERT_EQ(found.size(), mine.size());
    EXPECT_EQ(std::memcmp(found.data(), mine.data(), mine.size() * sizeof(float)), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Tiny, Quantized,
                         testing::Values(StoredAs{"llama2", WeightStorage::q8_0, 1e-4, 0.02},
                                         StoredAs{"llama2", WeightStorage::q4_0, 5e-3, 0.3},
                                         StoredAs{"qwen2", WeightStorage::q8_0, 1e-4, 0.02},
                                         StoredAs{"mixtral", WeightStorage::q8_0, 1e-4, 0.02}),
                         [](const auto& which) {
                           return which.param.model + (which.param.weights == WeightStorage::q8_0 ? "_q8_0" : "_q4_0");
                         });

/// A prompt and tokens one by one, of weights that are interleaved between these passes and of such as were before.
TEST(WeightsInBlocks, GiveTheSameBitsWhileTheirRowsAreInterleaved) {
  const test::TemporaryFolder folder;
  const auto file = folder / "q8_0.gguf";
  quantize_folder(test::data_file("tiny/llama2"), Format::q8_0, file, [](io::GgufWriter&, const ModelFiles&) {}, {});
  const auto files = open_model(file);
  std::vector<int> ids(17);
  for (int i = 0; i < std::ssize(ids); ++i) ids[static_cast<std::size_t>(i)] = i * 37 % files.spec.vocab_size;
  for (const auto& layout : test::layouts_for(files.spec)) {
    SCOPED_TRACE(to_string(layout));
    const ProcessGrid grid(test::world(), layout);
    const auto passes = [&](bool finish_first) {
      const auto model = make_model(
          files, grid, {.numbers = {.type = DType::bf16}, .limits = {.batch_tokens = 64, .kv_tokens = most_ids}});
      if (finish_first) model->finish_loading();
      test::Sequences sequences(*model, most_ids, 1);
      const test::ToolsRecorder recorder;
      std::vector<float> all;
      const std::span<const int> prompt(ids.data(), 5), others(ids.data() + 5, 12);
      const auto add = [&](const BatchItem& item) {
        const auto logits = sequences.logits(Exec(), {&item, 1});
        all.insert(all.end(), logits.begin(), logits.end());
      };
      add(sequences.next(0, prompt, false, 5));
      for (const int& id : others) add(sequences.next(0, {&id, 1}, true, 5));
      const bool waits = host_reaches_memory && one_memory_node() && reads_interleaved(DType::bf16, Format::q8_0);
      const bool interleaved = std::ranges::count(recorder.kernels, "grist::parameters::interleave") > 0;
      EXPECT_EQ(interleaved, waits && !finish_first);
      return all;
    };
    const auto expected = passes(true), found = passes(false);
    ASSERT_EQ(found.size(), expected.size());
    EXPECT_EQ(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)), 0);
  }
}

/// Columns of 32 for every row, and not.
TEST(QuantizedParameters, HaveTheFormatsThatTheHeaderSays) {
  TensorRow row{.parts = {{4, Split::whole, 1, {}}}, .columns = 64};
  const auto format = [&](WeightStorage storage) {
    return format_of_part(nullptr, row, row.parts[0], "", storage, Format::f32);
  };
  EXPECT_EQ(format(WeightStorage::q8_0), Format::q8_0);
  EXPECT_EQ(format(WeightStorage::q4_0), Format::q4_0);
  row.least_bits = 8;
  EXPECT_EQ(format(WeightStorage::q8_0), Format::q8_0);
  EXPECT_EQ(format(WeightStorage::q4_0), Format::q8_0);
  row.least_bits = 16;
  EXPECT_EQ(format(WeightStorage::q4_0), Format::bf16);
  row.least_bits = 4;
  row.columns = 48;
  EXPECT_EQ(format(WeightStorage::q8_0), Format::bf16);
  const auto files = read_spec(test::data_file("tiny/qwen2_moe"));
  const auto table = tensor_table(files.spec, files.names);
  EXPECT_EQ(table.embedding.least_bits, 8);
  EXPECT_EQ(table.head.least_bits, 8);
  EXPECT_EQ(table.layers[1].router.least_bits, 16);
  EXPECT_EQ(table.layers[1].shared_gate.least_bits, 16);
  EXPECT_EQ(table.layers[1].qkv.least_bits, 4);
}

}  // namespace
