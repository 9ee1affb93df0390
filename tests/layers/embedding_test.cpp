// The embedding copies rows, exactly; a slice of the vocabulary gives zeros for the other rows, so that slices add up.
#include <grist/core/errors.hpp>
#include <grist/layers/embedding.hpp>

#include <support/weights.hpp>

namespace {

using namespace grist;
using namespace grist::test;

constexpr Index vocabulary = 23, hidden = 7;
const std::vector<int> ids{0, 22, 5, 5, 11, 12, 1};

template <class T>
struct Embedding : testing::Test {
  const std::vector<float> w = stored<T>(normals("w", vocabulary * hidden));

  /// With the rows [first, first + rows) of the vocabulary.
  std::vector<float> run(Index first, Index rows) const {
    const Index tokens = static_cast<Index>(ids.size());
    const auto device_ids = on_device<int>(ids);
    const auto device_w = on_device<T>(w);
    const auto x = on_device<float>(std::vector<float>(ids.size() * hidden, std::nanf("")));
    const View2<const T> slice(device_w.data() + first * hidden, rows, hidden);
    layers::embedding(Exec(), as_const(device_ids.view()), slice, first, x.view(tokens, hidden));
    return on_host(x);
  }

  std::vector<float> expected(Index first, Index rows) const {
    std::vector<float> x;
    for (const int id : ids)
      for (Index c = 0; c < hidden; ++c)
        x.push_back(id >= first && id < first + rows ? w[static_cast<std::size_t>(id * hidden + c)] : 0);
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

}  // namespace
