// The sampler: greedy to the letter, draws whose frequencies are those that the options describe, and the same tokens
// however the vocabulary is split over ranks.
#include "support/ranks.hpp"
#include "support/refuses.hpp"
#include "support/views.hpp"

#include <grist/core/errors.hpp>
#include <grist/generate/sampler.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

namespace {

using namespace grist;
using layers::Choice;

const std::vector<float> logits{1.0F, 3.0F, 0.5F, 2.0F, -1.0F, 2.5F};
constexpr int draws = 6000;

/// The choices of rows [rows.size(), vocabulary] whose columns are split over the ranks as evenly as they can be.
std::vector<Choice> choices(const Communicator& comm, const std::vector<float>& values,
                            const std::vector<SampledRow>& rows, Index count) {
  const Index width = std::ssize(values) / count;
  const Index begin = width * comm.rank() / comm.size(), end = width * (comm.rank() + 1) / comm.size();
  std::vector<float> mine;
  for (Index row = 0; row < count; ++row)
    mine.insert(mine.end(), values.begin() + row * width + begin, values.begin() + row * width + end);
  const auto buffer = test::on_device<float>(mine);
  Sampler sampler(count, begin, 64);
  return sampler.choose(Exec(), comm, buffer.view(count, end - begin), rows);
}

std::vector<int> tokens(const std::vector<Choice>& choices) {
  std::vector<int> ids;
  for (const Choice choice : choices) ids.push_back(Sampler::token(choice, "a row"));
  return ids;
}

/// By all ranks together; that a rank alone chooses the same, bit for bit, is a claim of every test.
std::vector<int> chosen(const std::vector<float>& values, const std::vector<SampledRow>& rows, Index count = 1) {
  const auto together = choices(Communicator(test::world()), values, rows, count);
  EXPECT_EQ(choices(Communicator(comm_self()), values, rows, count), together);
  return tokens(together);
}

int highest(const std::vector<float>& values, float repetition_penalty = 1, const std::vector<int>& seen = {}) {
  return chosen(values, {{.options = {.repetition_penalty = repetition_penalty}, .seen = seen}})[0];
}

/// One row of logits, drawn from at many positions.
std::vector<int> drawn(const SamplingOptions& options, std::uint64_t stream = 0, int count = draws,
                       const std::vector<float>& values = logits) {
  constexpr int at_once = 500;
  std::vector<int> ids;
  for (int first = 0; first < count; first += at_once) {
    std::vector<SampledRow> rows;
    std::vector<float> all;
    for (int i = first; i < std::min(count, first + at_once); ++i) {
      rows.push_back(
          {.row = i - first, .options = options, .stream = stream, .position = static_cast<std::uint32_t>(i)});
      all.insert(all.end(), values.begin(), values.end());
    }
    const auto some = first == 0 ? chosen(all, rows, std::ssize(rows))
                                 : tokens(choices(Communicator(comm_self()), all, rows, std::ssize(rows)));
    ids.insert(ids.end(), some.begin(), some.end());
  }
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

/// Pearson's statistic; infinite where a token was drawn that has no probability.
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
constexpr double most = 25.7;  // passed once in ten thousand seeds by six kinds of tokens

TEST(Greedy, TakesTheHighestAndTheFirstOfEquals) {
  EXPECT_EQ(highest(logits), 1);
  EXPECT_EQ(highest({1, 2, 2, 2}), 1);
  EXPECT_EQ(highest({-3, -2, -2, -7}), 1);
  EXPECT_EQ(highest({0, 0, 0, 0}), 0);
}

TEST(Greedy, ServesVocabulariesWithFewerTokensThanRanks) { EXPECT_EQ(highest({1, 2}), 1); }

TEST(RepetitionPenalty, DividesPositiveAndMultipliesNegativeLogitsOfTokensSeen) {
  EXPECT_EQ(highest({2.0F, 1.5F}, 2, {0}), 1);
  EXPECT_EQ(highest({2.0F, 0.9F}, 2, {0}), 0);
  EXPECT_EQ(highest({-1.0F, -1.5F}, 2, {0}), 1);
  EXPECT_EQ(highest({-1.0F, -2.5F}, 2, {0}), 0);
  EXPECT_EQ(highest({2.0F, 1.5F}, 2, {}), 0);
}

TEST(RepetitionPenalty, CountsATokenSeenTwiceOnce) { EXPECT_EQ(highest({3.9F, 1.5F}, 2, {0, 0, 0}), 0); }

TEST(RepetitionPenalty, IsOfItsOwnRow) {
  const std::vector<int> seen{0};
  EXPECT_EQ(
      chosen({2.0F, 1.5F, 2.0F, 1.5F}, {{.row = 0}, {.row = 1, .options = {.repetition_penalty = 2}, .seen = seen}}, 2),
      (std::vector<int>{0, 1}));
}

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
  const SamplingOptions options{.temperature = 1, .seed = 7};
  for (const std::uint32_t position : {199U, 0U, 77U})
    EXPECT_EQ(chosen(logits, {{.options = options, .stream = 3, .position = position}})[0], ids[position])
        << "out of order";
}

TEST(Draws, OfALargeVocabularyOfEqualsReachItsEnds) {
  std::vector<int> count(4);
  for (const int id : drawn({.temperature = 1}, 0, 400, std::vector<float>(20000, 5)))
    ++count.at(static_cast<std::size_t>(id / 5000));
  for (const int n : count) EXPECT_NEAR(n, 100, 40);
}

TEST(Draws, GiveRareTokensTheirShare) {
  // One token of mass 1, and 4096 of mass 2^-14 each: together a fifth. Noise of few bits would starve them.
  std::vector<float> values(4097, -14 * std::log(2.0F));
  values[0] = 0;
  int rare = 0;
  for (const int id : drawn({.temperature = 1}, 0, 3000, values)) rare += id != 0 ? 1 : 0;
  EXPECT_NEAR(rare, 600, 4.5 * std::sqrt(3000 * 0.2 * 0.8));
}

TEST(Batch, ServesRowsOfDifferentOptionsAsEachAlone) {
  const std::vector<int> seen{1, 5};
  const std::vector<SamplingOptions> options{
      {},
      {.temperature = 1},
      {.temperature = 2, .top_k = 3},
      {.repetition_penalty = 1.5F},
      {.temperature = 0.7F, .top_p = 0.8F},
      {.temperature = 1.5F, .min_p = 0.1F},
      {.repetition_penalty = 2, .temperature = 3, .top_k = 4, .top_p = 0.9F, .seed = 9}};
  const auto values = test::normals("batch", 9 * 500, 2);  // two rows more than are sampled
  std::vector<SampledRow> rows;
  for (std::size_t i = 0; i < options.size(); ++i)
    rows.push_back({static_cast<Index>(i) + 1, options[i], seen, i, static_cast<std::uint32_t>(10 * i)});
  const auto together = chosen(values, rows, 9);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    auto alone = rows[i];
    alone.row = 0;
    const auto begin = values.begin() + rows[i].row * 500;
    EXPECT_EQ(chosen({begin, begin + 500}, {alone})[0], together[i]) << i;
  }
}

