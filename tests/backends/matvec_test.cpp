// matvec and its twin for devices against a double product, for every format, and their promise: a token's bits are
// the same alone and among others.
#include <grist/backends/matvec.hpp>
#include <grist/backends/products.hpp>

#include <backends/product.hpp>
#include <support/weights.hpp>

namespace {

using namespace grist;
using namespace grist::test;

struct Fast {
  template <class T, class Y>
  static void multiply(View2<const T> x, const Weight& w, View2<Y> y) {
    Reserve<Memory> scratch;
    matvec(Exec(), x, {}, w, y, scratch);
  }
};
struct Teams {
  template <class T, class Y>
  static void multiply(View2<const T> x, const Weight& w, View2<Y> y) {
    matvec_teams(Exec(), x, {}, w, y);
  }
};

template <class Way, class Factor, class Product>
struct Case : Types<Factor, Product>, Way {
  static bool rounds_tokens(const Weight& w) {
    return std::is_same_v<Way, Fast> && grist::rounds_tokens(dtype_of<Factor>, w);
  }
};

template <class Case>
struct MatVec : testing::Test {
  using T = Case::T;
  using Y = Case::Y;

  /// Of `count` tokens of x [tokens, columns] from `first` on.
  static std::vector<float> run(const std::vector<float>& x, Index first, Index count, const Weight& w) {
    const auto device_x = on_device<T>(x);
    const Buffer<Y> y("y", count * w.rows);
    Case::multiply(View2<const T>(device_x.data() + first * w.columns, count, w.columns), w, y.view(count, w.rows));
    return on_host(y);
  }
};
using Cases = testing::Types<Case<Fast, float, float>, Case<Fast, bf16, bf16>, Case<Fast, bf16, float>,
                             Case<Teams, float, float>, Case<Teams, bf16, bf16>, Case<Teams, bf16, float>>;
TYPED_TEST_SUITE(MatVec, Cases);

TYPED_TEST(MatVec, IsTheProductAtEveryShapeOfPlainNumbers) {
  using T = TypeParam::T;
  using Y = TypeParam::Y;
  for (const Index tokens : {1, 2, 3, 4, 5, 7, 17}) {
    for (const Index in : {1, 15, 16, 17, 32, 48, 63, 129}) {
      for (const Index out : {1, 2, 3, 4, 5, 17, 64}) {
        const Factors<T> factors(tokens, in, out);
        const auto w = on_device<T>(factors.w);
        EXPECT_LE(worst_error(this->run(factors.x, 0, tokens, as_const(w.view(out, in))),
                              factors.template expected<Y>(tokens)),
                  1)
            << tokens << " tokens, " << in << " in, " << out << " out";
      }
    }
  }
}

TYPED_TEST(MatVec, IsTheProductForEveryFormat) {
  using Y = TypeParam::Y;
  for (const Format format : every_format) {
    for (const Index blocks : {1, 3, block_of(format).elements == 32 ? 33 : 5}) {  // wider than 1024 columns too
      const Index in = blocks * std::max<Index>(block_of(format).elements, 32);
      for (const Index out : {1, 4, 16, 39}) {
        const StoredRows rows(format, out, in);
        const Factors<typename TypeParam::T> factors(9, in, out);
        const BlockProducts<Y> expected(factors, rows.numbers, TypeParam::rounds_tokens(rows.weight()));
        for (const Index tokens : {1, 2, 3, 5, 9})
          EXPECT_LE(expected.error(this->run(factors.x, 0, tokens, rows.weight())), 1)
              << name_of(format) << ", " << tokens << " tokens, " << in << " in, " << out << " out";
      }
    }
  }
}

TYPED_TEST(MatVec, TokensAreRoundedTo8BitsWhereThatIsSaidAndNowhereElse) {
  using Y = TypeParam::Y;
  for (const Format format : every_format) {
    const StoredRows rows(format, 33, 512);
    const Factors<typename TypeParam::T> factors(3, 512, 33);
    const auto y = this->run(factors.x, 0, 3, rows.weight());
    const bool rounds = TypeParam::rounds_tokens(rows.weight());
    EXPECT_EQ(BlockProducts<Y>(factors, rows.numbers, false).error(y) > 1, rounds) << name_of(format);
  }
}

TYPED_TEST(MatVec, ProductsOfSixteenBitsAreRoundedOnceAndInTheirType) {
  using T = TypeParam::T;
  using Y = TypeParam::Y;
  const Factors<T> factors(4, 129, 64);
  const auto w = on_device<T>(factors.w);
  const auto y = this->run(factors.x, 0, 4, as_const(w.view(64, 129)));
  expect_rounded_to<Y>(y, factors.template expected<Y>(4));
  if (std::is_same_v<Y, float>) {
    EXPECT_NE(y, stored<bf16>(y));
  }
}

TYPED_TEST(MatVec, ATokensBitsDoNotDependOnHowManyThereAre) {
  std::vector<StoredRows> every_rows;
  for (const Format format : every_format)
    every_rows.emplace_back(format, 19, block_of(format).elements == 1 ? 77 : 512);
  every_rows.emplace_back(Format::bf16, 19, 1608);  // that take many tokens packed
  for (const StoredRows& rows : every_rows) {
    const auto x = normals("x", 261 * rows.columns);
    const auto all = this->run(x, 0, 261, rows.weight());
    for (const Index count : {1, 2, 3, 5, 8, 31, 32, 33, 64, 130, 133}) {
      const auto some = this->run(x, 0, count, rows.weight());
      EXPECT_TRUE(std::ranges::equal(some, std::span(all).first(some.size())))
          << name_of(rows.format) << ", " << rows.columns << " columns, " << count << " tokens";
    }
  }
}

TYPED_TEST(MatVec, ATokensBitsDoNotDependOnWhereMemoryBegins) {
  using T = TypeParam::T;
  const Index in = 80, out = 19;
  const auto x = normals("x", 9 * in), w = normals("w", out * in);
  const auto moved = [](const std::vector<float>& values) {
    std::vector<float> later(values.size() + 1);
    std::ranges::copy(values, later.begin() + 1);
    return on_device<T>(later);
  };
  const auto here = on_device<T>(w), there = moved(w);
  const auto expected = this->run(x, 0, 9, as_const(here.view(out, in)));
  for (const Index count : {1, 2, 4, 9})
    EXPECT_TRUE(std::ranges::equal(this->run(x, 0, count, as_const(here.view(out, in))),
                                   std::span(expected).first(static_cast<std::size_t>(count * out))));
  EXPECT_EQ(this->run(x, 0, 9, View2<const T>(there.data() + 1, out, in)), expected);
}

TYPED_TEST(MatVec, ATokensBitsDoNotDependOnItsPlace) {
  for (const Format format : every_format) {
    const Index in = block_of(format).elements == 1 ? 77 : 256, out = 19;
    const StoredRows rows(format, out, in);
    const auto x = normals("x", 9 * in);
    const auto all = this->run(x, 0, 9, rows.weight());
    for (Index t = 0; t < 9; ++t) {
      const auto alone = this->run(x, t, 1, rows.weight());
      EXPECT_TRUE(std::ranges::equal(alone, std::span(all).subspan(static_cast<std::size_t>(t * out), out)))
          << name_of(format) << ", token " << t;
    }
  }
}

// What a rank of tp holds are such rows.
TYPED_TEST(MatVec, ARowOfTheWeightGivesTheSameBitsAmongOtherRows) {
  for (const Format format : every_format) {
    const StoredRows rows(format, 21, 256);
    const auto x = normals("x", 3 * 256);
    const auto all = this->run(x, 0, 3, rows.weight());
    for (const auto& [first, count] : {std::pair<Index, Index>{0, 1}, {1, 4}, {2, 7}, {20, 1}}) {
      Weight w(256, 1);
      w.add(rows.panel(first, count));
      const auto some = this->run(x, 0, 3, w);
      for (Index t = 0; t < 3; ++t)
        for (Index row = 0; row < count; ++row)
          EXPECT_EQ(some[static_cast<std::size_t>(t * count + row)],
                    all[static_cast<std::size_t>(t * 21 + first + row)])
              << name_of(format) << ", row " << first + row;
    }
  }
}

TYPED_TEST(MatVec, PanelsGiveWhatTheyGiveAlone) {
  struct Case {
    std::array<Index, 3> extents;
    Index in = 512, tokens = 5;
  };
  for (const auto& [extents, in, tokens] :
       {Case{{16, 16, 16}}, {{41, 5, 6}}, {{3, 50, 1}}, {{16, 7, 16}, 2048, 6}, {{16, 7, 16}, 2048, 20}}) {
    const auto x = normals("x", tokens * in);
    const StoredRows q(Format::q4_k, extents[0], in, "q"), k(Format::bf16, extents[1], in, "k"),
        v(Format::q6_k, extents[2], in, "v");
    Weight fused(in, 1);
    for (const StoredRows* rows : {&q, &k, &v}) fused.add(rows->panel());
    EXPECT_EQ(fused.rows, extents[0] + extents[1] + extents[2]);
    const auto y = this->run(x, 0, tokens, fused);
    Index column = 0;
    for (const StoredRows* rows : {&q, &k, &v}) {
      const auto alone = this->run(x, 0, tokens, rows->weight());
      for (Index t = 0; t < tokens; ++t)
        for (Index row = 0; row < rows->rows; ++row)
          EXPECT_EQ(y[static_cast<std::size_t>(t * fused.rows + column + row)],
                    alone[static_cast<std::size_t>(t * rows->rows + row)])
              << name_of(rows->format) << ", row " << row;
      column += rows->rows;
    }
  }
}

TYPED_TEST(MatVec, NoTokensAreNoWork) {
  const StoredRows rows(Format::q4_0, 4, 32);
  EXPECT_TRUE(this->run({}, 0, 0, rows.weight()).empty());
}

/// matvec of tokens in bf16.
std::vector<float> products(const std::vector<float>& x, Index tokens, const Weight& w,
                            View1<const int> offsets = {}) {
  const auto device_x = on_device<bf16>(x);
  const Buffer<float> y("y", tokens * w.rows);
  Reserve<Memory> scratch;
  matvec(Exec(), View2<const bf16>(device_x.data(), tokens, w.columns), offsets, w, y.view(tokens, w.rows), scratch);
  return on_host(y);
}

TEST(MatVecOfExperts, GivesEachTokenTheBitsThatItsExpertGivesAlone) {
  constexpr Index columns = 1608, out = 19, experts = 5;
  const std::vector<int> first{0, 3, 3, 9, 45, 62};  // as they are, none, packed together and in tiles
  const auto offsets = on_device<int>(first);
  const StoredRows rows(Format::bf16, experts * out, columns);
  Weight w(columns, experts);
  w.add({Format::bf16, out, rows.memory.data()});
  const auto x = normals("x", 62 * columns);
  const auto all = products(x, 62, w, as_const(offsets.view()));
  for (Index e = 0; e < experts; ++e) {
    Weight expert(columns, 1);
    expert.add(rows.panel(e * out, out));
    for (int t = first[e]; t < first[e + 1]; ++t) {
      const std::vector<float> token(x.begin() + t * columns, x.begin() + (t + 1) * columns);
      EXPECT_TRUE(std::ranges::equal(products(token, 1, expert), std::span(all).subspan(t * out, out)))
          << "expert " << e << ", token " << t;
    }
  }
}

/// Products of bytes, which alone know interleaved rows.
struct InterleavedProducts : testing::Test {};

TEST_F(InterleavedProducts, HaveTheBitsOfRowsApart) {
  if (!reads_interleaved(DType::bf16, Format::q8_0)) GTEST_SKIP() << "this processor multiplies no bytes";
  for (const Format format : every_format) {
    if (block_of(format).elements == 1) continue;
    ASSERT_TRUE(reads_interleaved(DType::bf16, format));
    for (const Index blocks : {1, 3, block_of(format).elements == 32 ? 33 : 5}) {
      for (const Index out : {16, 48, 784}) {
        const StoredRows apart(format, out, blocks * block_of(format).elements);
        const StoredRows rows = apart.interleaved();
        const auto x = normals("x", 130 * apart.columns);
        for (const Index tokens : {1, 2, 5, 9, 130})
          EXPECT_EQ(products(x, tokens, rows.weight()), products(x, tokens, apart.weight()))
              << name_of(format) << ", " << tokens << " tokens, " << blocks << " blocks, " << out << " out";
      }
    }
  }
}

TEST_F(InterleavedProducts, OfExpertsHaveTheBitsOfRowsApart) {
  if (!reads_interleaved(DType::bf16, Format::q8_0)) GTEST_SKIP() << "this processor multiplies no bytes";
  const auto offsets = on_device<int>(std::vector<int>{0, 3, 3, 20});
  for (const Format format : {Format::q8_0, Format::q4_k}) {
    const StoredRows apart(format, 3 * 48, 512);
    const StoredRows rows = apart.interleaved();
    const auto experts = [](const StoredRows& stored) {
      Weight w(stored.columns, 3);
      w.add({stored.format, 48, stored.memory.data(), stored.is_interleaved});
      return w;
    };
    const auto x = normals("x", 20 * 512);
    const auto run = [&](const StoredRows& stored) {
      return products(x, 20, experts(stored), as_const(offsets.view()));
    };
    EXPECT_EQ(run(rows), run(apart)) << name_of(format);
  }
}

/// Panels of one weight lie each as it does; more rows than a provider is given at a time are converted piece by piece.
TEST_F(InterleavedProducts, BesideOtherPanelsHaveTheBitsOfRowsApart) {
  if (!reads_interleaved(DType::bf16, Format::q8_0)) GTEST_SKIP() << "this processor multiplies no bytes";
  constexpr Index columns = 512, tokens = 11;
  const StoredRows q(Format::q8_0, 528, columns), k(Format::q4_k, 5, columns), v(Format::bf16, 64, columns);
  const StoredRows interleaved = q.interleaved();
  const auto x = on_device<bf16>(normals("x", tokens * columns));
  for (const bool stores_plain_numbers : {false, true}) {
    const auto multiply = [&](const StoredRows& first, Index few) {
      Weight w(columns, 1);
      w.add(first.panel());
      w.add(stores_plain_numbers ? v.panel() : k.panel());
      Products way;
      way.serve(few);
      const Buffer<float> y("y", tokens * w.rows);
      way.multiply(Exec(), as_const(x.view(tokens, columns)), w, y.view(tokens, w.rows));
      return on_host(y);
    };
    for (const Index few : {0, 3, 11}) EXPECT_EQ(multiply(interleaved, few), multiply(q, few)) << few;
  }
}

TEST_F(InterleavedProducts, OfFloatsAreRefused) {
  if (!reads_interleaved(DType::bf16, Format::q8_0)) GTEST_SKIP() << "this processor multiplies no bytes";
  EXPECT_FALSE(reads_interleaved(DType::f32, Format::q8_0));
  const StoredRows rows = StoredRows(Format::q8_0, 16, 32).interleaved();
  const Buffer<float> x("x", 32), y("y", 16);
  Reserve<Memory> scratch;
  EXPECT_THROW(matvec(Exec(), as_const(x.view(1, 32)), {}, rows.weight(), y.view(1, 16), scratch), InternalError);
}

}  // namespace
