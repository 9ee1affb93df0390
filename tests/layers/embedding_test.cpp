// The embedding copies rows, exactly; a slice of the vocabulary gives zeros for the other rows, so that slices add up.
// The backward adds rows, in the tokens' order.
#include <grist/core/errors.hpp>
#include <grist/core/staging.hpp>
#include <grist/layers/embedding.hpp>

#include <layers/gradients.hpp>
#include <support/weights.hpp>

#include <numeric>

namespace {

using namespace grist;
using namespace grist::test;

constexpr Index vocabulary = 23, hidden_size = 7;
const std::vector<int> ids{0, 22, 5, 5, 11, 12, 1};

template <class T>
struct Embedding : testing::Test {
  const std::vector<float> w = stored<T>(normals("w", vocabulary* hidden_size));

  /// With the rows [first, first + rows) of the vocabulary.
  std::vector<float> run(Index first, Index rows) const {
    const Index tokens = static_cast<Index>(ids.size());
    const auto device_ids = on_device<int>(ids);
    const auto device_w = on_device<T>(w);
    const auto x = on_device<float>(std::vector<float>(ids.size() * hidden_size, std::nanf("")));
    const View2<const T> slice(device_w.data() + first * hidden_size, rows, hidden_size);
    layers::embedding(Exec(), as_const(device_ids.view()), slice, first, x.view(tokens, hidden_size));
    return on_host(x);
  }

  std::vector<float> expected(Index first, Index rows) const {
    std::vector<float> x;
    for (const int id : ids)
      for (Index c = 0; c < hidden_size; ++c)
        x.push_back(id >= first && id < first + rows ? w[static_cast<std::size_t>(id * hidden_size + c)] : 0);
    return x;
  }
};
using Storage = testing::Types<float, bf16>;
TYPED_TEST_SUITE(Embedding, Storage);

TYPED_TEST(Embedding, CopiesTheRowsOfTheIds) { EXPECT_EQ(this->run(0, vocabulary), this->expected(0, vocabulary)); }

TYPED_TEST(Embedding, OfASliceIsZeroWhereAnotherRankHoldsTheRow) {
  EXPECT_EQ(this->run(0, 12), this->expected(0, 12));
  EXPECT_EQ(this->run(12, 11), this->expected(12, 11));
  EXPECT_EQ(this->run(11, 1), this->expected(11, 1));
}

TYPED_TEST(Embedding, SlicesAddUpToTheWhole) {
  auto sum = this->run(0, 9);
  const auto rest = this->run(9, vocabulary - 9);
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += rest[i];
  EXPECT_EQ(sum, this->run(0, vocabulary));
}

TEST(EmbeddingOfInterleavedRows, GivesTheNumbersOfRowsApart) {
  if (!host_reaches_memory) GTEST_SKIP() << "the test interleaves rows in memory of the host";
  for (const Format format : every_format) {
    if (block_of(format).elements == 1) continue;
    const StoredRows apart(format, 32, 2 * block_of(format).elements);
    const StoredRows rows = apart.interleaved();
    const std::vector<int> tokens{3, 31, 16, 40};
    const auto device_ids = on_device<int>(tokens);
    const auto run = [&](const StoredRows& w) {
      const Buffer<float> x("x", 4 * w.columns);
      layers::embedding(Exec(), as_const(device_ids.view()), w.weight(), 0, x.view(4, w.columns));
      return on_host(x);
    };
    EXPECT_EQ(run(rows), run(apart)) << name_of(format);
  }
}

TEST(EmbeddingShapes, ThatDisagreeAreNamed) {
  const Buffer<float> w("w", 6), x("x", 6);
  const auto three = on_device<int>(std::vector<int>(3));
  try {
    layers::embedding(Exec(), as_const(three.view()), as_const(w.view(2, 3)), 0, x.view(2, 3));
    FAIL() << "no error";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(),
                 "embedding: ids [3], w [1, 2, 3] of 1 panels do not give x [2, 3]: w is one panel of one expert");
  }
}

