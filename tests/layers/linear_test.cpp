// Linear against a double product, with bias, with any part of its rows being few, and with weights as they are stored.
#include <grist/backends/matvec.hpp>
#include <grist/core/errors.hpp>
#include <grist/layers/linear.hpp>

#include <backends/product.hpp>
#include <layers/gradients.hpp>
#include <support/refuses.hpp>
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
  const Factors<T> factors(9, 256, 41);
  auto numbers = q.numbers;
  numbers.insert(numbers.end(), v.numbers.begin(), v.numbers.end());
  const auto bias = normals("bias", 41, 10);
  const BlockProducts<typename TypeParam::Y> expected(factors, numbers, rounds_tokens(dtype_of<T>, w));
  Products products;
  for (const Index few : {0, 4, 9}) {
    products.serve(few);
    const auto y = this->run(products, factors.x, w, {}), biased = this->run(products, factors.x, w, bias);
    EXPECT_LE(expected.error(y), 1) << "few " << few;
    auto sums = y;
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += bias[i % 41];
    EXPECT_EQ(biased, stored<typename TypeParam::Y>(sums)) << "few " << few;
  }
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

/// dx, and what is added into dw and db.
struct LinearGradients {
  std::vector<float> dx, dw, db;
};

template <class T, class D>
LinearGradients backward(Products& products, const std::vector<float>& x, const Weight& w,
                         const std::vector<float>& dy) {
  const Index tokens = static_cast<Index>(x.size()) / w.columns;
  const auto device_x = on_device<T>(x), device_dy = on_device<T>(dy);
  const Buffer<D> dx("dx", tokens * w.columns);
  const Buffer<float> scratch("scratch", layers::bias_backward_scratch(tokens, w.rows));
  const auto dw = held(static_cast<std::size_t>(w.rows * w.columns)), db = held(static_cast<std::size_t>(w.rows));
  const auto from_y = as_const(device_dy.view(tokens, w.rows));
  layers::linear_backward(Exec(), products, as_const(device_x.view(tokens, w.columns)), w, from_y,
                          dx.view(tokens, w.columns), dw.view(w.rows, w.columns));
  layers::bias_backward(Exec(), from_y, scratch.view(), db.view());
  return {on_host(dx), on_host(dw), on_host(db)};
}

TYPED_TEST(Linear, HasTheGradientsOfPyTorchByEveryProvider) {
  using T = TypeParam::T;
  for (const auto& c : gradient_cases("linear")) {
    const auto w = on_device<T>(floats_of(c, "w"));
    const View2<const T> weight(w.data(), c.at("rows"), c.at("columns"));
    for (const auto name : gemm_providers()) {
      SCOPED_TRACE(std::string(name) + " " + c.at("columns").dump());
      Products products(name);
      const auto found = backward<T, typename TypeParam::Y>(products, floats_of(c, "x"), weight, floats_of(c, "dy"));
      EXPECT_LE(worst_error(found.dx, gradient<typename TypeParam::Y>(floats_of(c, "dx"), 16)), 1);
      EXPECT_LE(worst_error(found.dw, gradient<float>(plus_held(floats_of(c, "dw")), 16)), 1);
      EXPECT_LE(worst_error(found.db, gradient<float>(plus_held(floats_of(c, "db")), 16)), 1);
    }
  }
}

TYPED_TEST(Linear, HasOneGradientOfInputWhetherItsPanelsLieTogetherOrApart) {
  using T = TypeParam::T;
  const Factors<T> factors(9, 33, 24);
  const auto dy = stored<T>(normals("dy", 9 * 24));
  const auto together = on_device<T>(factors.w);
  const std::vector<float> first(factors.w.begin(), factors.w.begin() + 7 * 33);
  const auto alone = on_device<T>(first);
  const Format format = format_of(dtype_of<T>);
  Weight one(33, 1), apart(33, 1);
  one.add({format, 7, together.data()});
  one.add({format, 0, together.data() + 7 * 33});
  one.add({format, 17, together.data() + 7 * 33});
  apart.add({format, 7, alone.data()});
  apart.add({format, 17, together.data() + 7 * 33});
  Products products;
  const auto whole = backward<T, typename TypeParam::Y>(products, factors.x, as_const(together.view(24, 33)), dy);
  const auto joined = backward<T, typename TypeParam::Y>(products, factors.x, one, dy);
  EXPECT_EQ(joined.dx, whole.dx);
  EXPECT_EQ(joined.dw, whole.dw);
  // Apart, a sum of 16-bit storage is rounded once more.
  std::vector<Expected> expected = gradient<typename TypeParam::Y>(whole.dx, 16);
  for (auto& [value, bound] : expected) bound += 16 * rounding<typename TypeParam::Y>;
  EXPECT_LE(worst_error(backward<T, typename TypeParam::Y>(products, factors.x, apart, dy).dx, expected), 1);
}

