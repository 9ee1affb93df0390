// What cuBLASLt and hipBLASLt are asked for, with a library in their place that does products on the host.
#include <grist/backends/lt_gemm.hpp>

#include <backends/product.hpp>

#include <set>

namespace {

using namespace grist;
using namespace grist::test;

/// Column-major as they are: result [m, n] = op(first) op(second) + beta result, one algorithm after the other.
struct FakeLibrary {
  static constexpr std::string_view name = "fake";
  static constexpr Index held_bytes = 0;
  struct Algorithm {
    ProductShape chosen_for;
    std::size_t alignment;
    int rank;  // among the candidates
  };

  std::vector<Algorithm> asked, used;
  int able = 1;
  bool has_16_bit = true;
  bool first_wants_many = false;
  std::set<Index> refused_rows;

  std::vector<Algorithm> candidates(const LtProduct& product) {
    asked.push_back({product.shape, product.alignment, 0});
    std::vector<Algorithm> all;
    if (product.shape.b != DType::f32 && !has_16_bit) return all;
    for (int rank = 0; rank < able; ++rank) all.push_back({product.shape, product.alignment, rank});
    return all;
  }

  bool serves(const LtProduct& product, const Algorithm& algorithm) {
    return (algorithm.rank > 0 || !first_wants_many || product.shape.rows > 1) &&
           !refused_rows.contains(product.shape.rows);
  }

  void multiply(const Exec&, const LtProduct& product, const Algorithm& algorithm, const void* a, const void* b,
                void* c) {
    const LtMatrix first = product.first(), second = product.second(), result = product.result();
    const bool turn_first = product.shape.op_b == Op::transposed, turn_second = product.shape.op_a == Op::transposed;
    const Index m = turn_first ? first.columns : first.rows, inner = turn_first ? first.rows : first.columns;
    const Index n = turn_second ? second.rows : second.columns;
    EXPECT_EQ(turn_second ? second.columns : second.rows, inner);
    EXPECT_EQ(result.rows, m);
    EXPECT_EQ(result.columns, n);
    used.push_back(algorithm);
    for (Index batch = 0; batch < result.batches; ++batch) {
      const float* const f = static_cast<const float*>(b) + batch * first.batch_stride;
      const float* const s = static_cast<const float*>(a) + batch * second.batch_stride;
      float* const r = static_cast<float*>(c) + batch * result.batch_stride;
      for (Index column = 0; column < n; ++column) {
        for (Index row = 0; row < m; ++row) {
          float sum = 0;
          for (Index k = 0; k < inner; ++k) {
            sum += f[turn_first ? row * first.leading_dimension + k : k * first.leading_dimension + row] *
                   s[turn_second ? k * second.leading_dimension + column : column * second.leading_dimension + k];
          }
          float& to = r[column * result.leading_dimension + row];
          to = product.shape.beta == 0 ? sum : sum + product.shape.beta * to;
        }
      }
    }
  }
};

struct LtGemms : testing::Test {
  LtGemm<FakeLibrary> gemm;

