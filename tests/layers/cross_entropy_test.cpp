// Cross entropy over a split vocabulary, put together as its contract says, against the formula in double precision.
#include <grist/layers/cross_entropy.hpp>

#include <support/views.hpp>

namespace {

using namespace grist;
using namespace grist::test;

struct Parts {
  std::vector<float> highest, sums, target_logits;
};

/// The columns [first, first + columns) of logits [tokens, vocabulary] as one rank of tp sees them.
struct Shard {
  Buffer<float> logits;
  Index tokens, first, columns;

  Shard(const std::vector<float>& all, Index tokens_, Index first_, Index columns_)
      : tokens(tokens_), first(first_), columns(columns_) {
    const Index vocabulary = static_cast<Index>(all.size()) / tokens;
    std::vector<float> mine;
    for (Index t = 0; t < tokens; ++t)
      for (Index c = 0; c < columns; ++c) mine.push_back(all[static_cast<std::size_t>(t * vocabulary + first + c)]);
    logits = on_device<float>(mine);
  }

  [[nodiscard]] std::vector<float> highest() const {
    const Buffer<float> result("highest", tokens);
    layers::cross_entropy_highest(Exec(), as_const(logits.view(tokens, columns)), result.view());
    return on_host(result);
  }

  [[nodiscard]] Parts sums(const std::vector<float>& highest, const std::vector<int>& targets) const {
    const auto device_highest = on_device<float>(highest);
    const auto device_targets = on_device<int>(targets);
    const Buffer<float> sums("sums", tokens), target_logits("target_logits", tokens);
    layers::cross_entropy_sums(Exec(), as_const(logits.view(tokens, columns)), as_const(device_targets.view()), first,
                               as_const(device_highest.view()), sums.view(), target_logits.view());
    return {highest, on_host(sums), on_host(target_logits)};
  }
};

/// -log p of the targets, from shards with the given numbers of columns.
std::vector<float> nll(const std::vector<float>& logits, const std::vector<int>& targets,
                       const std::vector<Index>& split) {
  const Index tokens = static_cast<Index>(targets.size());
  std::vector<Shard> shards;
  Index first = 0;
  for (const Index columns : split) {
    shards.emplace_back(logits, tokens, first, columns);
    first += columns;
  }
  std::vector<float> highest(targets.size(), -std::numeric_limits<float>::infinity());
  for (const auto& shard : shards) {
    const auto mine = shard.highest();
    for (std::size_t t = 0; t < targets.size(); ++t) highest[t] = std::max(highest[t], mine[t]);
  }
  std::vector<float> sums(targets.size()), target_logits(targets.size()), result;
  for (const auto& shard : shards) {
    const auto mine = shard.sums(highest, targets);
    for (std::size_t t = 0; t < targets.size(); ++t) {
      sums[t] += mine.sums[t];
      target_logits[t] += mine.target_logits[t];
    }
  }
  for (std::size_t t = 0; t < targets.size(); ++t) result.push_back(std::log(sums[t]) + highest[t] - target_logits[t]);
  return result;
}

/// The sum rounds once per term, the rest a few times at the size of the logits.
std::vector<Expected> expected(const std::vector<float>& logits, const std::vector<int>& targets) {
  const std::size_t vocabulary = logits.size() / targets.size();
  std::vector<Expected> result;
  for (std::size_t t = 0; t < targets.size(); ++t) {
    const float* row = &logits[t * vocabulary];
    const double highest = *std::max_element(row, row + vocabulary);
    const double target = row[targets[t]];
    double sum = 0;
    for (std::size_t i = 0; i < vocabulary; ++i) sum += std::exp(row[i] - highest);
    const double sizes = std::abs(highest) + std::abs(target) + std::log(sum);
    const double roundings = static_cast<double>(vocabulary) + 4 * sizes + 8;
    result.push_back({std::log(sum) + highest - target, roundings * float_rounding});
  }
  return result;
}

const std::vector<int> targets{0, 99, 12, 13, 50};

TEST(CrossEntropy, IsItsFormulaHoweverTheVocabularyIsSplit) {
  for (const float scale : {0.1F, 1.0F, 10.0F}) {
    const auto logits = normals("logits", 5 * 100, scale);
    for (const auto& split : std::vector<std::vector<Index>>{{100}, {13, 87}, {1, 98, 1}, {25, 25, 25, 25}})
      EXPECT_LE(worst_error(nll(logits, targets, split), expected(logits, targets)), 1) << split.size() << " shards";
  }
}

TEST(CrossEntropy, LogitsFarBelowZeroGiveTheSumsOfLogitsAtZero) {
  const std::vector<float> logits{-5000, -5001, -5002, 2, 1, 0};
  EXPECT_LE(worst_error(nll(logits, {1, 1}, {2, 1}), expected(logits, {1, 1})), 1);
  const Shard whole(logits, 2, 0, 3);
  EXPECT_EQ(whole.highest(), (std::vector<float>{-5000, 2}));
  const auto sums = whole.sums({-5000, 2}, {1, 1}).sums;
  EXPECT_EQ(sums[0], sums[1]);
}

TEST(CrossEntropy, OfATokenThatIsCertainIsNothing) { EXPECT_EQ(nll({-200, 200, -200}, {1}, {2, 1})[0], 0); }

TEST(CrossEntropy, TheTargetIsTakenByItsOwnerAlone) {
  const std::vector<float> logits{1, 2, 3, 4};
  EXPECT_EQ(Shard(logits, 1, 0, 2).sums({4}, {2}).target_logits[0], 0);
  EXPECT_EQ(Shard(logits, 1, 2, 2).sums({4}, {2}).target_logits[0], 3);
}

}  // namespace
