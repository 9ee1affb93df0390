// A trained model of 260 thousand parameters, whose tokens, text and logits an independent implementation computed.
#include "support/compare.hpp"
#include "support/files.hpp"
#include "support/layouts.hpp"
#include "support/sequences.hpp"

#include <grist/generate/generation.hpp>

#include <gtest/gtest.h>

#include <sstream>

namespace {

using namespace grist;

class Stories260K : public testing::Test {
protected:
  void SetUp() override {
    files = open_model(folder);
    std::istringstream tokens(test::contents_of(folder / "ref_greedy_tokens.txt"));
    for (int id = 0; tokens >> id;) ids.push_back(id);
    layouts = test::layouts_for(files.spec);
    if (layouts.empty()) GTEST_SKIP() << "no layout for so many ranks";
  }

  std::filesystem::path folder = test::data_file("stories260K");
  ModelFiles files;
  std::vector<int> ids;  // BOS and what follows greedily
  std::vector<Layout> layouts;
  Exec exec;
};

TEST_F(Stories260K, GreedyDecodingGivesEveryTokenAndTheText) {
  ASSERT_EQ(ids.size(), 257U);
  const auto tokenizer = text::load_tokenizer(test::data_file("tokenizers/stories260K"));
  const std::vector<Request> requests = {{.prompt = {ids[0]}, .max_new_tokens = 256, .ignore_eos = true}};
  for (const auto& layout : layouts) {
    SCOPED_TRACE(to_string(layout));
    const ProcessGrid grid(test::world(), layout);
    const auto model = make_model(files, grid, {.limits = limits_for(requests, files.spec.max_positions)});
    Generation generation(exec, *model, {.tokenizer = tokenizer.get()}, requests);
    generation.run();
    const auto& completion = generation.completion(0);
    EXPECT_EQ(completion.ids, std::vector<int>(ids.begin() + 1, ids.end()));
    EXPECT_EQ(completion.text, test::contents_of(folder / "ref_greedy_text.txt"));
  }
}

TEST_F(Stories260K, TheFirst64RowsOfLogitsAgree) {
  ids.resize(64);
  const auto expected = test::floats_of(folder / "ref_logits_first64.f32");
  for (const auto& layout : layouts) {
    SCOPED_TRACE(to_string(layout));
    const ProcessGrid grid(test::world(), layout);
    const auto model =
        make_model(files, grid, {.limits = {.batch_tokens = 64, .logit_rows = 64, .context = 64, .kv_tokens = 64}});
    test::Sequences one(*model, 64, 1);
    const auto logits = one.all_logits(exec, one.next(0, ids, false, 64));
    const auto columns = model->vocabulary();
    std::vector<float> mine;  // of the columns that this rank has
    for (std::size_t row = 0; row < 64; ++row) {
      const auto begin = expected.begin() + static_cast<std::ptrdiff_t>(row) * files.spec.vocab_size;
      mine.insert(mine.end(), begin + columns.begin, begin + columns.end);
    }
    if (!logits.empty()) {
      EXPECT_LE(test::compare(logits, mine).worst, 1e-4);
    }
  }
}

}  // namespace
