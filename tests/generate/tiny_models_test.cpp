// Generation on random tiny models: what a prompt gives does not depend on the others, on the layout, on lost pages, or
// on how it is read.
#include "support/golden.hpp"
#include "support/layouts.hpp"
#include "support/providers.hpp"
#include "support/sequences.hpp"
#include "support/specs.hpp"

#include <grist/core/errors.hpp>
#include <grist/generate/draft_model.hpp>
#include <grist/generate/generation.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <format>

namespace {

using namespace grist;
using test::in_f32;
using test::name_of_test;

constexpr int sequences = 4;

constexpr ModelNumbers all_numbers[] = {in_f32,
                                        {.type = DType::bf16, .kv_type = KvType::bf16},
                                        {.type = DType::bf16, .kv_type = KvType::int8}};
std::string name_of(const ModelNumbers& numbers) {
  return std::format("{}, cache in {}", name_of(numbers.type), name_of(numbers.kv_type));
}

/// Dense models, some whose queries see a window of keys, one with experts.
class TinyGeneration : public testing::TestWithParam<const char*> {
protected:
  void SetUp() override {
    const std::string name = GetParam();
    files = open_model(test::data_file("tiny/" + name));
    tokenizer = text::load_tokenizer(test::data_file("tiny/" + name));
    cases = test::read_golden(name);
    layouts = test::layouts_for(files.spec);
    ASSERT_FALSE(layouts.empty());
    grid = std::make_unique<ProcessGrid>(test::world(), layouts.back());  // as much tensor parallelism as there can be
    model = make(*grid, in_f32);
  }

  [[nodiscard]] std::unique_ptr<Model> make(const ProcessGrid& on, const ModelNumbers& numbers) const {
    return make_model(files, on, {.numbers = numbers,
                                  .products = test::invariant_gemm(),
                                  .limits = {.batch_tokens = prefill_tokens + sequences - 1,
                                             .batch_sequences = sequences,
                                             .logit_rows = sequences,
                                             .context = context(),
                                             .kv_tokens = sequences * context()}});
  }
  [[nodiscard]] Index context() const { return files.spec.max_positions; }
  [[nodiscard]] SchedulerOptions options(Index kv_tokens = 0) const {
    return {kv_tokens, tokenizer.get()};
  }

  [[nodiscard]] Request greedy(std::size_t number, int new_tokens = 12) const {
    return {.prompt = cases[number].ids, .max_new_tokens = new_tokens, .ignore_eos = true};
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
    Generation generation(exec, on, options(), {request});
    generation.run();
    return generation.completion(0);
  }

  ModelFiles files;
  std::unique_ptr<text::Tokenizer> tokenizer;
  std::vector<test::GoldenCase> cases;
  std::vector<Layout> layouts;
  std::unique_ptr<ProcessGrid> grid;
  std::unique_ptr<Model> model;
  Exec exec;
};

TEST_P(TinyGeneration, FollowsTransformersGreedily) {
  for (const auto& layout : layouts) {
    SCOPED_TRACE(to_string(layout));
    const ProcessGrid other(test::world(), layout);
    const auto there = make(other, in_f32);
    for (std::size_t i = 0; i < cases.size(); ++i) {
      const auto completion = alone(*there, greedy(i));
      EXPECT_EQ(completion.ids, cases[i].greedy_ids);
      EXPECT_EQ(completion.finish, Finish::length);
    }
  }
}

TEST_P(TinyGeneration, APromptOfSeveralPiecesGivesWhatOneRankGives) {
  files.spec.max_positions = 2 * prefill_tokens;  // no table of positions ends before
  auto request = greedy(cases.size() - 1, 4);
  const auto ids = request.prompt;
  while (std::ssize(request.prompt) < prefill_tokens + 90)
    request.prompt.insert(request.prompt.end(), ids.begin(), ids.end());
  const ProcessGrid one(comm_self(), {});
  for (const auto& numbers : {in_f32, ModelNumbers{.kv_type = KvType::int8}}) {
    const auto expected = alone(*make(one, numbers), request).ids;
    for (const auto& layout : layouts) {
      SCOPED_TRACE(to_string(layout));
      const ProcessGrid other(test::world(), layout);
      EXPECT_EQ(alone(*make(other, numbers), request).ids, expected) << name_of(numbers);
    }
  }
}

TEST_P(TinyGeneration, ABatchGivesEachPromptWhatItGivesAlone) {
  for (const auto& numbers : all_numbers) {
    const auto typed = make(*grid, numbers);
    const auto requests = many();  // more than the model takes at a time: some wait
    Generation together(exec, *typed, options(), requests);
    together.run();
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const auto single = alone(*typed, requests[i]);
      EXPECT_EQ(together.completion(static_cast<int>(i)).ids, single.ids)
          << "prompt " << i << " in " << name_of(numbers);
      EXPECT_EQ(together.completion(static_cast<int>(i)).text, single.text);
    }
  }
}

