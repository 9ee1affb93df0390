// Choices and thresholds, against a sorted reference in double precision.
#include <grist/layers/sample.hpp>

#include <support/views.hpp>

#include <cstring>
#include <numeric>
#include <set>

namespace {

using namespace grist;
using namespace grist::test;
using layers::Choice;
using layers::Draw;
using layers::Search;

constexpr float infinity = std::numeric_limits<float>::infinity();

template <class T>
std::vector<T> copied(const Buffer<T>& buffer) {
  std::vector<T> values(static_cast<std::size_t>(buffer.size()));
  Kokkos::fence();
  Kokkos::deep_copy(HostView<T>(values.data(), values.size()), buffer.view());
  return values;
}

Choice highest_of(const std::vector<float>& x, Index first_column = 0) {
  const auto logits = on_device<float>(x);
  const Buffer<Choice> highest("highest", 1);
  layers::sample_highest(Exec(), as_const(logits.view(1, logits.size())), first_column, highest.view());
  return copied(highest)[0];
}

/// The ids that a draw's top-k and then its top-p keep.
std::set<int> kept(const std::vector<float>& x, const Draw& draw) {
  const Exec exec;
  const auto buffer = on_device<float>(x);
  const auto logits = as_const(buffer.view(1, buffer.size()));
  const Buffer<Choice> highest("highest", 1);
  const Buffer<Draw> draws("draws", 1);
  const Buffer<Index> histograms("histograms", layers::digit_values);
  Kokkos::deep_copy(draws.view(), draw);
  Kokkos::deep_copy(histograms.view(), Index{0});
  layers::sample_highest(exec, logits, 0, highest.view());
  for (const Search search : {Search::top_k, Search::top_p}) {
    for (int pass = 0; pass < layers::search_passes; ++pass) {
      layers::sample_count(exec, search, pass, logits, as_const(highest.view()), as_const(draws.view()),
                           histograms.view(1, layers::digit_values));
      layers::sample_narrow(exec, search, pass, histograms.view(1, layers::digit_values), draws.view());
    }
  }
  EXPECT_EQ(copied(histograms), std::vector<Index>(static_cast<std::size_t>(layers::digit_values), 0));
  // The floats' order as unsigned integers, made here in another way than in the kernels: by IEEE 754's sign and
  // magnitude.
  const std::uint32_t threshold = copied(draws)[0].threshold;
  const auto key = [](float value) {
    std::uint32_t magnitude = 0;
    const float positive = std::abs(value);
    std::memcpy(&magnitude, &positive, sizeof magnitude);
    return value < 0 ? 0x7FFFFFFFU - magnitude : 0x80000000U + magnitude;
  };
  std::set<int> ids;
  for (std::size_t i = 0; i < x.size(); ++i)
    if (key(x[i]) >= threshold) ids.insert(static_cast<int>(i));
  return ids;
}

/// The same by a sort, with all that equal the last one.
std::set<int> sorted(const std::vector<float>& x, const Draw& draw, double p) {
  std::vector<int> order(x.size());
  std::iota(order.begin(), order.end(), 0);
  const auto value = [&](int id) { return double{x[static_cast<std::size_t>(id)]}; };
  std::ranges::stable_sort(order, [&](int a, int b) { return value(a) > value(b); });
  const auto keep = [&](std::size_t count) {  // so many, and those that tie with the last
    while (count < order.size() && value(order[count]) == value(order[count - 1])) ++count;
    order.resize(count);
  };
  if (draw.top_k > 0) keep(std::min(order.size(), static_cast<std::size_t>(draw.top_k)));
  if (draw.top_p < 1) {
    const auto mass = [&](int id) { return std::exp((value(id) - value(order[0])) / draw.temperature); };
    double total = 0, reached = 0;
    for (const int id : order) total += mass(id);
    std::size_t count = 0;
    while (count < order.size() && (count == 0 || reached < p * total)) reached += mass(order[count++]);
    keep(count);
  }
  return {order.begin(), order.end()};
}

std::vector<float> with_ties(Index size) {
  auto x = normals("x", size, 3);
  for (float& value : x) value = std::round(4 * value) / 4;
  return x;
}

TEST(SampleHighest, IsTheFirstOfEqualsInAVocabularyOfAnySize) {
  for (const Index size : {1, 6, 8192, 8193, 30000}) {
    for (const auto& x : {normals("x", size), with_ties(size)}) {
      const Choice choice = highest_of(x, 100);
      EXPECT_EQ(layers::kind_of(choice), layers::Value::finite);
      EXPECT_EQ(layers::token_of(choice), 100 + std::ranges::max_element(x) - x.begin()) << size;
    }
  }
  EXPECT_EQ(layers::token_of(highest_of({-1, -0.0F, 0, -0.0F})), 1) << "both zeros are equal";
  EXPECT_EQ(layers::token_of(highest_of({-3e38F, -2e38F, -2e38F})), 1);
  EXPECT_EQ(layers::token_of(highest_of({0, 1e-45F, 0})), 1);
}

TEST(SampleHighest, NamesALogitThatIsNotFinite) {
  for (const float nan : {std::nanf(""), -std::nanf("")}) {
    const Choice choice = highest_of({1, 3e38F, nan, 2, nan});
    EXPECT_EQ(layers::kind_of(choice), layers::Value::nan);
    EXPECT_EQ(layers::token_of(choice), 2);
  }
  EXPECT_EQ(layers::kind_of(highest_of({1, infinity, 3e38F})), layers::Value::infinity);
  const Choice choice = highest_of({1, 2, 3, -infinity});
  EXPECT_EQ(layers::kind_of(choice), layers::Value::minus_infinity);
  EXPECT_EQ(layers::token_of(choice), 3);
}

TEST(SampleThreshold, KeepsTheTopKAndWhatTiesWithTheLast) {
  for (const Index size : {1, 5, 1000, 20000}) {
    for (const auto& x :
         {normals("x", size), with_ties(size), std::vector<float>(static_cast<std::size_t>(size), -2)}) {
      for (const Index k : {Index{1}, Index{2}, Index{40}, size - 1, size, size + 7}) {
        if (k < 1) continue;
        const Draw draw{.top_k = k};
        EXPECT_EQ(kept(x, draw), sorted(x, draw, 1)) << k << " of " << size;
      }
    }
  }
}

TEST(SampleThreshold, KeepsTheFewestThatReachTopPAndWhatTiesWithTheLast) {
  int compared = 0;
  for (const Index size : {1, 5, 1000, 20000}) {
    for (const auto& x : {normals("x", size, 2), with_ties(size)}) {
      for (const float temperature : {0.3F, 1.0F, 2.5F}) {
        for (const float p : {1e-6F, 0.1F, 0.37F, 0.5F, 0.9F, 0.99F}) {
          const Draw draw{.temperature = temperature, .top_p = p};
          const auto low = sorted(x, draw, p - 2e-6 * p), high = sorted(x, draw, p + 2e-6 * p);
          if (low != high) continue;  // too near a border for any sum but an exact one
          ++compared;
          EXPECT_EQ(kept(x, draw), low) << p << " of " << size << " at " << temperature;
        }
      }
    }
  }
  EXPECT_GT(compared, 120);
}

TEST(SampleThreshold, TopPCountsWithinTheTopK) {
  const auto x = normals("x", 3000, 2);
  for (const Index k : {1, 2, 50, 700}) {
    for (const float p : {0.2F, 0.6F, 0.95F}) {
      const Draw draw{.top_k = k, .top_p = p};
      EXPECT_EQ(kept(x, draw), sorted(x, draw, p)) << k << ", " << p;
    }
  }
  EXPECT_NE(kept(x, {.top_k = 50, .top_p = 0.6F}), kept(x, {.top_p = 0.6F}));
}

TEST(SampleThreshold, HoldsForExtremeValues) {
  const std::vector<float> x{3e38F, -3e38F, 0, -0.0F, 1e-45F, -1e-45F, 1e-38F, 2.9e38F};
  for (Index k = 1; k <= 8; ++k) {
    const Draw draw{.top_k = k};
    EXPECT_EQ(kept(x, draw), sorted(x, draw, 1)) << k;
  }
  EXPECT_EQ(kept(x, {.temperature = 1e-30F, .top_p = 0.99F}), (std::set<int>{0}));
  EXPECT_EQ(kept({1, 2, 3, 3}, {.temperature = 1e-30F, .top_p = 0.99F}), (std::set<int>{2, 3}));
  EXPECT_EQ(kept({1, 2, 3, 4}, {.temperature = 1e30F, .top_p = 0.74F}), (std::set<int>{1, 2, 3}));
  EXPECT_EQ(kept({1, 2, 3, 4}, {.temperature = 1e30F, .top_p = 0.76F}), (std::set<int>{0, 1, 2, 3}));
}

}  // namespace
