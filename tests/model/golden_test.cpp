// Logits of random tiny models against transformers, at every layout of the ranks that run this test.
#include "support/compare.hpp"
#include "support/golden.hpp"
#include "support/layouts.hpp"
#include "support/refuses.hpp"

#include <grist/core/errors.hpp>
#include <grist/model/model.hpp>

#include <gtest/gtest.h>

namespace {

using namespace grist;
using test::GoldenCase;
using test::row_of;

constexpr Index sequence_rows = 64;  // of the KV cache, more than a case ever takes

struct Which {
  std::string model;
  DType type;
};

class Golden : public testing::TestWithParam<Which> {
protected:
  void SetUp() override {
    files = open_model(test::data_file("tiny/" + GetParam().model));
    cases = test::read_golden(GetParam().model);
    vocabulary = static_cast<std::size_t>(files.spec.vocab_size);
    layouts = test::layouts_for(files.spec);
    if (layouts.empty()) GTEST_SKIP() << GetParam().model << " has no layout for so many ranks";
  }

  [[nodiscard]] std::unique_ptr<Model> make(const ProcessGrid& grid, bool replay = false) const {
    return make_model(files, grid, {.type = GetParam().type,
                                    .limits = {.cache_tokens = sequence_rows * static_cast<Index>(cases.size()),
                                               .batch_tokens = 64,
                                               .batch_sequences = static_cast<int>(cases.size()),
                                               .logit_rows = static_cast<Index>(cases.size())},
                                    .replay = replay});
  }

  static BatchItem item(std::span<const int> ids, std::size_t position, std::size_t sequence) {
    return {ids, static_cast<int>(position), static_cast<Index>(sequence) * sequence_rows};
  }

  /// Rows of logits against golden ones. Ranks without logits have nothing to compare.
  void check(std::span<const float> actual, std::span<const float> expected) {
    if (actual.empty()) return;
    EXPECT_CLOSE(actual, expected, test::logit_tolerance(GetParam().type));
    const auto comparison = test::compare(actual, expected);
    worst = std::max(worst, comparison.worst / comparison.range);
    compared = true;
  }

  /// A model that says bf16 and computed in f32 would be as near as rounding weights and activations never is.
  void TearDown() override {
    if (compared && GetParam().type == DType::bf16) {
      EXPECT_GT(worst, 1e-3) << "this was not computed in bf16";
    }
  }