TEST_P(TinyGeneration, SuspendedAndResumedGivesWhatItGivesUndisturbed) {
  for (const auto& numbers : all_numbers) {
    const auto typed = make(*grid, numbers);
    Generation tight(exec, *typed, options(static_cast<Index>(cases.size() + 2) * kv_page_rows), [&] {
      std::vector<Request> requests;
      for (std::size_t i = 0; i < cases.size(); ++i) requests.push_back(greedy(i, 150));
      for (auto& request : requests) request.sampling = {.temperature = 1.5F, .seed = 4};
      return requests;
    }());
    tight.run();
    int suspensions = 0;
    for (std::size_t i = 0; i < cases.size(); ++i) {
      auto request = greedy(i, 150);
      request.sampling = {.temperature = 1.5F, .seed = 4};
      EXPECT_EQ(tight.completion(static_cast<int>(i)).ids, alone(*typed, request).ids)
          << "prompt " << i << " in " << name_of(numbers);
      suspensions += tight.completion(static_cast<int>(i)).suspensions;
    }
    EXPECT_GT(suspensions, 0);
  }
}

TEST_P(TinyGeneration, TokensComputedAgainTogetherHaveTheBitsOfTokensComputedOneByOne) {
  for (const auto& numbers : all_numbers) {
    const auto typed = make(*grid, numbers);
    test::Sequences two(*typed, context(), 2);
    const auto& ids = std::ranges::max_element(cases, {}, [](const auto& c) { return c.ids.size(); })->ids;
    const int length = static_cast<int>(ids.size()), prompt = length / 3;
    const auto run = [&](std::size_t sequence, int begin, int end) {
      const auto part = std::span(ids).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
      const auto item = two.next(sequence, part, begin >= prompt, prompt);
      return two.logits(exec, {&item, 1});
    };
    run(0, 0, prompt);
    std::vector<float> expected;
    for (int i = prompt; i < length; ++i) expected = run(0, i, i + 1);
    run(1, 0, prompt);
    EXPECT_EQ(run(1, prompt, length), expected) << name_of(numbers);
    EXPECT_EQ(expected.empty(), !typed->last_stage());
  }
}

/// The model drafts for itself, drawn tokens too: nearly all guesses are right.
TEST_P(TinyGeneration, GuessesOfADraftModelLeaveTheAnswersAsTheyAre) {
  constexpr int draft_tokens = 4;
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const auto& layout : layouts) {
      SCOPED_TRACE(std::format("{} in {}", to_string(layout), name_of(type)));
      const ProcessGrid all(test::world(), layout), first_stage(all.tp().handle(), {.tp = layout.tp});
      ModelOptions settings{.numbers = {.type = type, .kv_type = kv_type_of(type)},
                            .products = test::invariant_gemm(),
                            .limits = {.batch_tokens = prefill_tokens + sequences * (1 + draft_tokens),
                                       .batch_sequences = sequences,
                                       .logit_rows = sequences * (1 + draft_tokens),
                                       .context = context(),
                                       .kv_tokens = sequences * context()}};
      const auto large = make_model(files, all, settings);
      settings.limits = draft_limits(settings.limits, context());
      const auto draft = all.pp().rank() == 0 ? make_model(files, first_stage, settings) : nullptr;
      auto requests = many();
      for (auto& request : requests) request.max_new_tokens = 16;
      Generation guessing(exec, *large,
                          {0, tokenizer.get(), draft_tokens, std::make_unique<ModelDrafter>(exec, *large, draft.get())},
                          requests);
      guessing.run();
      Generation plain(exec, *large, options(), requests);
      plain.run();
      int guessed = 0, right = 0;
      for (std::size_t i = 0; i < requests.size(); ++i) {
        const auto& completion = guessing.completion(static_cast<int>(i));
        EXPECT_EQ(completion.ids, plain.completion(static_cast<int>(i)).ids) << "prompt " << i;
        guessed += completion.guessed;
        right += completion.guessed_right;
      }
      EXPECT_GT(right, guessed * 9 / 10);
      EXPECT_GT(guessed, 8 * std::ssize(requests));
    }
  }
}

