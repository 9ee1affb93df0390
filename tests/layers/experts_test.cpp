// A mixture of experts against its formulas in double precision.
#include <grist/core/errors.hpp>
#include <grist/layers/experts.hpp>

#include <support/refuses.hpp>
#include <support/views.hpp>

#include <numeric>
#include <string>

namespace {

using namespace grist;
using namespace grist::test;

struct Choice {
  std::vector<int> choices;
  std::vector<float> weights;
};

Choice choose(const std::vector<float>& logits, Index tokens, Index slots, bool renormalize) {
  const auto device = on_device<float>(logits);
  const Index experts = static_cast<Index>(logits.size()) / tokens;
  const Buffer<int> choices("choices", tokens * slots);
  const Buffer<float> weights("weights", tokens * slots);
  layers::choose_experts(Exec(), as_const(device.view(tokens, experts)), renormalize, choices.view(tokens, slots),
                         weights.view(tokens, slots));
  const auto chosen = on_host(choices);
  return {{chosen.begin(), chosen.end()}, on_host(weights)};
}

struct Sizes {
  Index tokens, experts, slots;
};
constexpr Sizes every_size[] = {{1, 1, 1}, {1, 7, 7}, {37, 8, 2}, {23, 5, 3}, {131, 61, 6}, {9, 3, 1}};

TEST(ChooseExperts, TakesTheLargestProbabilities) {
  for (const auto& [tokens, experts, slots] : every_size) {
    for (const bool renormalize : {false, true}) {
      SCOPED_TRACE(testing::Message() << tokens << " tokens, " << slots << " of " << experts << " experts");
      const auto logits = normals("logits", tokens * experts, 3);
      const auto got = choose(logits, tokens, slots, renormalize);
      std::vector<int> choices;
      std::vector<Expected> weights;
      for (Index t = 0; t < tokens; ++t) {
        const auto row =
            std::span(logits).subspan(static_cast<std::size_t>(t * experts), static_cast<std::size_t>(experts));
        std::vector<int> order(row.size());
        std::iota(order.begin(), order.end(), 0);
        std::ranges::stable_sort(
            order, [&](int a, int b) { return row[static_cast<std::size_t>(a)] > row[static_cast<std::size_t>(b)]; });
        double total = 0, chosen = 0;
        const auto mass = [&](int e) { return std::exp(double{row[static_cast<std::size_t>(e)]}); };
        for (const int e : order) total += mass(e);
        for (Index slot = 0; slot < slots; ++slot) chosen += mass(order[static_cast<std::size_t>(slot)]);
        for (Index slot = 0; slot < slots; ++slot) {
          const int e = order[static_cast<std::size_t>(slot)];
          choices.push_back(e);
          const double weight = mass(e) / (renormalize ? chosen : total);
          weights.push_back({weight, weight * static_cast<double>(experts + 40) * float_rounding});  // e^x: 20 of it
        }
      }
      EXPECT_EQ(got.choices, choices);
      EXPECT_LE(worst_error(got.weights, weights), 1);
    }
  }
}

TEST(ChooseExperts, PrefersLowerNumbersAmongEquals) {
  EXPECT_EQ(choose({1, 2, 2, 1, 2}, 1, 4, true).choices, (std::vector<int>{1, 2, 4, 0}));
  EXPECT_EQ(choose({0, 0, 0, 5, 5, 5}, 2, 3, false).choices, (std::vector<int>{0, 1, 2, 0, 1, 2}));
}

TEST(ChooseExperts, OfLargeLogitsIsFinite) {
  const auto got = choose({1e4F, -1e4F, 9e3F, 88, 0, -3e38F}, 2, 2, false);
  EXPECT_EQ(got.choices, (std::vector<int>{0, 2, 0, 1}));
  EXPECT_EQ(got.weights[0], 1);
  EXPECT_EQ(got.weights[1], 0);
  EXPECT_EQ(got.weights[2], 1);
}

struct Sorted {
  std::vector<float> offsets, token_of, row_of;
};

Sorted sort(const std::vector<int>& choices, Index slots, Index experts) {
  const auto device = on_device<int>(choices);
  const Index entries = static_cast<Index>(choices.size());
  const Buffer<int> offsets("offsets", experts + 1), token_of("token_of", entries), row_of("row_of", entries);
  layers::sort_by_expert(Exec(), as_const(device.view(entries / slots, slots)), offsets.view(), token_of.view(),
                         row_of.view(entries / slots, slots));
  return {on_host(offsets), on_host(token_of), on_host(row_of)};
}

TEST(SortByExpert, KeepsTheOrderOfTokens) {
  const auto sorted = sort({2, 0, 0, 4, 2, 4, 4, 0}, 2, 6);
  EXPECT_EQ(sorted.offsets, (std::vector<float>{0, 3, 3, 5, 5, 8, 8}));
  EXPECT_EQ(sorted.token_of, (std::vector<float>{0, 1, 3, 0, 2, 1, 2, 3}));
  EXPECT_EQ(sorted.row_of, (std::vector<float>{3, 0, 1, 5, 4, 6, 7, 2}));
}

TEST(SortByExpert, GivesEverySlotARowOfItsExpert) {
  for (const auto& [tokens, experts, slots] : every_size) {
    const auto choices = choose(normals("logits", tokens * experts, 3), tokens, slots, true).choices;
    const auto sorted = sort(choices, slots, experts);
    EXPECT_EQ(sorted.offsets.front(), 0);
    EXPECT_EQ(sorted.offsets.back(), static_cast<float>(choices.size()));
    std::vector<int> taken(choices.size());
    for (std::size_t i = 0; i < choices.size(); ++i) {
      const auto row = static_cast<std::size_t>(sorted.row_of[i]), e = static_cast<std::size_t>(choices[i]);
      EXPECT_EQ(sorted.token_of[row], static_cast<float>(i / static_cast<std::size_t>(slots)));
      EXPECT_GE(sorted.row_of[i], sorted.offsets[e]);
      EXPECT_LT(sorted.row_of[i], sorted.offsets[e + 1]);
      ++taken[row];
    }
    EXPECT_EQ(taken, std::vector<int>(taken.size(), 1));
    for (std::size_t e = 0; e + 1 < sorted.offsets.size(); ++e)
      EXPECT_TRUE(std::is_sorted(sorted.token_of.begin() + static_cast<Index>(sorted.offsets[e]),
                                 sorted.token_of.begin() + static_cast<Index>(sorted.offsets[e + 1])));
  }
}

template <class X>
struct Dispatch : testing::Test {};
using Storage = testing::Types<float, bf16>;
TYPED_TEST_SUITE(Dispatch, Storage);

TYPED_TEST(Dispatch, CopiesTheRowsOfTokens) {
  for (const Index hidden : {1, 13, 131}) {
    const auto x = stored<TypeParam>(normals("x", 5 * hidden));
    const std::vector<int> token_of{4, 0, 0, 2, 3, 1, 4, 4};
    const auto device = on_device<TypeParam>(x);
    const auto tokens = on_device<int>(token_of);
    const Buffer<TypeParam> rows("rows", 8 * hidden);
    layers::dispatch(Exec(), as_const(device.view(5, hidden)), as_const(tokens.view()), rows.view(8, hidden));
    std::vector<float> expected;
    for (const int t : token_of) expected.insert(expected.end(), x.begin() + t * hidden, x.begin() + (t + 1) * hidden);
    EXPECT_EQ(on_host(rows), expected);
  }
}

TEST(Combine, WeighsTheRowsOfATokensSlots) {
  for (const Index hidden : {1, 13, 131}) {
    for (const Index slots : {1, 2, 6}) {
      constexpr Index tokens = 7;
      const auto rows = normals("rows", tokens * slots * hidden), weights = normals("weights", tokens * slots);
      std::vector<int> row_of(weights.size());
      for (std::size_t i = 0; i < row_of.size(); ++i) row_of[i] = static_cast<int>((i * 5 + 3) % row_of.size());
      const auto on_rows = on_device<float>(rows), on_weights = on_device<float>(weights);
      const auto on_row_of = on_device<int>(row_of);
      const auto y = on_device<float>(std::vector<float>(static_cast<std::size_t>(tokens * hidden), std::nanf("")));
      layers::combine(Exec(), as_const(on_rows.view(tokens * slots, hidden)), as_const(on_row_of.view(tokens, slots)),
                      as_const(on_weights.view(tokens, slots)), y.view(tokens, hidden));
      std::vector<Expected> expected;
      for (Index t = 0; t < tokens; ++t) {
        for (Index i = 0; i < hidden; ++i) {
          double sum = 0, magnitude = 0;
          for (Index s = 0; s < slots; ++s) {
            const auto slot = static_cast<std::size_t>(t * slots + s);
            const double term = double{weights[slot]} * rows[static_cast<std::size_t>(row_of[slot] * hidden + i)];
            sum += term;
            magnitude += std::abs(term);
          }
          expected.push_back({sum, static_cast<double>(slots + 1) * float_rounding * magnitude});
        }
      }
      EXPECT_LE(worst_error(on_host(y), expected), 1);
    }
  }
}

TEST(ExpertShapes, ThatDisagreeAreNamed) {
  const Buffer<float> floats("floats", 100);
  const Buffer<int> ints("ints", 100);
  const auto f = [&](Index rows, Index columns) { return View2<float>(floats.data(), rows, columns); };
  const auto i = [&](Index rows, Index columns) { return View2<int>(ints.data(), rows, columns); };
  const auto v = [&](Index size) { return View1<int>(ints.data(), size); };
  EXPECT_EQ(refusal([&] { layers::choose_experts(Exec(), as_const(f(2, 3)), true, i(2, 4), f(2, 4)); }),
            "choose_experts: logits [2, 3] do not give choices [2, 4] and weights [2, 4]");
  EXPECT_EQ(refusal([&] { layers::sort_by_expert(Exec(), as_const(i(2, 3)), v(9), v(5), i(2, 3)); }),
            "sort_by_expert: choices [2, 3] do not give token_of [5] and row_of [2, 3]");
  EXPECT_EQ(refusal([&] { layers::dispatch(Exec(), as_const(f(2, 3)), as_const(v(4)), f(4, 2)); }),
            "dispatch: x [2, 3] and token_of [4] do not give rows [4, 2]");
  EXPECT_EQ(refusal([&] { layers::combine(Exec(), as_const(f(4, 3)), as_const(i(2, 2)), as_const(f(2, 3)), f(2, 3)); }),
            "combine: rows [4, 3], row_of [2, 2], weights [2, 3] do not give y [2, 3]");
}

TEST(SharedExpert, IsScaledByTheSigmoidOfItsGate) {
  const auto shared = normals("shared", 5 * 33), gate = normals("gate", 5, 3), y = normals("y", 5 * 33);
  const auto device_shared = on_device<float>(shared), device_gate = on_device<float>(gate),
             device_y = on_device<float>(y);
  layers::add_shared(Exec(), as_const(device_shared.view(5, 33)), as_const(device_gate.view()), device_y.view(5, 33));
  std::vector<Expected> expected;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double added = shared[i] / (1 + std::exp(-double{gate[i / 33]}));
    expected.push_back({y[i] + added, (std::abs(y[i]) + 8 * std::abs(added)) * float_rounding});
  }
  EXPECT_LE(worst_error(on_host(device_y), expected), 1);
}

TEST(SharedExpert, WithoutAGateIsAddedWhole) {
  const auto shared = normals("shared", 5 * 33), y = normals("y", 5 * 33);
  const auto device_shared = on_device<float>(shared), device_y = on_device<float>(y);
  layers::add_shared(Exec(), as_const(device_shared.view(5, 33)), {}, device_y.view(5, 33));
  std::vector<float> expected;
  for (std::size_t i = 0; i < y.size(); ++i) expected.push_back(y[i] + shared[i]);
  EXPECT_EQ(on_host(device_y), expected);
}

TEST(SharedExpert, ShapesThatDisagreeAreNamed) {
  const Buffer<float> shared("shared", 6), gate("gate", 3), y("y", 6);
  try {
    layers::add_shared(Exec(), as_const(shared.view(2, 3)), as_const(gate.view()), y.view(2, 3));
    FAIL() << "no error";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "add_shared: shared [2, 3] and gate [3] do not go with y [2, 3]");
  }
}

}  // namespace
