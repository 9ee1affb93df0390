// Generation on a random tiny model: what a prompt gives does not depend on the others, on the layout, or on how it is read.
#include "support/golden.hpp"
#include "support/layouts.hpp"
#include "support/providers.hpp"

#include <grist/core/errors.hpp>
#include <grist/generate/generation.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace {

using namespace grist;
using testing::HasSubstr;
using testing::ThrowsMessage;

class TinyGeneration : public testing::Test {
protected:
  void SetUp() override {
    files = open_model(test::data_file("tiny/llama2"));
    tokenizer = io::load_tokenizer(test::data_file("tiny/llama2"));
    cases = test::read_golden("llama2");
    layouts = test::layouts_for(files.spec);
    if (layouts.empty()) GTEST_SKIP() << "no layout for so many ranks";
    grid = std::make_unique<ProcessGrid>(MPI_COMM_WORLD, layouts.back());  // as much tensor parallelism as there can be
    model = make(*grid, DType::f32);
  }

  [[nodiscard]] std::unique_ptr<Model> make(const ProcessGrid& on, DType type) const {
    return make_model(files, on, {.type = type, .gemm = test::invariant_gemm(),
                                  .limits = {.cache_tokens = 4 * context(),
                                             .batch_tokens = prefill_chunk + 4 * few_tokens,
                                             .batch_sequences = 4,
                                             .logit_rows = 4}});
  }
  [[nodiscard]] Index context() const { return files.spec.max_positions; }

  [[nodiscard]] Request greedy(std::size_t number, int new_tokens = 12) const {
    return {.prompt = cases[number].ids, .max_new_tokens = new_tokens};
  }
  /// Prompts of 1, 2, ... tokens and of all cases, drawn at random.
  [[nodiscard]] std::vector<Request> many() const {
    std::vector<Request> requests;
    for (std::size_t i = 0; i < cases.size(); ++i) requests.push_back(greedy(i));
    for (const std::size_t length : {1, 4, 5, 6}) {
      auto request = greedy(1);
      request.prompt.resize(length);
      request.sampling = {.temperature = 1.0F, .top_k = 40, .seed = 11};
      requests.push_back(request);
    }
    return requests;
  }
  Completion alone(Model& on, const Request& request) {
    Generation generation(exec, on, tokenizer.get(), {request});
    generation.run();
    return generation.completions()[0];
  }

  ModelFiles files;
  std::unique_ptr<io::Tokenizer> tokenizer;
  std::vector<test::GoldenCase> cases;
  std::vector<Layout> layouts;
  std::unique_ptr<ProcessGrid> grid;
  std::unique_ptr<Model> model;
  Exec exec;
};

TEST_F(TinyGeneration, FollowsTransformersGreedily) {
  for (const auto& layout : layouts) {
    SCOPED_TRACE(to_string(layout));
    const ProcessGrid other(MPI_COMM_WORLD, layout);
    const auto there = make(other, DType::f32);
    for (std::size_t i = 0; i < cases.size(); ++i) {
      const auto completion = alone(*there, greedy(i));
      EXPECT_EQ(completion.ids, cases[i].greedy_ids);
      EXPECT_EQ(completion.finish, Finish::length);
    }
  }
}

TEST_F(TinyGeneration, ABatchGivesEachPromptWhatItGivesAlone) {
  for (const DType type : {DType::f32, DType::bf16}) {
    const auto typed = make(*grid, type);
    const auto requests = many();  // more than the model takes at a time: some wait
    Generation together(exec, *typed, tokenizer.get(), requests);
    together.run();
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const auto single = alone(*typed, requests[i]);
      EXPECT_EQ(together.completions()[i].ids, single.ids) << "prompt " << i << " in " << name_of(type);
      EXPECT_EQ(together.completions()[i].text, single.text);
    }
  }
}

TEST_F(TinyGeneration, LogitsAreTheSameBitsAloneAndAmongOthers) {
  for (const DType type : {DType::f32, DType::bf16}) {
    const auto typed = make(*grid, type);
    const auto vocabulary = static_cast<std::size_t>(files.spec.vocab_size);
    std::vector<std::vector<float>> expected;
    std::vector<BatchItem> items;
    for (const std::size_t length : {1, 4, 5, 13}) {  // few tokens first
      const BatchItem item{std::span(cases[2].ids).first(length), 0, static_cast<Index>(items.size()) * context()};
      const auto logits = typed->forward(exec, {&item, 1});
      expected.emplace_back(logits.begin(), logits.end());
      items.push_back(item);
    }
    const auto logits = typed->forward(exec, items);
    for (std::size_t i = 0; i < items.size() && !logits.empty(); ++i) {
      const auto row = test::row_of(logits, i, vocabulary);
      EXPECT_TRUE(std::ranges::equal(row, expected[i])) << "item " << i << " in " << name_of(type);
    }
  }
}

TEST_F(TinyGeneration, EqualPromptsDrawDifferently) {
  auto request = greedy(0);
  request.sampling = {.temperature = 2.0F, .seed = 3};
  Generation generation(exec, *model, tokenizer.get(), {request, request});
  generation.run();
  EXPECT_NE(generation.completions()[0].ids, generation.completions()[1].ids);
}

