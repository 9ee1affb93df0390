// What cuBLASLt and hipBLASLt are asked for, with a library in their place that does products on the host.
#include <grist/backends/lt_gemm.hpp>

#include <backends/product.hpp>

namespace {

using namespace grist;
using namespace grist::test;

/// Column-major as they are: y [out, tokens] = w^T x with w [in, out], x [in, tokens], one algorithm after the other.
struct FakeLibrary {
  static constexpr std::string_view name = "fake";
  struct Algorithm {
    ProductShape chosen_for;
    std::size_t alignment;
  };

  std::vector<Algorithm> chosen, used;
  bool able = true;
  Index most_tokens = 1 << 20;

  std::unique_ptr<Algorithm> choose(const LtProduct& product) {
    chosen.push_back({product.shape, product.alignment});
    return able ? std::make_unique<Algorithm>(chosen.back()) : nullptr;
  }

  bool multiply(const Exec&, const LtProduct& product, const Algorithm& algorithm, const void* x, const void* w, void* y) {
    const auto& s = product.shape;
    if (s.tokens > most_tokens) return false;
    used.push_back(algorithm);
    for (Index b = 0; b < s.batches; ++b) {
      const float* const xb = static_cast<const float*>(x) + b * s.in * s.tokens;
      const float* const wb = static_cast<const float*>(w) + b * s.in * s.out;
      float* const yb = static_cast<float*>(y) + b * s.out * s.tokens;
      for (Index column = 0; column < s.tokens; ++column)
        for (Index row = 0; row < s.out; ++row) {
          float sum = 0;
          for (Index k = 0; k < s.in; ++k) sum += wb[row * s.in + k] * xb[column * s.in + k];
          yb[column * s.out + row] = sum;
        }
    }
    return true;
  }
};

struct LtGemms : testing::Test {
  LtGemm<FakeLibrary> gemm;

  bool multiply(const Factors<float>& factors, Index rows, Index first_float = 0) {
    const auto x = on_device<float>(factors.x), w = on_device<float>(factors.w);
    y = Buffer<float>("y", rows * factors.out + first_float);
    return gemm.multiply(Exec(), View2<const float>(x.data(), rows, factors.in), as_const(w.view(factors.out, factors.in)),
                         View2<float>(y.data() + first_float, rows, factors.out));
  }
  Buffer<float> y;
};

TEST_F(LtGemms, GiveTheProduct) {
  const Factors<float> factors(7, 12, 5);
  ASSERT_TRUE(multiply(factors, 7));
  EXPECT_LE(worst_error(on_host(y), factors.expected<float>(7)), 1);
}

TEST_F(LtGemms, AskOnceForAWeightMatrixWhateverTheNumberOfTokens) {
  const Factors<float> factors(600, 8, 16), wider(2, 8, 32);
  for (const Index rows : {2, 600, 33, 2}) EXPECT_TRUE(multiply(factors, rows));
  EXPECT_TRUE(multiply(wider, 2));
  ASSERT_EQ(gemm.library().chosen.size(), 2U);
  EXPECT_EQ(gemm.library().chosen[0].chosen_for.tokens, gemm.library().chosen[1].chosen_for.tokens);
  ASSERT_EQ(gemm.library().used.size(), 5U);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(gemm.library().used[static_cast<std::size_t>(i)].chosen_for.out, 16);
}

TEST_F(LtGemms, PromiseTheAlignmentThatEveryRowHas) {
  const auto promised = [&](Index in, Index out) {
    const Factors<float> factors(2, in, out);
    EXPECT_TRUE(multiply(factors, 2));
    return gemm.library().chosen.back().alignment;
  };
  EXPECT_EQ(promised(64, 128), 16U);
  EXPECT_EQ(promised(6, 128), 8U);
  EXPECT_EQ(promised(64, 5), 4U);
}

TEST_F(LtGemms, DeclineMemoryThatIsAlignedLessThanItsRows) {
  const Factors<float> factors(2, 8, 8);
  EXPECT_FALSE(multiply(factors, 2, 1));  // y begins 4 bytes behind a boundary of 16
  EXPECT_TRUE(multiply(factors, 2, 4));
}

TEST_F(LtGemms, DeclineWhatTheLibraryCannotAndAskNoSecondTime) {
  gemm.library().able = false;
  const Factors<float> factors(4, 8, 8);
  EXPECT_FALSE(multiply(factors, 4));
  EXPECT_FALSE(multiply(factors, 3));
  EXPECT_EQ(gemm.library().chosen.size(), 1U);
}

TEST_F(LtGemms, DeclineTokensThatTheAlgorithmDoesNotServe) {
  gemm.library().most_tokens = 100;
  const Factors<float> factors(200, 8, 8);
  EXPECT_FALSE(multiply(factors, 200));
  EXPECT_TRUE(multiply(factors, 100));
}

TEST(PlanCaches, ForgetAllWhenFull) {
  PlanCache<int, int> plans(2);
  int made = 0;
  const auto plan = [&](int key) {
    return *plans.find_or_make(key, [&] {
      ++made;
      return std::make_unique<int>(10 * key);
    });
  };
  EXPECT_EQ(plan(1), 10);
  EXPECT_EQ(plan(2), 20);
  EXPECT_EQ(plan(1), 10);
  EXPECT_EQ(made, 2);
  EXPECT_EQ(plan(3), 30);
  EXPECT_EQ(plan(1), 10);
  EXPECT_EQ(made, 4);
}

}  // namespace