TEST_P(TinyGeneration, TwoGenerationsOnOneModelDoNotDisturbEachOther) {
  Generation one(exec, *model, options(), {greedy(0), greedy(1)}),
      other(exec, *model, options(), {greedy(cases.size() - 1), greedy(1)});
  for (bool more = true; more;) {
    more = one.next().has_value();
    more = other.next().has_value() || more;
  }
  EXPECT_EQ(one.completion(0).ids, cases[0].greedy_ids);
  EXPECT_EQ(one.completion(1).ids, cases[1].greedy_ids);
  EXPECT_EQ(other.completion(0).ids, cases.back().greedy_ids);
  EXPECT_EQ(other.completion(1).ids, cases[1].greedy_ids);
}

/// A model with a tokenizer.
class TinyTexts : public TinyGeneration {};

TEST_P(TinyTexts, TheModelsEndTokensEndARequestThatNamesNone) {
  auto request = greedy(0);
  request.ignore_eos = false;
  const int end = cases[0].greedy_ids[4];
  files.tokens.eos = {end};
  const auto ending = make(*grid, in_f32);
  Generation generation(exec, *ending, {.tokenizer = tokenizer.get()}, {request});
  generation.run();
  const auto first = std::ranges::find(cases[0].greedy_ids, end);
  EXPECT_EQ(generation.completion(0).ids, std::vector<int>(cases[0].greedy_ids.begin(), first + 1));
  EXPECT_EQ(generation.completion(0).finish, Finish::stop);
  EXPECT_EQ(generation.completion(0).text,
            tokenizer->decode(std::vector<int>(cases[0].greedy_ids.begin(), first), true));
}

TEST_P(TinyTexts, AStopTextEndsAndIsCutOff) {
  const auto whole = alone(*model, greedy(0)).text;
  ASSERT_GE(whole.size(), 4U);
  auto request = greedy(0);
  request.stop = {whole.substr(whole.size() / 2, 2)};
  const auto completion = alone(*model, request);
  EXPECT_EQ(completion.finish, Finish::stop);
  EXPECT_EQ(completion.text, whole.substr(0, whole.find(request.stop[0])));
}

TEST_P(TinyGeneration, AConversationGivesWhatItsPromptGivesAlone) {
  Scheduler scheduler(exec, *model, options(2 * context()));
  const auto talk = scheduler.open_conversation();
  const auto say = [&](const Request& request) {
    const int number = scheduler.submit(request, talk);
    while (!scheduler.idle()) scheduler.step();
    return scheduler.take(number);
  };
  EXPECT_EQ(say(greedy(cases.size() - 1)).ids, cases.back().greedy_ids);
  auto next = greedy(cases.size() - 1);
  next.prompt.insert(next.prompt.end(), cases.back().greedy_ids.begin(), cases.back().greedy_ids.end());
  next.prompt.insert(next.prompt.end(), cases[0].ids.begin(), cases[0].ids.end());
  const auto continued = say(next);
  EXPECT_EQ(continued.ids, alone(*model, next).ids);
  EXPECT_EQ(continued.cached_tokens, static_cast<int>(next.prompt.size() - cases[0].ids.size()) - 1);
  // Left early with another history, then continued as before it.
  auto other = next;
  other.prompt[13] = other.prompt[13] == 5 ? 6 : 5;
  const int left = scheduler.submit(other, talk);
  scheduler.step();
  scheduler.cancel(left);
  EXPECT_EQ(say(next).ids, alone(*model, next).ids);
}

TEST_P(TinyGeneration, TheContextEndsAGeneration) {
  const auto completion = alone(*model, greedy(0, 100000));
  EXPECT_EQ(std::ssize(cases[0].ids) + std::ssize(completion.ids), context());
  EXPECT_EQ(completion.finish, Finish::length);
}

/// What has a layout for so many ranks.
std::vector<const char*> with_layout(std::vector<const char*> names) {
  std::erase_if(names, [](const char* name) {
    return test::layouts_for(read_spec(test::data_file("tiny/" + std::string(name))).spec).empty();
  });
  return names;
}
INSTANTIATE_TEST_SUITE_P(models, TinyGeneration,
                         testing::ValuesIn(with_layout({"llama2", "mistral", "gemma3", "mixtral"})), name_of_test);
INSTANTIATE_TEST_SUITE_P(models, TinyTexts, testing::ValuesIn(with_layout({"llama2"})), name_of_test);

}  // namespace
