// Cross entropy over a split vocabulary, put together as its contract says, against the formula in double precision.
#include <grist/layers/cross_entropy.hpp>

#include <layers/gradients.hpp>
#include <support/refuses.hpp>
#include <support/views.hpp>

namespace {

using namespace grist;
using namespace grist::test;

struct Parts {
  std::vector<float> highest;
  std::vector<double> sums;
  std::vector<float> target_logits;
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
    const Buffer<double> sums("sums", tokens);
    const Buffer<float> target_logits("target_logits", tokens);
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
  std::vector<double> sums(targets.size());
  std::vector<float> target_logits(targets.size()), result;
  for (const auto& shard : shards) {
    const auto mine = shard.sums(highest, targets);
    for (std::size_t t = 0; t < targets.size(); ++t) {
      sums[t] += mine.sums[t];
      target_logits[t] += mine.target_logits[t];
    }
  }
  for (std::size_t t = 0; t < targets.size(); ++t)
    result.push_back(static_cast<float>(std::log(sums[t]) + highest[t] - target_logits[t]));
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

TEST(CrossEntropy, HasTheSameBitsHoweverTheVocabularyIsSplit) {
  for (const float scale : {0.1F, 1.0F, 10.0F}) {
    const auto logits = normals("logits", 5 * 50000, scale);
    const std::vector<int> of_many{0, 49999, 12, 25000, 30000};
    const auto whole = nll(logits, of_many, {50000});
    for (const auto& split : std::vector<std::vector<Index>>{{24999, 25001}, {1, 49998, 1}, {16667, 16667, 16666}})
      EXPECT_EQ(nll(logits, of_many, split), whole) << scale;
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

/// dlogits of all columns, each shard's by itself.
template <class T>
std::vector<float> backward(const std::vector<float>& logits, const std::vector<int>& of_tokens,
                            const std::vector<float>& scale, const std::vector<Index>& split) {
  const Index tokens = static_cast<Index>(of_tokens.size()), vocabulary = static_cast<Index>(logits.size()) / tokens;
  const Shard whole(logits, tokens, 0, vocabulary);
  const auto parts = whole.sums(whole.highest(), of_tokens);
  const auto highest = on_device<float>(parts.highest);
  const auto sums = on_device<double>(parts.sums);
  const auto device_scale = on_device<float>(scale);
  const auto device_targets = on_device<int>(of_tokens);
  std::vector<float> all(logits.size());
  Index first = 0;
  for (const Index columns : split) {
    const Shard shard(logits, tokens, first, columns);
    const Buffer<T> dlogits("dlogits", tokens * columns);
    layers::cross_entropy_backward(Exec(), as_const(shard.logits.view(tokens, columns)),
                                   as_const(device_targets.view()), first, as_const(highest.view()),
                                   as_const(sums.view()), as_const(device_scale.view()), dlogits.view(tokens, columns));
    const auto mine = on_host(dlogits);
    for (Index i = 0; i < tokens * columns; ++i)
      all[static_cast<std::size_t>(i / columns * vocabulary + first + i % columns)] = mine[static_cast<std::size_t>(i)];
    first += columns;
  }
  return all;
}

std::vector<float> soft_capped(std::vector<float> logits, float cap) {
  for (float& x : logits) x = cap * std::tanh(x / cap);
  return logits;
}

template <class T>
struct CrossEntropyBackward : testing::Test {};
using Storage = testing::Types<float, bf16>;
TYPED_TEST_SUITE(CrossEntropyBackward, Storage);

TYPED_TEST(CrossEntropyBackward, IsWhatPyTorchGivesWithMaskedTargetsAndASoftCap) {
  for (const auto& c : gradient_cases("cross_entropy")) {
    const float cap = c.at("soft_cap");
    SCOPED_TRACE(testing::Message() << c.at("vocabulary") << " " << cap);
    auto logits = floats_of(c, "logits");
    if (cap != 0) logits = soft_capped(logits, cap);
    const Index vocabulary = c.at("vocabulary");
    const auto found = backward<TypeParam>(logits, c.at("targets"), floats_of(c, "scale"), {vocabulary - 3, 3});
    auto expected = gradient<TypeParam>(floats_of(c, "dlogits"));
    if (cap != 0) {  // the layer's part is before the cap's slope
      for (std::size_t i = 0; i < expected.size(); ++i) {
        const double slope = 1 - std::pow(logits[i] / double{cap}, 2);
        expected[i].value /= slope;
        expected[i].bound /= slope;
      }
    }
    EXPECT_LE(worst_error(found, expected), 1);
    EXPECT_LE(worst_error(nll(logits, c.at("targets"), {vocabulary - 3, 3}), gradient<float>(floats_of(c, "nll"), 8)),
              1);
  }
}

TEST(CrossEntropyDifferences, AgreeWithTheForward) {
  const auto logits = normals("logits", 5 * 100), scale = normals("scale", 5);
  const std::vector<int> some{3, -1, 12, 99, -1};
  const auto loss = [&](const std::vector<float>& x) { return inner_product(nll(x, some, {13, 87}), scale); };
  // An error of 1e-6 in the loss over 2 h, and h^2 / 6 times a third derivative below 1.
  std::vector<Expected> expected;
  for (const float d : central_differences(logits, 0.03F, loss)) expected.push_back({d, 3e-4});
  EXPECT_LE(worst_error(backward<float>(logits, some, scale, {13, 87}), expected), 1);
}

TYPED_TEST(CrossEntropyBackward, HasTheSameBitsHoweverTheVocabularyIsSplit) {
  const auto logits = normals("logits", 5 * 100), scale = normals("scale", 5);
  const auto whole = backward<TypeParam>(logits, targets, scale, {100});
  for (const auto& split : std::vector<std::vector<Index>>{{13, 87}, {1, 98, 1}, {25, 25, 25, 25}})
    EXPECT_EQ(backward<TypeParam>(logits, targets, scale, split), whole);
}

TEST(CrossEntropy, OfAMaskedTargetIsExactlyNothing) {
  const auto logits = normals("logits", 2 * 10, 20), scale = normals("scale", 2);
  for (const auto& split : std::vector<std::vector<Index>>{{10}, {3, 7}, {0, 10}}) {
    EXPECT_EQ(nll(logits, {-1, -1}, split), std::vector<float>(2));
    EXPECT_EQ(backward<float>(logits, {-1, -1}, scale, split), std::vector<float>(20));
  }
}

TEST(CrossEntropyBackwardInPlace, GivesTheSame) {
  const auto logits = normals("logits", 5 * 100);
  const Shard whole(logits, 5, 0, 100);
  const auto parts = whole.sums(whole.highest(), targets);
  const auto highest = on_device<float>(parts.highest), scale = on_device<float>(std::vector<float>(5, 0.25F));
  const auto sums = on_device<double>(parts.sums);
  const auto device_targets = on_device<int>(targets);
  const auto x = whole.logits.view(5, 100);
  layers::cross_entropy_backward(Exec(), as_const(x), as_const(device_targets.view()), 0, as_const(highest.view()),
                                 as_const(sums.view()), as_const(scale.view()), x);
  EXPECT_EQ(on_host(whole.logits), backward<float>(logits, targets, std::vector<float>(5, 0.25F), {100}));
}

TEST(CrossEntropyShapes, ThatDisagreeAreNamed) {
  const Buffer<float> logits("logits", 6), two("two", 2), three("three", 3);
  const Buffer<double> sums("sums", 2);
  const auto some = on_device<int>(std::vector<int>(2));
  const auto x = as_const(logits.view(2, 3));
  const auto v = as_const(two.view());
  EXPECT_EQ(refusal([&] { layers::cross_entropy_highest(Exec(), x, three.view()); }),
            "cross_entropy_highest: logits [2, 3] do not go with a vector of 3 tokens");
  EXPECT_EQ(refusal([&] {
              layers::cross_entropy_backward(Exec(), x, as_const(some.view()), 0, v, as_const(sums.view()),
                                             as_const(three.view()), logits.view(2, 3));
            }),
            "cross_entropy_backward: logits [2, 3] do not go with a vector of 3 tokens");
  EXPECT_EQ(
      refusal([&] {
        layers::cross_entropy_backward(Exec(), x, as_const(some.view()), 0, v, as_const(sums.view()), v,
                                       logits.view(3, 2));
      }),
      "cross_entropy_backward: logits [2, 3] do not give dlogits [3, 2]");
}

}  // namespace