  ModelFiles files;
  std::vector<GoldenCase> cases;
  std::vector<Layout> layouts;
  std::size_t vocabulary = 0;
  double worst = 0;
  bool compared = false;
  Exec exec;
};

TEST_P(Golden, PrefillGivesTheLogitsOfEveryPosition) {
  for (const auto& layout : layouts) {
    SCOPED_TRACE(to_string(layout));
    const ProcessGrid grid(MPI_COMM_WORLD, layout);
    const auto model = make(grid);
    for (const auto& c : cases) check(model->all_logits(exec, item(c.ids, 0, 0)), c.logits);
  }
}

TEST_P(Golden, TokenByTokenGivesThemToo) {
  for (const auto& layout : layouts) {
    SCOPED_TRACE(to_string(layout));
    const ProcessGrid grid(MPI_COMM_WORLD, layout);
    const auto model = make(grid, true);
    for (const auto& c : cases) {
      std::vector<int> ids = c.ids;
      ids.insert(ids.end(), c.greedy_ids.begin(), c.greedy_ids.end());
      for (std::size_t t = 0; t < ids.size(); ++t) {
        const auto one = item(std::span(ids).subspan(t, 1), t, 1);
        const auto logits = model->forward(exec, {&one, 1});
        check(logits, t < c.ids.size() ? row_of(c.logits, t, vocabulary)
                                       : row_of(c.greedy_logits, t - c.ids.size(), vocabulary));
      }
    }
  }
}

TEST_P(Golden, AMixedBatchGivesEachSequenceItsOwn) {
  for (const auto& layout : layouts) {
    SCOPED_TRACE(to_string(layout));
    const ProcessGrid grid(MPI_COMM_WORLD, layout);
    const auto model = make(grid);
    // All but the last are prefilled together; then they decode while the last one's prompt comes in.
    const std::size_t last = cases.size() - 1;
    std::vector<BatchItem> items;
    for (std::size_t s = 0; s < last; ++s) items.push_back(item(cases[s].ids, 0, s));
    auto logits = model->forward(exec, items);
    for (std::size_t s = 0; s < last && !logits.empty(); ++s)
      check(row_of(logits, s, vocabulary), row_of(cases[s].logits, cases[s].ids.size() - 1, vocabulary));
    items.clear();
    for (std::size_t s = 0; s < last; ++s)
      items.push_back(item(std::span(cases[s].greedy_ids).first(1), cases[s].ids.size(), s));
    items.push_back(item(cases[last].ids, 0, last));
    logits = model->forward(exec, items);
    for (std::size_t s = 0; s < last && !logits.empty(); ++s)
      check(row_of(logits, s, vocabulary), row_of(cases[s].greedy_logits, 0, vocabulary));
    if (!logits.empty())
      check(row_of(logits, last, vocabulary), row_of(cases[last].logits, cases[last].ids.size() - 1, vocabulary));
  }
}

std::vector<Which> all() {
  std::vector<Which> which;
  for (const char* model : {"llama2", "llama31", "llama_bias", "llama_bias_sharded", "mistral"})
    for (const DType type : {DType::f32, DType::bf16}) which.push_back({model, type});
  return which;
}
INSTANTIATE_TEST_SUITE_P(Tiny, Golden, testing::ValuesIn(all()), [](const auto& which) {
  return which.param.model + "_" + std::string(name_of(which.param.type));
});

// The same weights in a GGUF file, in mixed storage types that hold them exactly.
class GoldenGguf : public testing::TestWithParam<std::string> {};

TEST_P(GoldenGguf, GivesTheLogitsOfItsHuggingFaceTwin) {
  const auto files = open_model(test::data_file("gguf/" + GetParam() + ".gguf"));
  const auto cases = test::read_golden(GetParam());
  const Exec exec;
  for (const auto& layout : test::layouts_for(files.spec)) {
    SCOPED_TRACE(to_string(layout));
    const ProcessGrid grid(MPI_COMM_WORLD, layout);
    const auto model = make_model(files, grid, {.limits = {.cache_tokens = sequence_rows, .batch_tokens = 64}});
    for (const auto& c : cases) {
      const auto logits = model->all_logits(exec, {c.ids, 0, 0});
      if (!logits.empty()) EXPECT_CLOSE(logits, c.logits, test::logit_tolerance(DType::f32));
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Tiny, GoldenGguf, testing::Values("llama2", "llama31"));

TEST(Config, TheOldFormGivesTheSameSpecAsTransformers5) {
  for (const char* name : {"llama2", "llama31"}) {
    const auto now = read_spec(test::data_file("tiny/" + std::string(name) + "/config.json"));
    const auto old = read_spec(test::data_file("tiny/" + std::string(name) + "/config_old.json"));
    EXPECT_EQ(now.inverse_frequencies, old.inverse_frequencies);
    EXPECT_EQ(now.stored_type, old.stored_type);
    EXPECT_EQ(now.eos, old.eos);
    EXPECT_EQ(now.tied_embeddings, old.tied_embeddings);
    EXPECT_EQ(parameter_count(now), parameter_count(old));
  }
}

TEST(Config, NotesOfTransformersAreNoKeys) {
  const test::TemporaryFolder folder;
  auto config = nlohmann::json::parse(test::contents_of(test::data_file("tiny/llama2/config.json")));
  config["_model_name_or_path"] = "elsewhere";
  folder.write("config.json", config.dump());
  EXPECT_NO_THROW(read_spec(folder / "config.json"));
}

TEST(GgufKeys, ThatNobodyUnderstandsAreListed) {
  const test::TemporaryFolder folder;
  auto bytes = test::contents_of(test::data_file("gguf/llama2.gguf"));
  // A key of the same length in the place of one that has a default.
  const std::string known = "llama.rope.freq_base", unknown = "llama.rope.freq_lure";
  const auto at = bytes.find(known);
  ASSERT_NE(at, std::string::npos);
  bytes.replace(at, known.size(), unknown);
  EXPECT_THAT([&] { read_spec(folder.write("model.gguf", bytes)); },
              test::Refuses({"model.gguf", "keys that are not understood", "'llama.rope.freq_lure'"}));
}

}  // namespace
