// The sampler: greedy to the letter, and draws whose frequencies are those that the options describe.
#include <grist/core/errors.hpp>
#include <grist/generate/sampler.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

namespace {

using namespace grist;

const std::vector<float> logits{1.0F, 3.0F, 0.5F, 2.0F, -1.0F, 2.5F};
constexpr int draws = 6000;

int greedy(const std::vector<float>& values, float repetition_penalty = 1, const std::vector<int>& seen = {}) {
  Sampler sampler(static_cast<Index>(values.size()));
  return sampler.sample(Exec(), values, {.repetition_penalty = repetition_penalty}, seen, 0, 0);
}

std::vector<int> drawn(const SamplingOptions& options, std::uint64_t stream = 0, int count = draws,
                       const std::vector<float>& values = logits) {
  Sampler sampler(static_cast<Index>(values.size()));
  std::vector<int> ids;
  for (int position = 0; position < count; ++position)
    ids.push_back(sampler.sample(Exec(), values, options, {}, stream, static_cast<std::uint64_t>(position)));
  return ids;
}

/// Probabilities of the kept tokens alone.
std::vector<double> softmax_of(const std::vector<int>& kept, double temperature) {
  std::vector<double> p(logits.size());
  for (const int id : kept) {
    const auto i = static_cast<std::size_t>(id);
    p[i] = std::exp(double{logits[i]} / temperature);
  }
  const double total = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& value : p) value /= total;
  return p;
}

/// Pearson's statistic. Of up to six kinds it passes 25.7 once in ten thousand seeds; infinite where a token was drawn
/// that has no probability.
double chi_square(const std::vector<int>& ids, const std::vector<double>& p) {
  std::vector<double> count(p.size());
  for (const int id : ids) ++count.at(static_cast<std::size_t>(id));
  double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    const double expected = p[i] * static_cast<double>(ids.size());
    if (count[i] != expected) sum += (count[i] - expected) * (count[i] - expected) / expected;
  }
  return sum;
}
constexpr double most = 25.7;

TEST(Greedy, TakesTheHighestAndTheFirstOfEquals) {
  EXPECT_EQ(greedy(logits), 1);
  EXPECT_EQ(greedy({1, 2, 2, 2}), 1);
  EXPECT_EQ(greedy({-3, -2, -2}), 1);
  EXPECT_EQ(argmax(std::vector<float>{0, 0, 0}), 0);
}

TEST(RepetitionPenalty, DividesPositiveAndMultipliesNegativeLogitsOfTokensSeen) {
  EXPECT_EQ(greedy({2.0F, 1.5F}, 2, {0}), 1);
  EXPECT_EQ(greedy({2.0F, 0.9F}, 2, {0}), 0);
  EXPECT_EQ(greedy({-1.0F, -1.5F}, 2, {0}), 1);
  EXPECT_EQ(greedy({-1.0F, -2.5F}, 2, {0}), 0);
  EXPECT_EQ(greedy({2.0F, 1.5F}, 2, {}), 0);
}

TEST(RepetitionPenalty, CountsATokenSeenTwiceOnce) { EXPECT_EQ(greedy({3.9F, 1.5F}, 2, {0, 0, 0}), 0); }

TEST(Draws, FollowTheSoftmaxAtTheTemperature) {
  for (const float temperature : {0.5F, 1.0F, 2.0F}) {
    const auto ids = drawn({.temperature = temperature});
    EXPECT_LT(chi_square(ids, softmax_of({0, 1, 2, 3, 4, 5}, double{temperature})), most) << temperature;
    EXPECT_GT(chi_square(ids, softmax_of({0, 1, 2, 3, 4, 5}, 1.25 * double{temperature})), most) << "the test is blind";
  }
}

TEST(Draws, ComeFromTheTopK) {
  EXPECT_LT(chi_square(drawn({.temperature = 1, .top_k = 3}), softmax_of({1, 5, 3}, 1)), most);
  EXPECT_EQ(drawn({.temperature = 1, .top_k = 1}), std::vector<int>(draws, 1));
  EXPECT_EQ(drawn({.temperature = 1, .top_k = 6}), drawn({.temperature = 1}));
  EXPECT_EQ(drawn({.temperature = 1, .top_k = 100}), drawn({.temperature = 1}));
}

