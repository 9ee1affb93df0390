// A real chat model from its GGUF file: token ids, greedy continuations and perplexity, as transformers computes them.
#include "support/files.hpp"
#include "support/layouts.hpp"
#include "support/providers.hpp"
#include "support/specs.hpp"

#include <grist/generate/perplexity.hpp>
#include <grist/generate/generation.hpp>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>

namespace {

using namespace grist;
using test::in_bf16;
using test::in_f32;

/// The first `count` characters of UTF-8 text.
std::string first_characters(const std::string& text, std::size_t count) {
  std::size_t end = 0;
  for (std::size_t seen = 0; end < text.size(); ++end) {
    if ((static_cast<unsigned char>(text[end]) & 0xC0U) != 0x80U && seen++ == count) break;
  }
  return text.substr(0, end);
}


/// Tests whose claim does not depend on the layout do their work on one rank alone.
#define ONE_RANK_IS_ENOUGH() \
  if (layouts.front().ranks() > 1) return

/// Once from its GGUF file, once from the folder that transformers saved of it.
class SmolLM2 : public testing::TestWithParam<std::filesystem::path> {
protected:
  void SetUp() override {
    if (!std::filesystem::exists(GetParam())) GTEST_SKIP() << "no " << GetParam();
    files = open_model(GetParam());
    tokenizer = text::load_tokenizer(GetParam());
    layouts = test::layouts_for(files.spec);
    if (layouts.empty()) GTEST_SKIP() << "no layout for so many ranks";
  }

  /// All cases of a reference file, in one batch.
  void check_continuations(const std::filesystem::path& file) {
    const auto reference = nlohmann::json::parse(test::contents_of(file));
    std::vector<Request> requests;
    for (const auto& c : reference.at("cases")) {
      const auto prompt = tokenizer->encode(c.at("prompt").get<std::string>(), true);
      EXPECT_EQ(prompt, c.at("prompt_ids").get<std::vector<int>>());
      requests.push_back({.prompt = prompt, .max_new_tokens = static_cast<int>(c.at("new_ids").size())});
    }
    for (const auto& layout : layouts) {
      SCOPED_TRACE(to_string(layout));
      const ProcessGrid grid(test::world(), layout);
      const auto model = make_model(files, grid, {.limits = limits_for(requests, files.spec.max_positions)});
      Generation generation(exec, *model, {.tokenizer = tokenizer.get()}, requests);
      generation.run();
      for (std::size_t i = 0; i < requests.size(); ++i)
        EXPECT_EQ(generation.completion(static_cast<int>(i)).ids,
                  reference.at("cases")[i].at("new_ids").get<std::vector<int>>());
    }
  }

  /// Perplexity of the first windows of a text within `tolerance` of the reference, at every layout.
  double check_perplexity(const std::vector<int>& ids, int context, Index windows, double expected,
                          const ModelNumbers& numbers, double tolerance) {
    double found = 0;
    for (const auto& layout : layouts) {
      SCOPED_TRACE(to_string(layout));
      const ProcessGrid grid(test::world(), layout);
      const auto model = make_model(files, grid, {.numbers = numbers, .limits = limits_for_windows(context)});
      found = perplexity(exec, *model, ids, {.context = context, .max_windows = windows}).value();
      EXPECT_NEAR(found, expected, tolerance * expected);
    }
    return found;
  }

