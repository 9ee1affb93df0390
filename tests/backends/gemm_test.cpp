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
  const bool done =
      gemm.run(Exec(), {View2<const T>(x.data(), rows, factors.in), Op::none, as_const(w.view(factors.out, factors.in)),
                        Op::transposed, 0, y.view(rows, factors.out)});
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
using GemmTypes =
    testing::Types<Types<float, float>, Types<bf16, bf16>, Types<bf16, float>, Types<f16, f16>, Types<f16, float>>;
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
    for (Index i = in; i < rows * in; ++i)
      values.push_back(values[static_cast<std::size_t>(i - in)]);  // one row, again and again
    const auto x = on_device<T>(values), w = on_device<T>(normals("w", out * in));
    const Buffer<Y> y("y", rows * out);
    ASSERT_TRUE(gemm.run(Exec(), {as_const(x.view(rows, in)), Op::none, as_const(w.view(out, in)), Op::transposed, 0,
                                  y.view(rows, out)}));
    const auto all = on_host(y);
    for (Index row = 1; row < rows; ++row)
      EXPECT_TRUE(std::ranges::equal(std::span(all).subspan(static_cast<std::size_t>(row * out), out),
                                     std::span(all).first(out)))
          << row;
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
    const bool done = gemm.run(
        Exec(), {View3<const T>(x.data(), batches, rows, in), Op::none, View3<const T>(w.data(), batches, out, in),
                 Op::transposed, 0, View3<Y>(all.data(), batches, rows, out)});
    if (!done) {
      EXPECT_TRUE(widens(gemm) && !(std::is_same_v<T, float>));
      return;
    }
    const auto together = on_host(all);
    for (Index b = 0; b < batches; ++b) {
      ASSERT_TRUE(
          gemm.run(Exec(), {View2<const T>(x.data() + b * rows * in, rows, in), Op::none,
                            View2<const T>(w.data() + b * out * in, out, in), Op::transposed, 0, one.view(rows, out)}));
      const auto alone = on_host(one);
      for (std::size_t i = 0; i < alone.size(); ++i)
        EXPECT_NEAR(together[static_cast<std::size_t>(b * rows * out) + i], alone[i],
                    4 * (rounding<Y> + 1e-6) * (1 + std::abs(alone[i])))
            << b;
    }
  });
}

/// A matrix of a batch with longer rows than it needs, by the double product's and the provider's indices alike.
struct Laid {
  Index batches, rows, columns, stride;
  [[nodiscard]] Index size() const { return batches * rows * stride; }
  [[nodiscard]] std::size_t at(Index batch, Index row, Index column) const {
    return static_cast<std::size_t>((batch * rows + row) * stride + column);
  }
  [[nodiscard]] std::size_t at(Op op, Index batch, Index i, Index k) const {
    return op == Op::none ? at(batch, i, k) : at(batch, k, i);
  }
  template <class Data>
  [[nodiscard]] MatrixOf<Data> matrix(Data* data, DType type) const {
    MatrixOf<Data> m(data, type, rows, columns, stride);
    m.batches = batches;
    return m;
  }
};

TYPED_TEST(Providers, MultiplyEitherWayAndAddToWhatIsThere) {
  using T = TypeParam::T;
  using Y = TypeParam::Y;
  constexpr Index m = 21, n = 18, k = 35;
  int done = 0;
  this->each([&](Gemm& gemm) {
    for (const Op op_a : {Op::none, Op::transposed}) {
      for (const Op op_b : {Op::none, Op::transposed}) {
        for (const float beta : {0.0F, 1.0F, 0.5F}) {
          for (const Index batches : {1, 3}) {
            for (const Index wider : {0, 4}) {
              SCOPED_TRACE(testing::Message() << "ops " << static_cast<int>(op_a) << static_cast<int>(op_b) << ", beta "
                                              << beta << ", " << batches << " matrices, rows longer by " << wider);
              const Laid la = op_a == Op::none ? Laid{batches, m, k, k + wider} : Laid{batches, k, m, m + wider};
              const Laid lb = op_b == Op::none ? Laid{batches, k, n, n + wider} : Laid{batches, n, k, k + wider};
              const Laid lc{batches, m, n, n + wider};
              const auto a = stored<T>(normals("a", la.size())), b = stored<T>(normals("b", lb.size()));
              auto before = stored<Y>(normals("c", lc.size()));
              if (beta == 0) std::ranges::fill(before, std::nanf(""));  // must not be read
              const auto on_a = on_device<T>(a), on_b = on_device<T>(b);
              const auto on_c = on_device<Y>(before);
              if (!gemm.run(Exec(), {la.matrix<const void>(on_a.data(), dtype_of<T>), op_a,
                                     lb.matrix<const void>(on_b.data(), dtype_of<T>), op_b, beta,
                                     lc.matrix<void>(on_c.data(), dtype_of<Y>)})) {
                EXPECT_NE(gemm.name(), "portable");
                continue;
              }
              ++done;
              const auto c = on_host(on_c);
              double worst = 0;
              for (Index batch = 0; batch < batches; ++batch) {
                for (Index i = 0; i < m; ++i) {
                  for (Index j = 0; j < n; ++j) {
                    const double held = beta == 0 ? 0 : double{beta} * before[lc.at(batch, i, j)];
                    double value = held, magnitude = std::abs(held);
                    for (Index l = 0; l < k; ++l) {
                      const double product = double{a[la.at(op_a, batch, i, l)]} * b[lb.at(op_b, batch, l, j)];
                      value += product;
                      magnitude += std::abs(product);
                    }
                    const double summed = (k + 3) * float_rounding * magnitude;
                    const double error = std::abs(c[lc.at(batch, i, j)] - value);
                    worst = std::max(worst, error / (summed + rounding<Y> * (std::abs(value) + summed)));
                    if (!(error < 1e30)) worst = 1e30;
                  }
                  for (Index j = n; j < lc.stride; ++j) {
                    const float kept = c[lc.at(batch, i, j)], was = before[lc.at(batch, i, j)];
                    EXPECT_TRUE(kept == was || (std::isnan(kept) && std::isnan(was))) << "beyond the columns";
                  }
                }
              }
              EXPECT_LE(worst, 1);
            }
          }
        }
      }
    }
  });
  EXPECT_GE(done, 48);  // the portable one declines nothing
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
  EXPECT_FALSE(
      make_gemm("portable")
          ->run(Exec(), {as_const(x.view(2, 2)), Op::none, as_const(w.view(2, 2)), Op::transposed, 0, y.view(2, 2)}));
}

}  // namespace
