// Speculative decoding: whoever guesses, and however wrongly, the answer is the one that comes token by token.
#include "generate/scheduling.hpp"
#include "support/files.hpp"
#include "support/refuses.hpp"

#include <grist/generate/draft_model.hpp>
#include <grist/generate/ngram_table.hpp>
#include <grist/generate/prompt_lookup.hpp>

#include <functional>
#include <numeric>

namespace {

using namespace grist;
using namespace grist::test;

constexpr int draft_tokens = 5;

/// Guesses whatever a function says.
class AnyDrafter final : public Drafter {
public:
  using Guess = std::function<std::vector<int>(const DraftQuery&)>;
  explicit AnyDrafter(Guess guess) : guess_(std::move(guess)) {}
  std::vector<std::vector<int>> propose(std::span<const DraftQuery> sequences) override {
    std::vector<std::vector<int>> guesses;
    for (const auto& query : sequences) guesses.push_back(guess_(query));
    return guesses;
  }

private:
  Guess guess_;
};

class Drafting : public Scheduling {
protected:
  Drafting() {
    wide.same_beginnings = true;
    requests = requests_to(wide);
  }
  static ModelLimits wide_limits() {
    auto sizes = limits(4);
    sizes.logit_rows = 4 * (1 + draft_tokens);
    sizes.batch_tokens += 4 * draft_tokens;
    return sizes;
  }
  /// Prompts that hold their answers, greedy and drawn: some guesses are right, others wrong.
  static std::vector<Request> requests_to(const FakeModel& model) {
    std::vector<Request> all;
    for (int kind = 0; kind < 4; ++kind) {
      auto request = greedy(kind == 3 ? 530 : 40 + 30 * kind, 24 + kind, kind);
      const auto answer = model.continuation(request.prompt, 24);
      auto prompt = request.prompt;
      prompt.insert(prompt.end(), answer.begin(), answer.end());
      prompt.insert(prompt.end(), request.prompt.begin(), request.prompt.end());
      request.prompt = prompt;
      if (kind == 1) request.sampling = {.temperature = 1, .seed = 5};
      if (kind == 2) request.sampling = {.temperature = 0.01F, .seed = 5};
      all.push_back(request);
    }
    return all;
  }
  [[nodiscard]] std::vector<int> plain(const Request& request) {
    Scheduler alone(exec, wide, {});
    alone.submit(request);
    finish(alone);
    return alone.completion(0).ids;
  }
  [[nodiscard]] std::vector<std::vector<int>> plain_answers() {
    Scheduler together(exec, wide, {});
    for (const auto& request : requests) together.submit(request);
    finish(together);
    std::vector<std::vector<int>> answers;
    for (std::size_t i = 0; i < requests.size(); ++i) answers.push_back(together.completion(static_cast<int>(i)).ids);
    return answers;
  }
  using Make = std::function<std::unique_ptr<Drafter>()>;
  /// Serves all together, with many pages and with so few that sequences are suspended; each answer must be the plain
  /// one. Sums of what was guessed and what of it was right.
  std::pair<int, int> expect_plain_answers(const Make& make) {
    std::pair<int, int> sums;
    const auto answers = plain_answers();
    for (const int pages : {240, 20}) {
      Scheduler one(exec, wide, {Index{pages} * kv_page_rows, nullptr, draft_tokens, make()});
      for (const auto& request : requests) one.submit(request);
      finish(one);
      int suspensions = 0;
      for (std::size_t i = 0; i < requests.size(); ++i) {
        const auto& completion = one.completion(static_cast<int>(i));
        EXPECT_EQ(completion.ids, answers[i]) << "request " << i << " of " << pages << " pages";
        EXPECT_LE(completion.guessed_right, completion.guessed);
        EXPECT_LT(completion.guessed_right, std::ssize(completion.ids));
        sums.first += completion.guessed;
        sums.second += completion.guessed_right;
        suspensions += completion.suspensions;
      }
      EXPECT_EQ(suspensions > 0, pages < 100);
    }
    return sums;
  }
  /// On the first stage, with the limits that are given or those of draft_limits. Like the model: what it draws is
  /// right, since pieces that are not the model's leave no trace in either.
  [[nodiscard]] std::unique_ptr<FakeModel> draft_model(bool like_the_model, std::optional<ModelLimits> limits = {}) {
    wide.few_matters = !like_the_model;
    if (grid.pp().rank() != 0) return nullptr;
    auto made = std::make_unique<FakeModel>(draft_grid, limits.value_or(draft_limits(wide.limits(), context)));
    made->same_beginnings = like_the_model;
    made->few_matters = false;
    return made;
  }