TEST(EmbeddingFormats, RowsAreDecodedExactlyFromEveryFormat) {
  for (const Format format : every_format) {
    const StoredRows w(format, vocabulary, 512);
    const Index tokens = static_cast<Index>(ids.size());
    const auto device_ids = on_device<int>(ids);
    const auto x = on_device<float>(std::vector<float>(ids.size() * 512, std::nanf("")));
    layers::embedding(Exec(), as_const(device_ids.view()), w.weight(), 0, x.view(tokens, 512));
    const auto rows = on_host(x);
    for (std::size_t t = 0; t < ids.size(); ++t) {
      const auto row = std::span(w.numbers).subspan(static_cast<std::size_t>(ids[t]) * 512, 512);
      EXPECT_TRUE(std::ranges::equal(row, std::span(rows).subspan(t * 512, 512))) << name_of(format) << ", token " << t;
    }
  }
}

/// The tokens sorted by id, those of one id in ascending order.
std::vector<int> sorted_by(const std::vector<int>& of_tokens) {
  std::vector<int> order(of_tokens.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, {}, [&](int t) { return of_tokens[static_cast<std::size_t>(t)]; });
  return order;
}

/// What is added into the rows first ... first + rows of dw.
std::vector<float> backward(const std::vector<int>& of_tokens, const std::vector<float>& dx, Index first, Index rows) {
  const Index tokens = static_cast<Index>(of_tokens.size()), width = static_cast<Index>(dx.size()) / tokens;
  const auto device_ids = on_device<int>(of_tokens), order = on_device<int>(sorted_by(of_tokens));
  const auto device_dx = on_device<float>(dx), dw = held(static_cast<std::size_t>(rows * width));
  layers::embedding_backward(Exec(), as_const(device_ids.view()), as_const(order.view()),
                             as_const(device_dx.view(tokens, width)), first, dw.view(rows, width));
  return on_host(dw);
}

TEST(EmbeddingBackward, AddsWhatPyTorchGives) {
  for (const auto& c : gradient_cases("embedding")) {
    const auto found = backward(c.at("ids"), floats_of(c, "dx"), 0, c.at("vocabulary"));
    EXPECT_LE(worst_error(found, gradient<float>(plus_held(floats_of(c, "dw")))), 1);
  }
}

TEST(EmbeddingBackward, AddsTheTokensOfARowInTheirOrderInWideRowsToo) {
  const std::vector<int> repeated{4, 1, 4, 4, 0, 1, 4};
  constexpr std::size_t width = 300;
  const auto dx = normals("dx", static_cast<Index>(repeated.size() * width));
  std::vector<float> expected(5 * width, held_before);
  for (std::size_t i = 0; i < dx.size(); ++i)
    expected[static_cast<std::size_t>(repeated[i / width]) * width + i % width] += dx[i];
  EXPECT_EQ(backward(repeated, dx, 0, 5), expected);
}

TEST(EmbeddingBackward, OfASliceIsTheSliceOfTheWhole) {
  const auto dx = normals("dx", static_cast<Index>(ids.size()) * hidden_size);
  const auto whole = backward(ids, dx, 0, vocabulary);
  for (const auto& [first, rows] : std::vector<std::pair<Index, Index>>{{0, 12}, {12, 11}, {11, 1}, {5, 1}}) {
    const auto slice = std::span(whole).subspan(static_cast<std::size_t>(first * hidden_size),
                                                static_cast<std::size_t>(rows * hidden_size));
    EXPECT_TRUE(std::ranges::equal(backward(ids, dx, first, rows), slice)) << first;
  }
}

TEST(EmbeddingShapes, ThatDisagreeAreNamedInTheBackwardToo) {
  const Buffer<float> dw("dw", 6), dx("dx", 6);
  const auto two = on_device<int>(std::vector<int>(2)), three = on_device<int>(std::vector<int>(3));
  try {
    layers::embedding_backward(Exec(), as_const(two.view()), as_const(three.view()), as_const(dx.view(2, 3)), 0,
                               dw.view(2, 3));
    FAIL() << "no error";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "embedding_backward: ids [2], order [3], dx [2, 3] do not give dw [2, 3]");
  }
}

}  // namespace
