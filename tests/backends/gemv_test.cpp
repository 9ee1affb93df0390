// gemv and its plain twin against a double product, and their promise: a token's bits are the same alone and among others.
#include <grist/backends/gemv.hpp>

#include <backends/product.hpp>

namespace {

using namespace grist;
using namespace grist::test;

struct Fast {
  template <class T, class Y>
  static void multiply(View2<const T> x, View2<const T> w, View2<Y> y) { gemv(Exec(), x, w, y); }
};
struct Plain {
  template <class T, class Y>
  static void multiply(View2<const T> x, View2<const T> w, View2<Y> y) { gemv_plain(Exec(), x, w, y); }
};

template <class Way, class Factor, class Product>
struct Case : Types<Factor, Product>, Way {};

template <class Case>
struct Gemv : testing::Test {
  using T = Case::T;
  using Y = Case::Y;

  /// The product of `count` rows from `first` on.
  static std::vector<float> run(const Factors<T>& factors, Index first, Index count) {
    const auto x = on_device<T>(factors.x), w = on_device<T>(factors.w);
    const Buffer<Y> y("y", count * factors.out);
    Case::multiply(View2<const T>(x.data() + first * factors.in, count, factors.in),
                   as_const(w.view(factors.out, factors.in)), y.view(count, factors.out));
    return on_host(y);
  }
};
using Cases = testing::Types<Case<Fast, float, float>, Case<Fast, bf16, bf16>, Case<Fast, bf16, float>, Case<Plain, float, float>,
                             Case<Plain, bf16, bf16>, Case<Plain, bf16, float>>;
TYPED_TEST_SUITE(Gemv, Cases);

TYPED_TEST(Gemv, IsTheProductAtEveryShape) {
  using Y = TypeParam::Y;
  for (const Index tokens : {1, 2, 3, 4, 5, 7, 17}) {
    for (const Index in : {1, 15, 16, 17, 32, 48, 63, 129}) {
      for (const Index out : {1, 2, 3, 4, 5, 17, 64}) {
        const Factors<typename TypeParam::T> factors(tokens, in, out);
        EXPECT_LE(worst_error(this->run(factors, 0, tokens), factors.template expected<Y>(tokens)), 1)
            << tokens << " tokens, " << in << " in, " << out << " out";
      }
    }
  }
}

TYPED_TEST(Gemv, ProductsOfSixteenBitsAreRoundedOnceAndInTheirType) {
  using Y = TypeParam::Y;
  const Factors<typename TypeParam::T> factors(4, 129, 64);
  const auto y = this->run(factors, 0, 4);
  expect_rounded_to<Y>(y, factors.template expected<Y>(4));
  if (std::is_same_v<Y, float>) {
    EXPECT_NE(y, stored<bf16>(y));
  }
}

TYPED_TEST(Gemv, ATokensBitsDoNotDependOnHowManyThereAre) {
  const Factors<typename TypeParam::T> factors(64, 77, 19);
  const auto all = this->run(factors, 0, 64);
  for (Index count = 1; count < 64; ++count) {
    const auto some = this->run(factors, 0, count);
    EXPECT_TRUE(std::ranges::equal(some, std::span(all).first(some.size()))) << count << " tokens";
  }
}

TYPED_TEST(Gemv, ATokensBitsDoNotDependOnItsPlace) {
  const Factors<typename TypeParam::T> factors(9, 77, 19);
  const auto all = this->run(factors, 0, 9);
  for (Index t = 0; t < 9; ++t) {
    const auto alone = this->run(factors, t, 1);
    const auto among = std::span(all).subspan(static_cast<std::size_t>(t * 19), 19);
    EXPECT_TRUE(std::ranges::equal(alone, among)) << "token " << t;
  }
}

TYPED_TEST(Gemv, NoTokensAreNoWork) {
  const Factors<typename TypeParam::T> factors(1, 16, 4);
  EXPECT_TRUE(this->run(factors, 0, 0).empty());
}

}  // namespace