  FakeModel wide{grid, wide_limits()};
  std::vector<Request> requests;
  ProcessGrid draft_grid{grid.tp().handle(), Layout{.tp = grid.tp().size()}};
};

TEST_F(Drafting, ByPromptLookupLeavesTheAnswerAsItIs) {
  const auto [guessed, right] = expect_plain_answers([] { return std::make_unique<PromptLookup>(); });
  EXPECT_GT(guessed, 10);
}

TEST_F(Drafting, ByNonsenseLeavesTheAnswerAsItIs) {
  const auto [guessed, right] = expect_plain_answers([] {
    return std::make_unique<AnyDrafter>([](const DraftQuery& query) {
      std::vector<int> guess;
      const int length = static_cast<int>(query.ids.size());
      for (int i = 0; i < 1 + length % query.most; ++i) guess.push_back((7 * length + 3 * i) % fake_vocabulary);
      return guess;
    });
  });
  EXPECT_GT(guessed, 200);
  EXPECT_LT(right, guessed / 5);
}

TEST_F(Drafting, ByNobodyIsPlain) {
  const auto [guessed, right] =
      expect_plain_answers([] { return std::make_unique<AnyDrafter>([](auto&) { return std::vector<int>(); }); });
  EXPECT_EQ(guessed, 0);
}

/// Who knows the answer and errs now and then.
TEST_F(Drafting, ThatIsRightSavesPasses) {
  const auto request = greedy(40, 61);
  const auto answer = plain(request);
  const auto knows = [&](int errs_at) {
    return std::make_unique<AnyDrafter>([&answer, errs_at](const DraftQuery& query) {
      const auto known = static_cast<std::size_t>(std::ssize(query.ids) - 40);
      std::vector<int> guess(answer.begin() + static_cast<std::ptrdiff_t>(known),
                             answer.begin() + static_cast<std::ptrdiff_t>(known) + query.most);
      for (int i = errs_at; i < query.most; ++i) guess[static_cast<std::size_t>(i)] ^= 1;
      return guess;
    });
  };
  for (const auto& [errs_at, passes] : {std::pair{draft_tokens, 11}, {0, 61}, {2, 21}}) {
    wide.passes.clear();
    Scheduler one(exec, wide, {0, nullptr, draft_tokens, knows(errs_at)});
    one.submit(request);
    finish(one);
    EXPECT_EQ(one.completion(0).ids, answer);
    EXPECT_EQ(wide.passes.size(), static_cast<std::size_t>(passes)) << "errs at " << errs_at;
    EXPECT_EQ(one.completion(0).guessed_right, 61 - passes);
  }
}

/// Guesses are always right, so but for these passes nothing would be plain.
TEST_F(Drafting, LeavesOutEvery32ndPassSoThatItsGainIsMeasured) {
  const auto request = greedy(40, 300);
  const auto answer = plain(request);
  Scheduler one(exec, wide, {0, nullptr, draft_tokens, std::make_unique<AnyDrafter>([&answer](const DraftQuery& query) {
                               return std::vector<int>{answer[query.ids.size() - 40]};
                             })});
  one.submit(request);
  wide.passes.clear();
  finish(one);
  EXPECT_EQ(one.completion(0).ids, answer);
  EXPECT_EQ(std::ranges::count(wide.passes, std::vector<int>{1}), 4 + 1) << "and the last token is not guessed";
  EXPECT_GT(one.pass_times().compared().with_guesses, 0);
  EXPECT_GT(one.pass_times().compared().without, 0);
}

/// The eldest sequence decodes beside another, but for the passes in which the third is computed again.
TEST_F(Drafting, GainsNothingInPassesThatComputeASequenceAgain) {
  class WhileAlone final : public Drafter {
  public:
    explicit WhileAlone(const bool& on) : on_(on) {}
    std::vector<std::vector<int>> propose(std::span<const DraftQuery> sequences) override {
      std::vector<std::vector<int>> guesses(sequences.size());
      if (sequences.size() == 1 && on_ && ++times_ % 2 == 0) guesses[0] = {5};
      return guesses;
    }

  private:
    const bool& on_;
    int times_ = 0;
  };
  auto sizes = wide_limits();
  sizes.batch_tokens = 24;  // a prompt takes many passes
  FakeModel narrow(grid, sizes);
  bool again = false;
  Scheduler one(exec, narrow, {12 * kv_page_rows, nullptr, draft_tokens, std::make_unique<WhileAlone>(again)});
  one.submit(greedy(130, 400));  // its fourth page is one of the third's, until the second ends
  one.submit(greedy(190, 65, 1));
  const int third = one.submit(greedy(260, 60, 2));
  while (one.completion(third).finish == Finish::running) {
    one.step();
    again = one.completion(third).suspensions > 0 && std::ranges::max(narrow.passes.back()) > 2;
  }
  EXPECT_EQ(one.completion(third).suspensions, 1);
  EXPECT_GT(one.completion(0).guessed, 4);
  EXPECT_EQ(one.pass_times().compared().with_guesses, 0);
}

TEST_F(Drafting, CountsNoGuessBeyondTheEndOfTheAnswer) {
  auto request = greedy(40, 61);
  const auto answer = plain(request);
  request.ignore_eos = false;
  request.eos = {answer[7]};
  const auto end = std::ranges::find(answer, answer[7]) - answer.begin();
  auto knows = std::make_unique<AnyDrafter>([&answer](const DraftQuery& query) {
    const auto known = std::ssize(query.ids) - 40;
    return std::vector<int>(answer.begin() + known, answer.begin() + known + query.most);
  });
  Scheduler one(exec, wide, {0, nullptr, draft_tokens, std::move(knows)});
  one.submit(request);
  const auto events = finish(one);
  EXPECT_EQ(one.completion(0).ids, std::vector<int>(answer.begin(), answer.begin() + end + 1));
  EXPECT_EQ(one.completion(0).finish, Finish::stop);
  EXPECT_EQ(std::ssize(events), end + 1);
  EXPECT_LE(one.completion(0).guessed_right, end);
}

TEST_F(Drafting, ByATableLeavesTheAnswerAsItIs) {
  const Communicator ranks(world());
  NgramCounts counts;
  const auto answers = plain_answers();
  for (std::size_t i = 0; i < requests.size(); ++i) {  // each rank counts some of the answers
    auto text = requests[i].prompt;
    text.insert(text.end(), answers[i].begin(), answers[i].end());
    if (static_cast<int>(i) % ranks.size() == ranks.rank()) counts.add(text);
  }
  const NgramTable table(ranks, std::move(counts));
  const auto [guessed, right] = expect_plain_answers([&] { return std::make_unique<NgramDrafter>(table); });
  EXPECT_GT(guessed, 100);
  EXPECT_GT(right, guessed / 4) << "the answers were in its corpus";
}

TEST_F(Drafting, ByTheModelItselfIsRightAndLeavesTheAnswerAsItIs) {
  const auto draft = draft_model(true);
  const auto [guessed, right] =
      expect_plain_answers([&] { return std::make_unique<ModelDrafter>(exec, wide, draft.get()); });
  EXPECT_GT(guessed, 150);
  EXPECT_GT(right, guessed * 9 / 10) << "drawn tokens too: the draft draws by the same random numbers";
}

TEST_F(Drafting, ByAnotherModelLeavesTheAnswerAsItIs) {
  const auto draft = draft_model(false);
  const auto [guessed, right] =
      expect_plain_answers([&] { return std::make_unique<ModelDrafter>(exec, wide, draft.get()); });
  EXPECT_GT(guessed, 150);
  EXPECT_LT(right, guessed / 4);
}

TEST_F(Drafting, ByAModelOfLessMemoryOrContextGuessesWhatItCan) {
  for (const bool memory : {true, false}) {
    auto sizes = draft_limits(wide.limits(), memory ? context : 250);
    if (memory) sizes.kv_tokens = 6 * kv_page_rows;
    const auto draft = draft_model(true, sizes);
    const auto [guessed, right] =
        expect_plain_answers([&] { return std::make_unique<ModelDrafter>(exec, wide, draft.get()); });
    EXPECT_GT(guessed, 20);
    EXPECT_GT(right, guessed / 2);
  }
}

/// Two schedulers in turns, as of a pipeline, each with a drafter of its own on one draft model.
TEST_F(Drafting, OfTwoSchedulersInTurnsDoNotDisturbEachOther) {
  const auto draft = draft_model(true);
  const auto make = [&] {
    return SchedulerOptions{0, nullptr, draft_tokens, std::make_unique<ModelDrafter>(exec, wide, draft.get())};
  };
  Scheduler one(exec, wide, make()), other(exec, wide, make());
  for (std::size_t i = 0; i < requests.size(); ++i) (i % 2 == 0 ? one : other).submit(requests[i]);
  while (!one.idle() || !other.idle())
    for (Scheduler* scheduler : {&one, &other}) {
      scheduler->end_step();
      if (!scheduler->idle()) scheduler->begin_step();
    }
  const auto answers = plain_answers();
  for (std::size_t i = 0; i < requests.size(); ++i)
    EXPECT_EQ((i % 2 == 0 ? one : other).completion(static_cast<int>(i / 2)).ids, answers[i]) << "request " << i;
}

TEST(PromptLookup, GuessesWhatFollowedTheLongestRunAtItsLastPlace) {
  const std::vector<int> ids{1, 2, 3, 4, 9, 2, 3, 5, 7, 2, 3};
  EXPECT_EQ(look_up(ids, 3), (std::vector<int>{5, 7, 2})) << "of 2, 3";
  EXPECT_EQ(look_up(std::vector<int>{1, 2, 3, 4, 9, 2, 3, 5, 1, 2, 3}, 2), (std::vector<int>{4, 9})) << "of 1, 2, 3";
  EXPECT_EQ(look_up(ids, 100).size(), 4U) << "to the end";
  EXPECT_TRUE(look_up(ids, 0).empty());
  EXPECT_TRUE(look_up(std::vector<int>{1, 2, 3}, 5).empty());
  EXPECT_TRUE(look_up(std::vector<int>{}, 5).empty());
  EXPECT_EQ(look_up(std::vector<int>{7, 7, 7}, 5), (std::vector<int>{7}));
}

TEST(DraftVocabulary, MustBeTheModels) {
  const auto llama = text::load_tokenizer(data_file("tiny/llama2"));
  const FakeTokenizer fake;
  const auto check = [](NamedVocabulary draft, NamedVocabulary model) {
    return [=] { check_same_vocabulary(draft, model); };
  };
  EXPECT_NO_THROW(check({"small", 512, llama.get()}, {"large", 288, llama.get()})()) << "rows to spare";
  EXPECT_NO_THROW(check({"small", 288, nullptr}, {"large", 288, llama.get()})());
  EXPECT_THAT(check({"small", 96, nullptr}, {"large", 288, nullptr}), Refuses({"small", "96", "large", "288"}));
  EXPECT_THAT(check({"small", 288, &fake}, {"large", 288, llama.get()}),
              Refuses({"small", "61 tokens", "number 0 is 'a'", "large", "288"}));
}

/// One token of the same number of tokens has another text.
TEST(DraftVocabulary, IsRefusedByTheFirstTokenThatDiffers) {
  class Other final : public FakeTokenizer {
  public:
    [[nodiscard]] std::string decode(std::span<const int> ids, bool skip_special) const override {
      return ids.size() == 1 && ids[0] == 17 ? "seventeen" : FakeTokenizer::decode(ids, skip_special);
    }
  };
  const FakeTokenizer fake;
  const Other other;
  EXPECT_THAT([&] { check_same_vocabulary({"small", 61, &other}, {"large", 61, &fake}); },
              Refuses({"small", "large", "of its 61 tokens number 17 is 'seventeen'", "of 61 it is 'r'"}));
}

}  // namespace