TEST(BrokenLogits, AreANumericalErrorThatNamesTheTokenOnEveryRank) {
  for (const auto& [bad, name] : {std::pair{std::nanf(""), "nan"}, {std::numeric_limits<float>::infinity(), "inf"},
                                  {-std::numeric_limits<float>::infinity(), "-inf"}}) {
    for (const SamplingOptions& options : {SamplingOptions{}, {.temperature = 1, .top_k = 3, .top_p = 0.5F}}) {
      auto broken = logits;
      broken.insert(broken.end(), logits.begin(), logits.end());
      broken[6 + 4] = bad;
      const auto found = choices(Communicator(test::world()), broken,
                                 {{.row = 0, .options = options}, {.row = 1, .options = options}}, 2);
      EXPECT_EQ(Sampler::token(found[0], "request 0"),
                chosen(logits, {{.options = options}})[0]) << "the other rows are served";
      EXPECT_THAT([&] { Sampler::token(found[1], "request 1"); },
                  test::Refuses<NumericalError>({"request 1: the logit of token 4 is ", name}));
    }
  }
}

TEST(BrokenLogits, MoreRowsThanTheSamplerWasMadeForAreRefused) {
  const auto buffer = test::on_device<float>(std::vector<float>(6));
  Sampler sampler(1, 0, 64);
  EXPECT_THAT([&] { (void)sampler.choose(Exec(), Communicator(comm_self()), buffer.view(2, 3), {}); },
              test::Refuses<ShapeError>({"2 rows", "1 at most"}));
}

TEST(SamplingOptionsCheck, NamesTheOptionItsRangeAndTheValue) {
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