  template <class T>
  bool multiply(const Factors<T>& factors, Index rows) {
    const auto x = on_device<T>(factors.x), w = on_device<T>(factors.w);
    y = Buffer<float>("y", rows * factors.out);
    return gemm.run(Exec(),
                    {View2<const T>(x.data(), rows, factors.in), Op::none, as_const(w.view(factors.out, factors.in)),
                     Op::transposed, 0, y.view(rows, factors.out)});
  }
  Buffer<float> y;
};

TEST_F(LtGemms, GiveTheProduct) {
  const Factors<float> factors(7, 12, 5);
  ASSERT_TRUE(multiply(factors, 7));
  EXPECT_LE(worst_error(on_host(y), factors.expected<float>(7)), 1);
}

TEST_F(LtGemms, AskOnceForAWeightMatrixWhateverTheNumberOfTokens) {
  const Factors<float> factors(600, 8, 16), deeper(2, 16, 16);
  for (const Index rows : {2, 600, 33, 2}) EXPECT_TRUE(multiply(factors, rows));
  EXPECT_TRUE(multiply(deeper, 2));
  ASSERT_EQ(gemm.library().asked.size(), 2U);
  EXPECT_EQ(gemm.library().asked[0].chosen_for.rows, gemm.library().asked[1].chosen_for.rows);
  ASSERT_EQ(gemm.library().used.size(), 5U);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(gemm.library().used[static_cast<std::size_t>(i)].chosen_for.inner, 8);
}

/// What a rank of tp has of a weight gives the bits of the whole.
TEST_F(LtGemms, InFloatAskOnceWhateverTheRowsOfTheWeight) {
  for (const Index out : {16, 5, 4096}) EXPECT_TRUE(multiply(Factors<float>(2, 8, out), 2));
  EXPECT_EQ(gemm.library().asked.size(), 1U);
}

TEST_F(LtGemms, PromiseTheAlignmentThatEveryRowHas) {
  const auto promised = [&](Index in, Index out) {
    const Factors<float> factors(2, in, out);
    EXPECT_TRUE(multiply(factors, 2));
    return gemm.library().asked.back().alignment;
  };
  EXPECT_EQ(promised(64, 128), 16U);
  EXPECT_EQ(promised(6, 128), 8U);
  EXPECT_EQ(promised(5, 128), 4U);
}

TEST_F(LtGemms, DeclineMemoryThatIsAlignedLessThanItsRows) {
  const Index rows = 2, in = 8, out = 8;
  const auto x = on_device<float>(normals("x", 4 + rows * in)), w = on_device<float>(normals("w", out * in));
  y = Buffer<float>("y", rows * out);
  const auto multiplied = [&](Index first) {
    return gemm.run(Exec(), {View2<const float>(x.data() + first, rows, in), Op::none, as_const(w.view(out, in)),
                             Op::transposed, 0, y.view(rows, out)});
  };
  EXPECT_FALSE(multiplied(1));  // x begins 4 bytes behind a boundary of 16
  EXPECT_TRUE(multiplied(4));
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
  gemm.library().refused_rows = {201, 101};
  const Factors<float> factors(201, 8, 12);
  ASSERT_TRUE(multiply(factors, 201));
  EXPECT_LE(worst_error(on_host(y), factors.expected<float>(201)), 1);
  EXPECT_EQ(gemm.library().used.size(), 3U);  // 100, 50 and 51
}

// C = A^T B + C, as a gradient of weights: columns [4, 12) of a C with 16.
TEST_F(LtGemms, GiveProductsOfTransposedFactorsAndAddToARangeOfColumns) {
  const Index inner = 6, rows = 12, columns = 8, width = 16;
  const auto a = normals("a", inner * rows), b = normals("b", inner * columns), before = normals("c", rows * width);
  const auto on_a = on_device<float>(a), on_b = on_device<float>(b), on_c = on_device<float>(before);
  ASSERT_TRUE(gemm.run(Exec(), {as_const(on_a.view(inner, rows)), Op::transposed, as_const(on_b.view(inner, columns)),
                                Op::none, 1, Matrix(on_c.view(rows, width)).column_range(4, columns)}));
  const auto c = on_host(on_c);
  for (Index i = 0; i < rows; ++i) {
    for (Index j = 0; j < width; ++j) {
      double expected = before[static_cast<std::size_t>(i * width + j)];
      for (Index k = 0; k < inner && j >= 4 && j < 12; ++k)
        expected +=
            double{a[static_cast<std::size_t>(k * rows + i)]} * b[static_cast<std::size_t>(k * columns + j - 4)];
      EXPECT_NEAR(c[static_cast<std::size_t>(i * width + j)], expected, 1e-5) << i << ' ' << j;
    }
  }
}

TEST_F(LtGemms, WidenToFloatWhatTheLibraryLacksIn16Bits) {
  gemm.library().has_16_bit = false;
  const Factors<bf16> factors(9, 24, 2500);  // more weight rows than one panel
  ASSERT_TRUE(multiply(factors, 9));
  EXPECT_LE(worst_error(on_host(y), factors.expected<float>(9)), 1);
  for (const auto& used : gemm.library().used) EXPECT_EQ(used.chosen_for.b, DType::f32);
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
