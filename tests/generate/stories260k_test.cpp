// A trained model of 260 thousand parameters, whose tokens, text and logits an independent implementation computed.
#include "support/compare.hpp"
#include "support/files.hpp"
#include "support/layouts.hpp"

#include <grist/generate/generation.hpp>

#include <gtest/gtest.h>

#include <sstream>

namespace {

using namespace grist;

class Stories260K : public testing::Test {
protected:
  void SetUp() override {
    if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no " << folder;
    files = open_model(folder / "hf");
    std::istringstream tokens(test::contents_of(folder / "ref_greedy_tokens.txt"));
    for (int id = 0; tokens >> id;) ids.push_back(id);
    layouts = test::layouts_for(files.spec);
    if (layouts.empty()) GTEST_SKIP() << "no layout for so many ranks";
  }

  std::filesystem::path folder = test::shared_file("stories260K");
  ModelFiles files;
  std::vector<int> ids;  // BOS and what follows greedily
  std::vector<Layout> layouts;
  Exec exec;
};

TEST_F(Stories260K, GreedyDecodingGivesEveryTokenAndTheText) {
  ASSERT_EQ(ids.size(), 257U);
  const auto tokenizer = io::load_tokenizer(folder / "hf");
  const std::vector<Request> requests = {{.prompt = {ids[0]}, .max_new_tokens = 256}};
  for (const auto& layout : layouts) {
    SCOPED_TRACE(to_string(layout));
    const ProcessGrid grid(MPI_COMM_WORLD, layout);
    const auto model = make_model(files, grid, {.limits = limits_for(requests, files.spec.max_positions)});
    Generation generation(exec, *model, tokenizer.get(), requests);
    generation.run();
    const auto& completion = generation.completions()[0];
    EXPECT_EQ(completion.ids, std::vector<int>(ids.begin() + 1, ids.end()));
    EXPECT_EQ(completion.text, test::contents_of(folder / "ref_greedy_text.txt"));
  }
}

TEST_F(Stories260K, TheFirst64RowsOfLogitsAgree) {
  ids.resize(64);
  const auto expected = test::floats_of(folder / "ref_logits_first64.f32");
  for (const auto& layout : layouts) {
    SCOPED_TRACE(to_string(layout));
    const ProcessGrid grid(MPI_COMM_WORLD, layout);
    const auto model = make_model(files, grid, {.limits = {.cache_tokens = 64, .batch_tokens = 64, .logit_rows = 64}});
    const auto logits = model->all_logits(exec, {ids, 0, 0});
    if (logits.empty()) continue;
    EXPECT_LE(test::compare(logits, expected).worst, 1e-4);
  }
}

}  // namespace
