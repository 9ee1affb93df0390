// Real models of other families, from their GGUF files with the weights as stored: greedy ids by transformers at every
// layout, and what they take of memory. `./run models` gets the files.
#include "support/files.hpp"
#include "support/layouts.hpp"
#include "support/ranks.hpp"

#include <grist/backends/products.hpp>
#include <grist/generate/generation.hpp>
#include <grist/generate/loglikelihood.hpp>
#include <grist/text/chat_template.hpp>
#include <grist/text/tokenizer.hpp>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>
#include <span>

namespace {

using namespace grist;

struct Real {
  const char* reference;
  const char* file;
};

/// A row of this process' status in bytes: VmRSS is what is resident, VmHWM the most that was.
double status_of(std::string_view row) {
  std::ifstream status("/proc/self/status");
  std::string word;
  double kilobytes = 0;
  while (status >> word)
    if (word == row) status >> kilobytes;
  return kilobytes * 1024;
}

class RealModel : public testing::TestWithParam<Real> {
protected:
  void SetUp() override {
    path = std::filesystem::path(GRIST_MODELS_DIR) / GetParam().file;
    if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path;
    std::ofstream("/proc/self/clear_refs") << 5;  // the peak is counted from here
    before = status_of("VmRSS:");
    files = open_model(path);
    cases = nlohmann::json::parse(test::contents_of(test::data_file(std::string("real/") + GetParam().reference)))
                .at("cases");
    for (const auto& c : cases)
      requests.push_back({.prompt = c.at("prompt_ids"), .max_new_tokens = new_tokens, .ignore_eos = true});
  }

  /// Where two logits come within 0.01, rounding decides: the expected token is read instead, and the rest compared.
  void expect_equal_but_for_ties(Model& model, std::vector<int> prompt, std::vector<int> ids,
                                 std::span<const int> expected) {
    for (;;) {
      const auto differ = std::ranges::mismatch(ids, expected);
      if (differ.in2 == expected.end()) return;
      ASSERT_NE(differ.in1, ids.end()) << "only " << ids.size() << " tokens";
      prompt.insert(prompt.end(), expected.begin(), differ.in2);
      LogLikelihood scores(exec, model, static_cast<int>(model.limits().context));
      const auto score = [&](int id) {
        auto text = prompt;
        text.push_back(id);
        return scores.sum(text, prompt.size());
      };
      ASSERT_NEAR(score(*differ.in1), score(*differ.in2), 0.01) << "after " << prompt.size() << " tokens";
      prompt.push_back(*differ.in2);
      expected = {differ.in2 + 1, expected.end()};
      if (expected.empty()) return;
      const std::vector<Request> rest{
          {.prompt = prompt, .max_new_tokens = static_cast<int>(expected.size()), .ignore_eos = true}};
      Generation generation(exec, model, {}, rest);
      generation.run();
      ids = generation.completion(0).ids;
    }
  }

  static constexpr int new_tokens = 24;
  std::filesystem::path path;
  double before = 0;
  ModelFiles files;
  nlohmann::json cases;
  std::vector<Request> requests;
  Exec exec;
};

TEST_P(RealModel, ContinuesGreedilyAsTransformersDoes) {
  for (const auto& layout : test::layouts_for(files.spec)) {
    SCOPED_TRACE(to_string(layout));
    const ProcessGrid grid(test::world(), layout);
    const auto model = make_model(files, grid, {.limits = limits_for(requests, files.spec.max_positions)});
    Generation generation(exec, *model, {}, requests);
    generation.run();
    for (std::size_t i = 0; i < requests.size(); ++i) {
      SCOPED_TRACE(i);
      auto expected = cases[i].at("new_ids").get<std::vector<int>>();
      expected.resize(new_tokens);
      expect_equal_but_for_ties(*model, requests[i].prompt, generation.completion(static_cast<int>(i)).ids, expected);
    }
  }
}

TEST_P(RealModel, PromptsBecomeTheIdsOfTheReference) {
  const auto tokenizer = text::load_tokenizer(path);
  for (const auto& c : cases) {
    const bool chat = c.contains("chat");
    std::string prompt = c.at(chat ? "chat" : "prompt");
    if (chat) {
      const std::vector<text::Message> messages{{"user", prompt}};
      prompt = text::apply_chat_template(tokenizer->chat_template, messages, true, tokenizer->special_tokens);
    }
    EXPECT_EQ(tokenizer->encode(prompt, !chat), c.at("prompt_ids").get<std::vector<int>>()) << prompt;
  }
}

TEST_P(RealModel, TakesHardlyMoreMemoryThanItsFile) {
  const auto layout = test::layouts_for(files.spec).front();
  const ProcessGrid grid(test::world(), layout);
  const auto model = make_model(files, grid, {.limits = limits_for(requests, files.spec.max_positions)});
  Generation generation(exec, *model, {}, requests);
  generation.next();
  Products products;
  const auto plan = memory_plan(files, layout, grid.pp().rank(), grid.tp().rank(), {}, model->limits(), products);
  const double taken = grid.world().all_reduce(status_of("VmHWM:") - before);
  const double cache = grid.world().all_reduce(static_cast<double>(plan.kv_cache));
  EXPECT_LE(taken, 1.1 * (static_cast<double>(std::filesystem::file_size(path)) * (layout.pp > 1 ? 1.5 : 1) + cache) +
                       grid.world().size() * 64e6)
      << "64 MB for each rank's scratch and libraries; stages hold a tied matrix twice";
}

INSTANTIATE_TEST_SUITE_P(Gguf, RealModel,
                         testing::Values(Real{"qwen25_coder_05b.json", "qwen2.5-coder-0.5b-instruct.Q4_K_M.gguf"},
                                         Real{"gemma3_270m.json", "gemma-3-270m.Q4_K_M.gguf"}),
                         [](const auto& real) { return std::string(real.param.reference).substr(0, 5); });

}  // namespace