TEST_F(TinyGeneration, IteratorAndCallbackGiveTheSameEvents) {
  std::vector<TokenEvent> called, iterated;
  Generation first(exec, *model, tokenizer.get(), many());
  first.run([&](const TokenEvent& event) { called.push_back(event); });
  Generation second(exec, *model, tokenizer.get(), many());
  for (const TokenEvent& event : second) iterated.push_back(event);
  ASSERT_EQ(called.size(), iterated.size());
  std::vector<std::string> texts(many().size());
  for (std::size_t i = 0; i < called.size(); ++i) {
    EXPECT_EQ(called[i].id, iterated[i].id);
    EXPECT_EQ(called[i].text, iterated[i].text);
    texts[static_cast<std::size_t>(called[i].sequence)] += called[i].text;
  }
  for (std::size_t i = 0; i < texts.size(); ++i) EXPECT_EQ(texts[i], first.completions()[i].text);
}

TEST_F(TinyGeneration, AnEndTokenEndsAndIsNoText) {
  auto request = greedy(0);
  request.eos = {cases[0].greedy_ids[4]};
  const auto completion = alone(*model, request);
  const auto first = std::ranges::find(cases[0].greedy_ids, request.eos[0]);
  EXPECT_EQ(completion.ids, std::vector<int>(cases[0].greedy_ids.begin(), first + 1));
  EXPECT_EQ(completion.finish, Finish::stop);
  EXPECT_EQ(completion.text, tokenizer->decode(std::vector<int>(cases[0].greedy_ids.begin(), first), true));
}

TEST_F(TinyGeneration, AStopTextEndsAndIsCutOff) {
  const auto whole = alone(*model, greedy(0)).text;
  ASSERT_GE(whole.size(), 4U);
  auto request = greedy(0);
  request.stop = {whole.substr(whole.size() / 2, 2)};
  const auto completion = alone(*model, request);
  EXPECT_EQ(completion.finish, Finish::stop);
  EXPECT_EQ(completion.text, whole.substr(0, whole.find(request.stop[0])));
}

TEST_F(TinyGeneration, AConversationIsNotComputedTwice) {
  Conversation conversation;
  Generation first(exec, *model, tokenizer.get(), {greedy(2)}, &conversation);
  first.run();
  // All but the last new token, which was never fed.
  EXPECT_EQ(conversation.cached.size(), cases[2].ids.size() + cases[2].greedy_ids.size() - 1);
  auto next = greedy(2);
  next.prompt.insert(next.prompt.end(), cases[2].greedy_ids.begin(), cases[2].greedy_ids.end());
  next.prompt.insert(next.prompt.end(), cases[0].ids.begin(), cases[0].ids.end());
  const auto expected = alone(*make(*grid, DType::f32), next).ids;  // a model of its own: the cache is the conversation's
  Generation second(exec, *model, tokenizer.get(), {next}, &conversation);
  second.run();
  EXPECT_EQ(second.completions()[0].ids, expected);
  EXPECT_EQ(second.completions()[0].cached_tokens, next.prompt.size() - cases[0].ids.size() - 1);
  // A history that was changed is computed again from where it differs.
  next.prompt[3] = next.prompt[3] == 5 ? 6 : 5;
  Generation changed(exec, *model, tokenizer.get(), {next}, &conversation);
  changed.run();
  EXPECT_EQ(changed.completions()[0].cached_tokens, 3U);
  EXPECT_EQ(changed.completions()[0].ids, alone(*model, next).ids);
}

TEST_F(TinyGeneration, TheContextEndsAGeneration) {
  auto request = greedy(0, 100000);
  const auto completion = alone(*model, request);
  EXPECT_EQ(static_cast<Index>(request.prompt.size() + completion.ids.size()), context());
  EXPECT_EQ(completion.finish, Finish::length);
}

TEST_F(TinyGeneration, RefusesWhatItCannotServe) {
  const auto generate = [&](Request request) { return [this, request] { alone(*model, request); }; };
  auto request = greedy(0);
  request.prompt = {};
  EXPECT_THAT(generate(request), ThrowsMessage<InputError>(HasSubstr("prompt 0 has no tokens")));
  request.prompt = {1, static_cast<int>(files.spec.vocab_size)};
  EXPECT_THAT(generate(request), ThrowsMessage<InputError>(HasSubstr("is out of range, the vocabulary has")));
  request.prompt = {-1};
  EXPECT_THAT(generate(request), ThrowsMessage<InputError>(HasSubstr("token id -1")));
  request.prompt.assign(static_cast<std::size_t>(context()), 5);
  EXPECT_THAT(generate(request), ThrowsMessage<InputError>(HasSubstr("the context is")));
  request = greedy(0, 0);
  EXPECT_THROW(generate(request)(), UsageError);
  request = greedy(0);
  request.sampling.top_p = 1.5F;
  EXPECT_THROW(generate(request)(), UsageError);
}

}  // namespace
