// Perplexity: which tokens are scored, given what, on a model whose scores are a hash of the past.
#include "generate/fake_model.hpp"
#include "support/ranks.hpp"
#include "support/refuses.hpp"

#include <grist/generate/perplexity.hpp>

namespace {

using namespace grist;
using test::FakeModel;
using test::Refuses;

class Scoring : public testing::Test {
protected:
  static constexpr int context = 1200;
  static std::vector<int> text(int length) {
    std::vector<int> ids;
    for (int i = 0; i < length; ++i) ids.push_back((i * i + 5 * i) % 58);
    return ids;
  }
  static Layout layout() {
    return {.tp = test::ranks()};
  }
  Perplexity score(const std::vector<int>& ids, const PerplexityOptions& options) {
    return perplexity(exec, model, ids, options);
  }

  Exec exec;
  ProcessGrid grid{test::world(), layout()};
  FakeModel model{grid, limits_for_windows(context)};
};

/// The mean over tokens begin ... of each window, by the fake's own formula.
double expected(const std::vector<int>& ids, int context, int begin, int bos, Index* tokens = nullptr) {
  double total = 0;
  Index count = 0;
  for (int first = 0; first + context <= static_cast<int>(ids.size()); first += context) {
    std::vector<int> window(ids.begin() + first, ids.begin() + first + context);
    if (bos >= 0) window[0] = bos;
    std::vector<test::FakeRow> rows;
    for (int i = 0; i + 1 < context; ++i) {
      const int piece = i / 512 * 512, end = std::min(piece + 512, context - 1);
      rows.push_back(
          test::fake_row(window[static_cast<std::size_t>(i)], i, {piece, end, end - piece <= few_tokens, context}));
      if (i + 1 < begin) continue;
      total += double{test::fake_logit(test::fake_hash(rows, {}), window[static_cast<std::size_t>(i) + 1])};
      ++count;
    }
  }
  if (tokens != nullptr) *tokens = count;
  return total / static_cast<double>(count);
}

TEST_F(Scoring, EveryTokenOfAWindowButTheFirstIsScored) {
  for (const int size : {2, 7, 100, 513, 516, 1200}) {
    const auto ids = text(2 * size + 1);
    Index tokens = 0;
    const double mean = expected(ids, size, 1, -1, &tokens);
    const auto found = score(ids, {.context = size});
    EXPECT_EQ(found.windows, 2);
    EXPECT_EQ(found.tokens, tokens);
    EXPECT_NEAR(found.mean_nll(), mean, 1e-12) << size;
    EXPECT_NEAR(found.value(), std::exp(mean), 1e-9);
  }
}

TEST_F(Scoring, TheProtocolOfLlamaCppScoresTheSecondHalfBehindABos) {
  for (const int size : {7, 100, 1100, 1200}) {
    const auto ids = text(3 * size);
    Index tokens = 0;
    const double mean = expected(ids, size, size / 2 + 1, 59, &tokens);
    const auto found = score(ids, {.context = size, .bos = 59, .second_half = true});
    EXPECT_EQ(found.tokens, tokens);
    EXPECT_EQ(found.tokens, 3 * (size - size / 2 - 1)) << "as llama-perplexity counts";
    EXPECT_NEAR(found.mean_nll(), mean, 1e-12) << size;
    EXPECT_NE(found.mean_nll(), score(ids, {.context = size, .second_half = true}).mean_nll());
  }
}

TEST_F(Scoring, AShortTextIsOneWindow) {
  const auto ids = text(50);
  EXPECT_NEAR(score(ids, {.context = 1000}).mean_nll(), expected(ids, 50, 1, -1), 1e-12);
  EXPECT_EQ(score(text(300), {.context = 100, .max_windows = 2}).windows, 2);
}

TEST_F(Scoring, RefusesWhatCannotBeScored) {
  EXPECT_THAT([&] { score(text(1), {.context = 5}); }, Refuses({"1 tokens has no token to score"}));
  EXPECT_THAT([&] { score(text(9), {.context = 1}); }, Refuses({"context 1 is out of range: 2 to the model's 1200"}));
  EXPECT_THAT([&] { score(text(9), {.context = 1201}); }, Refuses({"context 1201"}));
  EXPECT_THAT([&] { score({1, 61}, {.context = 5}); }, Refuses({"token id 61 is out of range"}));
  EXPECT_THAT([&] { score(text(9), {.context = 10, .second_half = true}); }, Refuses({"9 tokens is no window of 10"}));
  EXPECT_THAT([&] { score(text(9), {.context = 5, .bos = 61}); }, Refuses({"BOS 61"}));
}

}  // namespace
