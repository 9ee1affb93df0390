// Log-likelihoods of continuations: those of transformers, which tokens are given and which scored, and that what
// several texts begin with is read once.
#include "generate/facts.hpp"
#include "generate/fake_model.hpp"
#include "support/golden.hpp"
#include "support/layouts.hpp"
#include "support/refuses.hpp"

#include <grist/generate/loglikelihood.hpp>
#include <grist/generate/perplexity.hpp>
#include <grist/model/family.hpp>

namespace {

using namespace grist;
using test::name_of_test;
using test::Refuses;
using testing::ElementsAre;

TEST(LogLikelihood, OfATinyModelIsThatOfTransformers) {
  test::expect_facts("llama2", test::data_file("tiny/llama2"), 2e-3, 100);
}

/// Of ids `given` ..., by logits of the whole text.
double expected_sum(const test::GoldenCase& of, std::size_t given) {
  const std::size_t vocabulary = of.logits.size() / of.ids.size();
  double sum = 0;
  for (std::size_t i = given; i < of.ids.size(); ++i) {
    const auto row = test::row_of(of.logits, i - 1, vocabulary);
    double total = 0;
    for (const float logit : row) total += std::exp(double{logit});
    sum += double{row[static_cast<std::size_t>(of.ids[i])]} - std::log(total);
  }
  return sum;
}

class LogLikelihoodOf : public testing::TestWithParam<const char*> {};

TEST_P(LogLikelihoodOf, ATextBehindOthersWithTheSameBeginning) {
  const auto files = open_model(test::data_file("tiny/" + std::string(GetParam())));
  const auto cases = test::read_golden(GetParam());
  const auto& golden = *std::ranges::max_element(cases, {}, [](const auto& c) { return c.ids.size(); });
  const int context = static_cast<int>(golden.ids.size()) + 20;
  for (const auto& layout : test::layouts_for(files.spec)) {
    SCOPED_TRACE(to_string(layout));
    const Exec exec;
    const ProcessGrid grid(test::world(), layout);
    const auto model = make_model(files, grid, {.limits = limits_for_windows(context)});
    LogLikelihood scorer(exec, *model, context);
    const std::size_t given = golden.ids.size() - 3;
    Continuation longer{golden.ids, given}, other{golden.ids, given};
    longer.ids.insert(longer.ids.end(), golden.ids.begin(), golden.ids.begin() + 10);
    other.ids.back() = other.ids.back() == 5 ? 6 : 5;
    const Continuation right{golden.ids, given};
    const auto sums = scorer.sums(std::vector{longer, other, right});
    EXPECT_NEAR(sums[2], expected_sum(golden, given), 2e-3);
    EXPECT_GT(std::abs(sums[2] - sums[1]), 1e-2);
    EXPECT_NEAR(scorer.sum(golden.ids, given), sums[2], 1e-4);
    EXPECT_EQ(scorer.sums(std::vector{longer, other, right}), sums) << "whatever was scored before";
  }
}

// Queries that see all keys; windows; RoPE that turns by the text's length.
INSTANTIATE_TEST_SUITE_P(models, LogLikelihoodOf, testing::Values("llama2", "mistral", "gemma3", "llama_longrope"),
                         name_of_test);

TEST(LogLikelihood, ReadsWhatTheTextsBeginWithOnce) {
  const Exec exec;
  const ProcessGrid grid(test::world(), {.tp = test::ranks()});
  test::FakeModel model(grid, limits_for_windows(1200));
  LogLikelihood scorer(exec, model, 1200);
  const auto text = [](int given, int scored) {
    Continuation all{{}, static_cast<std::size_t>(given)};
    for (int i = 0; i < given + scored; ++i) all.ids.push_back(i < given ? i % 50 : 50 + scored);
    return all;
  };
  const std::vector three{text(40, 2), text(40, 1), text(40, 6)};
  scorer.sums(three);
  // The last given token foretells the first scored one, and the last scored token nothing.
  EXPECT_THAT(model.passes, ElementsAre(ElementsAre(39), ElementsAre(2), ElementsAre(1), ElementsAre(6)));
  EXPECT_EQ(tokens_read(model.spec(), three), 39 + 2 + 1 + 6);
  model.passes.clear();
  scorer.sums(std::vector{text(600, 3), text(600, 2)});
  EXPECT_THAT(model.passes, ElementsAre(ElementsAre(512), ElementsAre(87), ElementsAre(3), ElementsAre(2)));
  model.passes.clear();
  scorer.sums(std::vector{text(40, 2)});
  EXPECT_THAT(model.passes, ElementsAre(ElementsAre(41)));
  EXPECT_EQ(tokens_read(model.spec(), std::vector{text(40, 2)}), 41);
}

TEST(LogLikelihood, RefusesWhatCannotBeScored) {
  const Exec exec;
  const ProcessGrid grid(test::world(), {.tp = test::ranks()});
  test::FakeModel model(grid, limits_for_windows(8));
  LogLikelihood scorer(exec, model, 8);
  EXPECT_THAT([&] { scorer.sum(std::vector<int>(5, 1), 5); }, Refuses({"5 of 5 tokens are given"}));
  EXPECT_THAT([&] { scorer.sum(std::vector<int>(5, 1), 0); }, Refuses({"0 of 5 tokens are given"}));
  EXPECT_THAT([&] { scorer.sum(std::vector<int>(10, 1), 1); }, Refuses({"9 tokens is longer than the context of 8"}));
  EXPECT_THAT([&] { scorer.sum(std::vector<int>{1, 61, 2}, 1); }, Refuses({"61", "out of range"}));
}

/// tiny/llama2: BOS is 1, and a blank stands in front of every text.
class Encoding : public testing::Test {
protected:
  [[nodiscard]] std::vector<int> ids(std::string_view text, bool special = true) const {
    return tokenizer->encode(text, special);
  }
  std::unique_ptr<text::Tokenizer> tokenizer = text::load_tokenizer(test::data_file("tiny/llama2"));
};

TEST_F(Encoding, SplitsTheWholeTextWhereTheContextEnds) {
  const auto [all, given] = encode_continuation(*tokenizer, "the cat", " sat");
  EXPECT_EQ(all, ids("the cat sat"));
  EXPECT_EQ(given, ids("the cat").size());
}

TEST_F(Encoding, GivesTheContextsLastBlanksToTheContinuation) {
  for (const std::string blanks : {" ", "  ", "\n", "\u3000", " \t\u2009"}) {
    const auto [all, given] = encode_continuation(*tokenizer, "the cat" + blanks, " sat");
    EXPECT_EQ(given, ids("the cat").size());
    EXPECT_EQ(all, ids("the cat" + blanks + " sat"));
  }
}

TEST_F(Encoding, OfAnEmptyContextIsBosAndTheContinuation) {
  const auto [all, given] = encode_continuation(*tokenizer, "", " sat");
  EXPECT_EQ(all, ids(" sat"));
  EXPECT_EQ(given, 1U);
  const auto written = encode_continuation(*tokenizer, "", "<s>sat");
  EXPECT_EQ(written.ids, ids("<s>sat", false)) << "a BOS that is written counts";
  EXPECT_EQ(written.given, 1U);
}

TEST_F(Encoding, AddsNoSecondBos) {
  const auto [all, given] = encode_continuation(*tokenizer, "<s>the cat", " sat");
  EXPECT_EQ(all, ids("<s>the cat sat", false));
  EXPECT_EQ(given, ids("<s>the cat", false).size());
}

TEST_F(Encoding, RefusesAContinuationWithoutTokens) {
  EXPECT_THAT([&] { encode_continuation(*tokenizer, "the cat", ""); }, Refuses({"no token of its own"}));
}

TEST(Cut, KeepsTheEndOfTheContext) {
  Continuation text{{1, 2, 3, 4, 5, 6, 7}, 5};
  EXPECT_FALSE(cut_left(text, 6)) << "the last token is not read";
  EXPECT_TRUE(cut_left(text, 4));
  EXPECT_THAT(text.ids, ElementsAre(3, 4, 5, 6, 7));
  EXPECT_EQ(text.given, 3U);
  EXPECT_TRUE(cut_left(text, 2));
  EXPECT_EQ(text.given, 1U);
  EXPECT_THAT([&] { cut_left(text, 1); }, Refuses({"the continuation has 2 tokens, and the model's context 1"}));
}

TEST(Preferred, IsTheFirstOfTheLargest) {
  const std::vector<std::string> choices = {"ab", "cdef", "\u00e4\u00f6\u00fc\u00df"};
  const auto by = [&](std::vector<double> sums) {
    const auto [choice, by_length] = preferred(sums, choices);
    return std::pair(choice, by_length);
  };
  EXPECT_EQ(by({-3, -5, -9}), std::pair(0, 1));
  EXPECT_EQ(by({-3, -7, -5}), std::pair(0, 2)) << "characters, not bytes";
  EXPECT_EQ(by({-4, -4, -4}), std::pair(0, 1));
}

TEST(StandardError, IsThatOfTheSampleMean) {
  EXPECT_NEAR(standard_error(1, 4), std::sqrt((3 * 0.0625 + 0.5625) / 3) / 2, 1e-15);
  EXPECT_EQ(standard_error(0, 7), 0);
  EXPECT_TRUE(std::isnan(standard_error(1, 1)));
}

}  // namespace
