// Linear against a double product, with bias, with any part of its rows being few, and with weights as they are stored.
#include <grist/core/errors.hpp>
#include <grist/layers/linear.hpp>

#include <backends/product.hpp>
#include <support/weights.hpp>

namespace {

using namespace grist;
using namespace grist::test;

template <class Pair>
struct Linear : testing::Test {
  using T = Pair::T;
  using Y = Pair::Y;

  static std::vector<float> run(Products& products, const Factors<T>& factors, const std::vector<float>& bias = {}) {
    const auto w = on_device<T>(factors.w);
    return run(products, factors.x, as_const(w.view(factors.out, factors.in)), bias);
  }

  static std::vector<float> run(Products& products, const std::vector<float>& x, const Weight& w,
                                const std::vector<float>& bias) {
    const auto device_x = on_device<T>(x);
    const auto b = on_device<float>(bias);
    const Index tokens = static_cast<Index>(x.size()) / w.columns;
    const Buffer<Y> y("y", tokens * w.rows);
    layers::linear(Exec(), products, as_const(device_x.view(tokens, w.columns)), w, as_const(b.view()),
                   y.view(tokens, w.rows));
    return on_host(y);
  }
};
TYPED_TEST_SUITE(Linear, ProductTypes);

TYPED_TEST(Linear, IsTheProductHoweverManyRowsAreFew) {
  const Factors<typename TypeParam::T> factors(9, 77, 33);
  const auto expected = factors.template expected<typename TypeParam::Y>(9);
  for (const auto name : gemm_providers()) {
    Products products(name);
    for (const Index few : {0, 1, 4, 8, 9}) {
      products.serve(few);
      EXPECT_LE(worst_error(this->run(products, factors), expected), 1) << name << ", few " << few;
    }
  }
}

/// The product, and b [rows] on every row of it.
template <class Y, class T>
std::vector<Expected> with_bias(const Factors<T>& factors, const std::vector<float>& bias) {
  auto expected = factors.template expected<Y>(factors.tokens);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    auto& [value, bound] = expected[i];
    value += bias[i % bias.size()];
    bound = (bound + rounding<Y> * std::abs(value)) * 1.01;
  }
  return expected;
}

TYPED_TEST(Linear, AddsItsBiasToEveryRow) {
  const Factors<typename TypeParam::T> factors(9, 77, 33);
  const auto bias = normals("bias", 33, 10);
  Products products;
  for (const Index few : {0, 4, 9}) {
    products.serve(few);
    EXPECT_LE(worst_error(this->run(products, factors, bias), with_bias<typename TypeParam::Y>(factors, bias)), 1)
        << "few " << few;
  }
}

TYPED_TEST(Linear, TakesAWeightOfPanelsInTheFormatsOfItsFile) {
  using T = TypeParam::T;
  const StoredRows q(Format::q4_k, 32, 256, "q"), v(Format::q6_k, 9, 256, "v");
  Weight w(256, 1);
  w.add(q.panel());
  w.add(v.panel());
  Factors<T> factors(9, 256, 41);
  factors.w = q.numbers;
  factors.w.insert(factors.w.end(), v.numbers.begin(), v.numbers.end());
  const auto bias = normals("bias", 41, 10);
  Products products;
  products.serve(9);
  EXPECT_LE(worst_error(this->run(products, factors.x, w, bias), with_bias<typename TypeParam::Y>(factors, bias)), 1);
  factors.w = stored<T>(factors.w);
  products.serve(0);
  EXPECT_LE(worst_error(this->run(products, factors.x, w, bias), with_bias<typename TypeParam::Y>(factors, bias)), 1);
}

TYPED_TEST(Linear, OfNoTokensIsNothing) {
  const Factors<typename TypeParam::T> factors(0, 8, 4);
  Products products;
  EXPECT_TRUE(this->run(products, factors, normals("bias", 4)).empty());
}

TEST(LinearShapes, ABiasThatIsNotTheWeightsIsRefused) {
  Products products;
  const Buffer<float> x("x", 6), w("w", 12), b("b", 3), y("y", 8);
  try {
    layers::linear(Exec(), products, as_const(x.view(2, 3)), w.view(4, 3), as_const(b.view()), y.view(2, 4));
    FAIL() << "no error";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "linear: w [4, 3] wants b [4] or none, it is [3]");
  }
}

}  // namespace
