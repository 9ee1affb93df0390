// Linear against a double product, with bias, and with any part of its rows going through gemv.
#include <grist/backends/gemv.hpp>
#include <grist/core/errors.hpp>
#include <grist/layers/linear.hpp>

#include <backends/product.hpp>

namespace {

using namespace grist;
using namespace grist::test;

/// A provider that does nothing but note what it is asked for.
struct Asked final : Gemm {
  std::vector<Index> rows;
  [[nodiscard]] std::string_view name() const override { return "asked"; }
  bool multiply(const Exec&, ConstMatrix x, ConstMatrix, Matrix) override {
    rows.push_back(x.rows);
    return false;
  }
};

template <class Pair>
struct Linear : testing::Test {
  using T = Pair::T;
  using Y = Pair::Y;

  static std::vector<float> run(Gemm& gemm, const Factors<T>& factors, Index few, const std::vector<float>& bias = {}) {
    const auto x = on_device<T>(factors.x), w = on_device<T>(factors.w);
    const auto b = on_device<float>(bias);
    const Buffer<Y> y("y", factors.tokens * factors.out);
    layers::linear(Exec(), gemm, as_const(x.view(factors.tokens, factors.in)),
                   as_const(w.view(factors.out, factors.in)), as_const(b.view()), few,
                   y.view(factors.tokens, factors.out));
    return on_host(y);
  }
};
TYPED_TEST_SUITE(Linear, ProductTypes);

TYPED_TEST(Linear, IsTheProductHoweverItsRowsAreDealt) {
  const Factors<typename TypeParam::T> factors(9, 77, 33);
  const auto expected = factors.template expected<typename TypeParam::Y>(9);
  for (const auto name : gemm_providers()) {
    const auto gemm = make_gemm(name);
    for (const Index few : {0, 1, 4, 8, 9})
      EXPECT_LE(worst_error(this->run(*gemm, factors, few), expected), 1) << name << ", few " << few;
  }
}

TYPED_TEST(Linear, AddsItsBiasToEveryRow) {
  using Y = TypeParam::Y;
  const Factors<typename TypeParam::T> factors(9, 77, 33);
  const auto bias = normals("bias", 33, 10);
  auto expected = factors.template expected<Y>(9);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    auto& [value, bound] = expected[i];
    value += bias[i % 33];
    bound = (bound + rounding<Y> * std::abs(value)) * 1.01;
  }
  const auto gemm = make_gemm();
  for (const Index few : {0, 4, 9})
    EXPECT_LE(worst_error(this->run(*gemm, factors, few, bias), expected), 1) << "few " << few;
}

TYPED_TEST(Linear, GivesTheProviderExactlyTheRowsBehindTheFew) {
  const Factors<typename TypeParam::T> factors(6, 8, 4);
  for (const Index few : {0, 2, 5}) {
    Asked gemm;
    EXPECT_LE(worst_error(this->run(gemm, factors, few), factors.template expected<typename TypeParam::Y>(6)), 1);
    EXPECT_EQ(gemm.rows, std::vector<Index>{6 - few});
  }
  Asked gemm;
  this->run(gemm, factors, 6);
  EXPECT_TRUE(gemm.rows.empty());
}

TYPED_TEST(Linear, FewRowsHaveTheBitsThatTheyHaveAlone) {
  const Factors<typename TypeParam::T> alone(3, 77, 33);
  const auto gemm = make_gemm();
  const auto bits = this->run(*gemm, alone, 3);
  for (const Index others : {1, 2, 9}) {
    Factors<typename TypeParam::T> among(3 + others, 77, 33);
    std::ranges::copy(alone.x, among.x.begin());
    const auto all = this->run(*gemm, among, 3);
    EXPECT_TRUE(std::ranges::equal(bits, std::span(all).first(bits.size()))) << others << " others";
  }
}

TYPED_TEST(Linear, OfNoTokensIsNothing) {
  const Factors<typename TypeParam::T> factors(0, 8, 4);
  EXPECT_TRUE(this->run(*make_gemm(), factors, 0, normals("bias", 4)).empty());
}

TEST(LinearShapes, ThatDisagreeAreNamedWithTheRule) {
  const auto gemm = make_gemm();
  const Buffer<float> x("x", 6), w("w", 12), b("b", 3), y("y", 8);
  const auto message = [&](View2<const float> given_w, View1<const float> given_b, Index few,
                           View2<float> given_y) -> std::string {
    try {
      layers::linear(Exec(), *gemm, as_const(x.view(2, 3)), given_w, given_b, few, given_y);
      return "no error";
    } catch (const ShapeError& error) {
      return error.what();
    }
  };
  const std::string rule = ": y is [x rows, w rows], x and w have equal columns";
  const View1<const float> none;
  EXPECT_EQ(message(as_const(w.view(4, 3)), none, 0, y.view(2, 4)), "no error");
  EXPECT_EQ(message(as_const(w.view(3, 4)), none, 0, y.view(2, 4)),
            "linear: x [2, 3], w [3, 4], b [0], few 0 do not give y [2, 4]" + rule);
  EXPECT_EQ(message(as_const(w.view(4, 3)), none, 0, y.view(1, 4)),
            "linear: x [2, 3], w [4, 3], b [0], few 0 do not give y [1, 4]" + rule);
  EXPECT_EQ(message(as_const(w.view(4, 3)), none, 0, y.view(2, 2)),
            "linear: x [2, 3], w [4, 3], b [0], few 0 do not give y [2, 2]" + rule);
  EXPECT_EQ(message(as_const(w.view(4, 3)), as_const(b.view()), 0, y.view(2, 4)),
            "linear: x [2, 3], w [4, 3], b [3], few 0 do not give y [2, 4]" + rule);
  EXPECT_EQ(message(as_const(w.view(4, 3)), none, 3, y.view(2, 4)),
            "linear: x [2, 3], w [4, 3], b [0], few 3 do not give y [2, 4]" + rule);
}

}  // namespace