TYPED_TEST(Linear, GradientsHaveTheSameBitsEveryTime) {
  using T = TypeParam::T;
  const Factors<T> factors(67, 96, 80);
  const auto dy = stored<T>(normals("dy", 67 * 80));
  const auto w = on_device<T>(factors.w);
  Products products;
  const auto once = backward<T, typename TypeParam::Y>(products, factors.x, as_const(w.view(80, 96)), dy);
  const auto again = backward<T, typename TypeParam::Y>(products, factors.x, as_const(w.view(80, 96)), dy);
  EXPECT_EQ(once.dx, again.dx);
  EXPECT_EQ(once.dw, again.dw);
  EXPECT_EQ(once.db, again.db);
}

TYPED_TEST(Linear, OfNoTokensAddsNothingAndOfNoRowsGivesZeros) {
  using T = TypeParam::T;
  Products products;
  const auto w = on_device<T>(normals("w", 4 * 8));
  const auto nothing = backward<T, typename TypeParam::Y>(products, {}, as_const(w.view(4, 8)), {});
  EXPECT_EQ(nothing.dw, plus_held(std::vector<float>(32)));
  EXPECT_EQ(nothing.db, plus_held(std::vector<float>(4)));
  const auto no_rows = backward<T, typename TypeParam::Y>(products, normals("x", 5 * 8), as_const(w.view(0, 8)), {});
  EXPECT_EQ(no_rows.dx, std::vector<float>(40));
}

TEST(LinearDifferences, AgreeWithTheForward) {
  using Float = Linear<Types<float, float>>;
  const Factors<float> factors(5, 11, 7);
  const auto b = normals("b", 7), dy = normals("dy", 5 * 7);
  Products products;
  const auto loss = [&](const std::vector<float>& x, const std::vector<float>& w, const std::vector<float>& bias) {
    const auto device_w = on_device<float>(w);
    return inner_product(Float::run(products, x, as_const(device_w.view(7, 11)), bias), dy);
  };
  const auto w = on_device<float>(factors.w);
  const auto found = backward<float, float>(products, factors.x, as_const(w.view(7, 11)), dy);
  // The loss is linear, so h may be large; its error is 1e-5 at most.
  const auto near = [](const std::vector<float>& differences) {
    std::vector<Expected> expected;
    for (const float value : differences) expected.push_back({value, 1e-5});
    return expected;
  };
  const auto of = [&](const std::vector<float>& values, auto&& f) { return central_differences(values, 1, f); };
  EXPECT_LE(worst_error(found.dx, near(of(factors.x, [&](const auto& v) { return loss(v, factors.w, b); }))), 1);
  EXPECT_LE(worst_error(found.dw, near(plus_held(of(factors.w, [&](const auto& v) { return loss(factors.x, v, b); })))),
            1);
  EXPECT_LE(worst_error(found.db, near(plus_held(of(b, [&](const auto& v) { return loss(factors.x, factors.w, v); })))),
            1);
}

TEST(LinearShapes, OfGradientsThatCannotBeAreRefused) {
  Products products;
  const Buffer<float> x("x", 64), scratch("scratch", 1), b("b", 3);
  const auto v = as_const(x.view(2, 32));
  const StoredRows blocks(Format::q8_0, 2, 32);
  EXPECT_EQ(refusal([&] {
              layers::linear_backward(Exec(), products, v, blocks.weight(), as_const(x.view(2, 2)), x.view(2, 32),
                                      x.view(2, 32));
            }),
            "linear_backward: a weight stored as q8_0 has no gradient with activations of f32: expected f32");
  EXPECT_EQ(refusal([&] {
              layers::linear_backward(Exec(), products, v, v, as_const(x.view(2, 2)), x.view(2, 32), x.view(1, 32));
            }),
            "linear_backward: x [2, 32], w [1, 2, 32], dy [2, 2] do not give dx [2, 32], dw [1, 32]");
  EXPECT_EQ(refusal([&] { layers::bias_backward(Exec(), v, scratch.view(), b.view()); }),
            "bias_backward: dy [2, 32] does not give db [3]");
  EXPECT_EQ(refusal([&] { layers::bias_backward(Exec(), as_const(x.view(2, 3)), scratch.view(), b.view()); }),
            "bias_backward: scratch has 1 floats, expected 3 or more");
}

}  // namespace
