// Every GEMM provider of this build against a double product, and its promises: a row's bits do not depend on the other
// rows, and a shape gives the same bits every time.
#include <grist/backends/gemm.hpp>
#include <grist/core/errors.hpp>

#include <backends/product.hpp>

#include <string>

namespace {

using namespace grist;
using namespace grist::test;

/// The product of the first rows; empty where the provider declines.
template <class T, class Y>
std::vector<float> run(Gemm& gemm, const Factors<T>& factors, Index rows) {
  const auto x = on_device<T>(factors.x), w = on_device<T>(factors.w);
  const Buffer<Y> y("y", rows * factors.out);
  const bool done = gemm.multiply(Exec(), View2<const T>(x.data(), rows, factors.in),
                                  as_const(w.view(factors.out, factors.in)), y.view(rows, factors.out));
  return done ? on_host(y) : std::vector<float>();
}

/// 16-bit factors that a library lacks are widened to float, one matrix at a time.
bool widens(const Gemm& gemm) { return gemm.name() != "portable"; }

/// One row alone takes another algorithm in oneDNN.
bool may_decline(const Gemm& gemm, Index rows) { return gemm.name() == "onednn" && rows == 1; }

template <class Pair>
struct Providers : testing::Test {
  /// Calls judge(provider) for each provider of this build.
  template <class Judge>
  static void each(Judge judge) {
    ASSERT_FALSE(gemm_providers().empty());
    for (const auto name : gemm_providers()) {
      SCOPED_TRACE(name);
      judge(*make_gemm(name));
    }
  }
  /// Those that promise a row the same bits in any batch.
  template <class Judge>
  static void each_invariant(Judge judge) {
    each([&](Gemm& gemm) {
      if (gemm.batch_invariant()) judge(gemm);
    });
  }
};
using GemmTypes = testing::Types<Types<float, float>, Types<bf16, bf16>, Types<bf16, float>, Types<f16, f16>, Types<f16, float>>;
TYPED_TEST_SUITE(Providers, GemmTypes);

TYPED_TEST(Providers, GiveTheProductAtEveryShape) {
  using Y = TypeParam::Y;
  this->each([](Gemm& gemm) {
    for (const Index rows : {1, 2, 3, 5, 17, 64, 129}) {
      for (const Index in : {1, 5, 32, 129}) {
        for (const Index out : {1, 2, 3, 17, 64, 129}) {
          const Factors<typename TypeParam::T> factors(rows, in, out);
          const auto y = run<typename TypeParam::T, Y>(gemm, factors, rows);
          SCOPED_TRACE(testing::Message() << rows << " rows, " << in << " in, " << out << " out");
          if (y.empty())
            EXPECT_TRUE(may_decline(gemm, rows));
          else
            EXPECT_LE(worst_error(y, factors.template expected<Y>(rows)), 1);
        }
      }
    }
  });
}

TYPED_TEST(Providers, RoundToTheTypeOfTheProductAlone) {
  using Y = TypeParam::Y;
  this->each([](Gemm& gemm) {
    const Factors<typename TypeParam::T> factors(17, 129, 64);
    const auto y = run<typename TypeParam::T, Y>(gemm, factors, 17);
    ASSERT_FALSE(y.empty());
    expect_rounded_to<Y>(y, factors.template expected<Y>(17));
    if (std::is_same_v<Y, float>) {
      EXPECT_NE(y, stored<bf16>(y));
    }
  });
}

TYPED_TEST(Providers, GiveARowTheSameBitsAloneAndAmongOthers) {
  using Y = TypeParam::Y;
  this->each_invariant([](Gemm& gemm) {
    for (const Index in : {64, 77, 576}) {
      const Factors<typename TypeParam::T> factors(129, in, 48);
      const auto all = run<typename TypeParam::T, Y>(gemm, factors, 129);
      for (const Index rows : {1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 17, 31, 33, 64, 65, 100, 128}) {
        const auto some = run<typename TypeParam::T, Y>(gemm, factors, rows);
        EXPECT_TRUE(std::ranges::equal(some, std::span(all).first(some.size()))) << rows << " rows, " << in << " in";
        // All or none: a row that went another way at some count would have other bits there.
        EXPECT_TRUE(some.empty() == all.empty() || may_decline(gemm, rows)) << rows << " rows, " << in << " in";
      }
    }
  });
}

TYPED_TEST(Providers, GiveARowTheSameBitsAtAnyPlace) {
  using T = TypeParam::T;
  using Y = TypeParam::Y;
  constexpr Index rows = 150, in = 96, out = 40;
  this->each_invariant([](Gemm& gemm) {
    auto values = stored<T>(normals("x", in));
    values.reserve(rows * in);
    for (Index i = in; i < rows * in; ++i) values.push_back(values[static_cast<std::size_t>(i - in)]);  // one row, again and again
    const auto x = on_device<T>(values), w = on_device<T>(normals("w", out * in));
    const Buffer<Y> y("y", rows * out);
    ASSERT_TRUE(gemm.multiply(Exec(), as_const(x.view(rows, in)), as_const(w.view(out, in)), y.view(rows, out)));
    const auto all = on_host(y);
    for (Index row = 1; row < rows; ++row)
      EXPECT_TRUE(std::ranges::equal(std::span(all).subspan(static_cast<std::size_t>(row * out), out), std::span(all).first(out))) << row;
  });
}

// Where a sum is long a library may deal it out by the number of rows.
TYPED_TEST(Providers, GiveARowTheSameBitsAtTheSizesOfAModel) {
  using Y = TypeParam::Y;
  this->each_invariant([](Gemm& gemm) {
    if (gemm.name() == "portable") return;  // one thread sums an element, whatever its length
    const Factors<typename TypeParam::T> factors(512, 5632, 96);
    const auto all = run<typename TypeParam::T, Y>(gemm, factors, 512);
    ASSERT_FALSE(all.empty());
    for (const Index rows : {2, 5, 16, 77, 128, 300, 511}) {
      const auto some = run<typename TypeParam::T, Y>(gemm, factors, rows);
      ASSERT_FALSE(some.empty());
      EXPECT_TRUE(std::ranges::equal(some, std::span(all).first(some.size()))) << rows << " rows";
    }
  });
}

TYPED_TEST(Providers, MultiplyABatchAsItsMatricesAlone) {
  using T = TypeParam::T;
  using Y = TypeParam::Y;
  constexpr Index batches = 3, rows = 6, in = 16, out = 8;
  this->each([](Gemm& gemm) {
    const auto x = on_device<T>(normals("x", batches * rows * in)), w = on_device<T>(normals("w", batches * out * in));
    const Buffer<Y> all("all", batches * rows * out), one("one", rows * out);
    const bool done = gemm.multiply(Exec(), View3<const T>(x.data(), batches, rows, in), View3<const T>(w.data(), batches, out, in),
                                    View3<Y>(all.data(), batches, rows, out));
    if (!done) {
      EXPECT_TRUE(widens(gemm) && !(std::is_same_v<T, float>));
      return;
    }
    const auto together = on_host(all);
    for (Index b = 0; b < batches; ++b) {
      ASSERT_TRUE(gemm.multiply(Exec(), View2<const T>(x.data() + b * rows * in, rows, in),
                                View2<const T>(w.data() + b * out * in, out, in), one.view(rows, out)));
      const auto alone = on_host(one);
      for (std::size_t i = 0; i < alone.size(); ++i)
        EXPECT_NEAR(together[static_cast<std::size_t>(b * rows * out) + i], alone[i], 4 * (rounding<Y> + 1e-6) * (1 + std::abs(alone[i]))) << b;
    }
  });
}

TYPED_TEST(Providers, GiveTheSameBitsTwice) {
  using Y = TypeParam::Y;
  this->each([](Gemm& gemm) {
    const Factors<typename TypeParam::T> factors(33, 129, 65);
    const auto first = run<typename TypeParam::T, Y>(gemm, factors, 33);
    const auto fresh = make_gemm(gemm.name());
    EXPECT_EQ((run<typename TypeParam::T, Y>(gemm, factors, 33)), first);
    EXPECT_EQ((run<typename TypeParam::T, Y>(*fresh, factors, 33)), first);
  });
}

TEST(GemmProviders, AutoIsTheBestAndPortableIsAlwaysThere) {
  EXPECT_EQ(make_gemm()->name(), gemm_providers().front());
  EXPECT_EQ(make_gemm("auto")->name(), gemm_providers().front());
  EXPECT_EQ(gemm_providers().back(), "portable");
  for (const auto name : gemm_providers()) EXPECT_EQ(make_gemm(name)->name(), name);
}

TEST(GemmProviders, AnUnknownNameIsRefusedWithThoseThatAreThere) {
  try {
    (void)make_gemm("abacus");
    FAIL() << "no error";
  } catch (const UsageError& error) {
    std::string expected = "GEMM provider 'abacus' is not in this build; it has: auto";
    for (const auto name : gemm_providers()) expected += ", " + std::string(name);
    EXPECT_EQ(error.what(), expected);
  }
}

TEST(GemmProviders, PortableDeclinesFactorsOfTwoTypes) {
  const auto x = on_device<bf16>(normals("x", 4));
  const auto w = on_device<float>(normals("w", 4));
  const Buffer<float> y("y", 4);
  EXPECT_FALSE(make_gemm("portable")->multiply(Exec(), as_const(x.view(2, 2)), as_const(w.view(2, 2)), y.view(2, 2)));
}

}  // namespace
