// What cuBLASLt and hipBLASLt are asked for, with a library in their place that does products on the host.
#include <grist/backends/lt_gemm.hpp>

#include <backends/product.hpp>

#include <set>

namespace {

using namespace grist;
using namespace grist::test;

/// Column-major as they are: y [out, tokens] = w^T x with w [in, out], x [in, tokens], one algorithm after the other.
struct FakeLibrary {
  static constexpr std::string_view name = "fake";
  struct Algorithm {
    ProductShape chosen_for;
    std::size_t alignment;
    int rank;  // among the candidates
  };

  std::vector<Algorithm> asked, used;
  int able = 1;
  bool has_16_bit = true;
  bool first_wants_many = false;
  std::set<Index> refused_tokens;

  std::vector<Algorithm> candidates(const LtProduct& product) {
    asked.push_back({product.shape, product.alignment, 0});
    std::vector<Algorithm> all;
    if (product.shape.x != DType::f32 && !has_16_bit) return all;
    for (int rank = 0; rank < able; ++rank) all.push_back({product.shape, product.alignment, rank});
    return all;
  }

  bool serves(const LtProduct& product, const Algorithm& algorithm) {
    return (algorithm.rank > 0 || !first_wants_many || product.shape.tokens > 1) && !refused_tokens.contains(product.shape.tokens);
  }

  void multiply(const Exec&, const LtProduct& product, const Algorithm& algorithm, const void* x, const void* w, void* y) {
    const auto& s = product.shape;
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
  }
};

struct LtGemms : testing::Test {
  LtGemm<FakeLibrary> gemm;

  template <class T>
  bool multiply(const Factors<T>& factors, Index rows, Index first_float = 0) {
    const auto x = on_device<T>(factors.x), w = on_device<T>(factors.w);
    y = Buffer<float>("y", rows * factors.out + first_float);
    return gemm.multiply(Exec(), View2<const T>(x.data(), rows, factors.in), as_const(w.view(factors.out, factors.in)),
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
  ASSERT_EQ(gemm.library().asked.size(), 2U);
  EXPECT_EQ(gemm.library().asked[0].chosen_for.tokens, gemm.library().asked[1].chosen_for.tokens);
  ASSERT_EQ(gemm.library().used.size(), 5U);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(gemm.library().used[static_cast<std::size_t>(i)].chosen_for.out, 16);
}

TEST_F(LtGemms, PromiseTheAlignmentThatEveryRowHas) {
  const auto promised = [&](Index in, Index out) {
    const Factors<float> factors(2, in, out);
    EXPECT_TRUE(multiply(factors, 2));
    return gemm.library().asked.back().alignment;
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
  gemm.library().able = 0;
  const Factors<float> factors(4, 8, 8);
  EXPECT_FALSE(multiply(factors, 4));
  EXPECT_FALSE(multiply(factors, 3));
  EXPECT_EQ(gemm.library().asked.size(), 1U);
}

TEST_F(LtGemms, TakeTheFirstAlgorithmThatServesOneTokenToo) {
  gemm.library().able = 3;
  gemm.library().first_wants_many = true;
  const Factors<float> factors(64, 8, 8);
  for (const Index rows : {64, 1}) EXPECT_TRUE(multiply(factors, rows));
  for (const auto& used : gemm.library().used) EXPECT_EQ(used.rank, 1);
}

TEST_F(LtGemms, MultiplyInPiecesWhereTheAlgorithmDoesNotServeSoManyTokens) {
  gemm.library().refused_tokens = {201, 101};
  const Factors<float> factors(201, 8, 12);
  ASSERT_TRUE(multiply(factors, 201));
  EXPECT_LE(worst_error(on_host(y), factors.expected<float>(201)), 1);
  EXPECT_EQ(gemm.library().used.size(), 3U);  // 100, 50 and 51
}

TEST_F(LtGemms, WidenToFloatWhatTheLibraryLacksIn16Bits) {
  gemm.library().has_16_bit = false;
  const Factors<bf16> factors(9, 24, 2500);  // more weight rows than one panel
  ASSERT_TRUE(multiply(factors, 9));
  EXPECT_LE(worst_error(on_host(y), factors.expected<float>(9)), 1);
  for (const auto& used : gemm.library().used) EXPECT_EQ(used.chosen_for.w, DType::f32);
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