  ModelFiles files;
  std::unique_ptr<text::Tokenizer> tokenizer;
  std::vector<Layout> layouts;
  Exec exec;
};

TEST_P(SmolLM2, ContinuesGreedilyAsTransformersDoes) { check_continuations(test::data_file("smollm2/golden.json")); }

TEST_P(SmolLM2, ContinuesAnotherReferenceToo) {
  ONE_RANK_IS_ENOUGH();
  check_continuations(test::data_file("smollm2/reference.json"));
}

TEST_P(SmolLM2, PerplexityIsThatOfTransformers) {
  const auto golden = nlohmann::json::parse(test::contents_of(test::data_file("smollm2/golden.json")));
  const auto& expected = golden.at("perplexity");
  const auto ids = tokenizer->encode(test::contents_of(test::data_file(expected.at("text").get<std::string>())), true);
  EXPECT_EQ(ids, golden.at("sample_ids").get<std::vector<int>>());
  const int context = expected.at("context");
  if (layouts.front().ranks() > 2) {  // more ranks than a small machine has cores: two windows tell as much
    const double nll = (expected.at("window_nll")[0].get<double>() + expected.at("window_nll")[1].get<double>()) / 2;
    check_perplexity(ids, context, 2, std::exp(nll), in_f32, 1e-3);
    return;
  }
  const double ppl = expected.at("ppl");
  const double f32 = check_perplexity(ids, context, 0, ppl, in_f32, 1e-3);
  if (layouts.front().ranks() > 1) return;
  const double bf16 = check_perplexity(ids, context, 0, ppl, in_bf16, 1e-2);
  EXPECT_GT(std::abs(bf16 - ppl), 1e-6 * ppl) << "this was not computed in bf16";
  EXPECT_NE(f32, bf16);
  const double int8 =
      check_perplexity(ids, context, 0, bf16, {.type = DType::bf16, .kv_type = KvType::int8}, 1e-2);
  EXPECT_NE(int8, bf16);
}

TEST_P(SmolLM2, PerplexityOfWikiTextIsThatOfTransformers) {
  ONE_RANK_IS_ENOUGH();
  const auto file = test::shared_file("wikitext2/wiki.test.lf.txt");
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "no " << file;
  const auto reference =
      nlohmann::json::parse(test::contents_of(test::data_file("smollm2/reference.json"))).at("perplexity");
  constexpr std::size_t characters = 60000;  // what the reference took
  const auto ids = tokenizer->encode(first_characters(test::contents_of(file), characters), true);
  EXPECT_EQ(ids.size(), reference.at("n_ids").get<std::size_t>());
  const double ppl = reference.at("ppl");
  check_perplexity(ids, reference.at("context"), reference.at("windows"), ppl, in_f32, 1e-3);
  check_perplexity(ids, reference.at("context"), reference.at("windows"), ppl, in_bf16, 1e-2);
}

TEST_P(SmolLM2, ALongPromptInABatchGivesWhatItGivesAlone) {
  ONE_RANK_IS_ENOUGH();
  auto text = tokenizer->encode(test::contents_of(test::data_file("text/sample.txt")), true);
  text.resize(prefill_tokens + 90);  // two pieces
  std::vector<Request> requests;
  for (const std::size_t length : {std::size_t{3}, text.size(), std::size_t{40}, std::size_t{1}}) {
    requests.push_back({.prompt = {text.begin(), text.begin() + static_cast<std::ptrdiff_t>(length)},
                        .max_new_tokens = 8,
                        .sampling = {.temperature = 0.8F, .top_p = 0.95F, .seed = 7}});
  }
  const auto& layout = layouts.front();
  const ProcessGrid grid(test::world(), layout);
  for (const DType type : {DType::f32, DType::bf16}) {
    const auto model = make_model(files, grid, {.numbers = {.type = type, .kv_type = kv_type_of(type)},
                                                .products = test::invariant_gemm(),
                                                .limits = limits_for(requests, files.spec.max_positions)});
    Generation together(exec, *model, {.tokenizer = tokenizer.get()}, requests);
    together.run();
    for (std::size_t i = 0; i < requests.size(); ++i) {
      Generation alone(exec, *model, {.tokenizer = tokenizer.get()}, {requests[i]});
      alone.run();
      EXPECT_EQ(together.completion(static_cast<int>(i)).ids, alone.completion(0).ids)
          << "prompt " << i << " in " << name_of(type);
      EXPECT_EQ(together.completion(static_cast<int>(i)).text, alone.completion(0).text);
    }
  }
}

// `./run test` gets the file, tests/reference/smollm2_folder.py makes the folder.
INSTANTIATE_TEST_SUITE_P(gguf, SmolLM2, testing::Values(test::smollm2_file()));
INSTANTIATE_TEST_SUITE_P(folder, SmolLM2, testing::Values(test::smollm2_folder()));

}  // namespace