TEST(Draws, ComeFromTheFewestTokensThatReachTopP) {
  const auto p = softmax_of({0, 1, 2, 3, 4, 5}, 1);
  const auto with = [](double top_p) { return drawn({.temperature = 1, .top_p = static_cast<float>(top_p)}); };
  EXPECT_LT(chi_square(with(p[1] + p[5] - 0.01), softmax_of({1, 5}, 1)), most);
  EXPECT_LT(chi_square(with(p[1] + p[5] + 0.01), softmax_of({1, 5, 3}, 1)), most);
  EXPECT_EQ(with(1e-6), std::vector<int>(draws, 1));
}

TEST(Draws, TopPCountsWithinTheTopK) {
  // Of the two most likely, the first has 1 / (1 + e^-0.5) = 0.62 of the mass; of all six it has 0.45.
  EXPECT_EQ(drawn({.temperature = 1, .top_k = 2, .top_p = 0.6F}), std::vector<int>(draws, 1));
  EXPECT_LT(chi_square(drawn({.temperature = 1, .top_p = 0.6F}), softmax_of({1, 5}, 1)), most);
}

TEST(Draws, ComeFromTokensOfMinPOfTheHighest) {
  // e^(2 - 3) = 0.368 and e^(1 - 3) = 0.135 of the highest.
  EXPECT_LT(chi_square(drawn({.temperature = 1, .min_p = 0.36F}), softmax_of({1, 5, 3}, 1)), most);
  EXPECT_LT(chi_square(drawn({.temperature = 1, .min_p = 0.37F}), softmax_of({1, 5}, 1)), most);
  EXPECT_EQ(drawn({.temperature = 1, .min_p = 1}), std::vector<int>(draws, 1));
}

TEST(Draws, AreAFunctionOfSeedStreamAndPositionAlone) {
  const auto ids = drawn({.temperature = 1, .seed = 7}, 3, 200);
  EXPECT_EQ(drawn({.temperature = 1, .seed = 7}, 3, 200), ids);
  EXPECT_NE(drawn({.temperature = 1, .seed = 8}, 3, 200), ids);
  EXPECT_NE(drawn({.temperature = 1, .seed = 7}, 4, 200), ids);
  Sampler sampler(static_cast<Index>(logits.size()));
  const SamplingOptions options{.temperature = 1, .seed = 7};
  for (const std::size_t position : {199U, 0U, 77U})
    EXPECT_EQ(sampler.sample(Exec(), logits, options, {}, 3, position), ids[position]) << "out of order";
}

TEST(Draws, OfALargeVocabularyOfEqualsReachItsEnds) {
  std::vector<int> count(4);
  for (const int id : drawn({.temperature = 1}, 0, 400, std::vector<float>(1000, 5)))
    ++count.at(static_cast<std::size_t>(id / 250));
  for (const int n : count) EXPECT_NEAR(n, 100, 40);
}

TEST(BrokenLogits, AreANumericalErrorThatNamesTheToken) {
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    for (const float temperature : {0.0F, 1.0F}) {
      auto broken = logits;
      broken[4] = bad;
      Sampler sampler(static_cast<Index>(logits.size()));
      try {
        (void)sampler.sample(Exec(), broken, {.temperature = temperature}, {}, 0, 0);
        FAIL() << "no error";
      } catch (const NumericalError& error) {
        EXPECT_EQ(error.what(),
                  std::format("the logit of token 4 is {}: the weights or the computation are broken", bad));
      }
    }
  }
}

TEST(SamplingOptions, OutOfTheirRangeAreNamed) {
  const auto message = [](const SamplingOptions& options) -> std::string {
    try {
      options.check();
      return "no error";
    } catch (const UsageError& error) {
      return error.what();
    }
  };
  EXPECT_EQ(message({}), "no error");
  EXPECT_EQ(message({.repetition_penalty = 1.1F, .temperature = 0.7F, .top_k = 40, .top_p = 0.9F, .min_p = 0.05F}),
            "no error");
  EXPECT_EQ(message({.temperature = -1}), "--temperature is -1, expected 0 (greedy) or more");
  EXPECT_EQ(message({.top_k = -2}), "--top-k is -2, expected 0 (all) or more");
  EXPECT_EQ(message({.top_p = 0}), "--top-p is 0, expected above 0, at most 1");
  EXPECT_EQ(message({.top_p = 1.5F}), "--top-p is 1.5, expected above 0, at most 1");
  EXPECT_EQ(message({.min_p = 2}), "--min-p is 2, expected 0 to 1");
  EXPECT_EQ(message({.repetition_penalty = 0}), "--repetition-penalty is 0, expected 0.01 to 100");
  EXPECT_NE(message({.temperature = std::nanf("")}), "no error");
  EXPECT_NE(message({.top_p = std::nanf("")}), "no error");
}

}  // namespace
