// The activations, gated or not, against their formulas in double precision; their slopes against PyTorch and against
// differences.
#include <grist/core/errors.hpp>
#include <grist/layers/activation.hpp>

#include <layers/gradients.hpp>
#include <support/views.hpp>

#include <numbers>

namespace {

using namespace grist;
using namespace grist::test;
using layers::Activation;

constexpr Activation kinds[] = {Activation::silu, Activation::gelu, Activation::gelu_tanh, Activation::relu,
                                Activation::quick_gelu};

double activated(Activation kind, double x) {
  switch (kind) {
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::gelu:
      return x / 2 * (1 + std::erf(x / std::numbers::sqrt2));
    case Activation::gelu_tanh:
      return x / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    case Activation::relu:
      return std::max(x, 0.0);
    case Activation::quick_gelu:
      return x / (1 + std::exp(-1.702 * x));
  }
  return 0;
}

template <class T>
struct Activations : testing::Test {
  static std::vector<float> run(Activation kind, bool gated, const std::vector<float>& x, Index tokens, Index width) {
    const auto device = on_device<T>(x);
    const Buffer<T> y("y", tokens * width);
    if (gated)
      layers::gated_activation(Exec(), kind, as_const(device.view(tokens, 2 * width)), y.view(tokens, width));
    else
      layers::activation(Exec(), kind, as_const(device.view(tokens, width)), y.view(tokens, width));
    return on_host(y);
  }

  /// A handful of roundings in float, of the value and (where 1 + tanh cancels) of x; then that of the storage type.
  static std::vector<Expected> expected(Activation kind, bool gated, const std::vector<float>& x, Index tokens,
                                        Index width) {
    std::vector<Expected> y;
    for (Index t = 0; t < tokens; ++t) {
      for (Index c = 0; c < width; ++c) {
        const double gate = x[static_cast<std::size_t>(t * width * (gated ? 2 : 1) + c)];
        const double up = gated ? x[static_cast<std::size_t>((2 * t + 1) * width + c)] : 1;
        const double value = activated(kind, gate) * up;
        const bool cancels = kind == Activation::gelu || kind == Activation::gelu_tanh;
        const double error = std::abs(value) * (8 + 4 * std::abs(gate)) + (cancels ? 4 * std::abs(gate * up) : 0);
        y.push_back({value, error * float_rounding + std::abs(value) * rounding<T> * 1.001});
      }
    }
    return y;
  }
};
using Storage = testing::Types<float, bf16>;
TYPED_TEST_SUITE(Activations, Storage);

TYPED_TEST(Activations, AreTheirFormulasAndRoundToTheirStorageType) {
  for (const auto kind : kinds) {
    for (const bool gated : {false, true}) {
      for (const Index width : {1, 5, 64, 1300}) {
        const auto x = stored<TypeParam>(normals("x", 4 * width * (gated ? 2 : 1), 3));
        const auto actual = this->run(kind, gated, x, 4, width);
        const auto expected = this->expected(kind, gated, x, 4, width);
        EXPECT_LE(worst_error(actual, expected), 1) << "kind " << static_cast<int>(kind) << ", width " << width;
        if (width == 1300 && gated) expect_rounded_to<TypeParam>(actual, expected);
      }
    }
  }
}

TYPED_TEST(Activations, OfExtremeGatesAreTheProductOrNothing) {
  for (const auto kind : kinds) {
    const auto y = this->run(kind, true, {100, -1000, 0, 3, 3, 3}, 1, 3);
    EXPECT_EQ(y[0], static_cast<float>(TypeParam(300.0F)));
    EXPECT_EQ(y[1], 0);
    EXPECT_EQ(y[2], 0);
    EXPECT_TRUE(std::isnan(this->run(kind, false, {std::nanf("")}, 1, 1)[0]));
  }
}

TYPED_TEST(Activations, MayBeInPlace) {
  const auto x = stored<TypeParam>(normals("x", 3 * 40));
  const auto device = on_device<TypeParam>(x);
  layers::activation(Exec(), Activation::gelu, as_const(device.view(3, 40)), device.view(3, 40));
  EXPECT_EQ(on_host(device), this->run(Activation::gelu, false, x, 3, 40));
}

TEST(ActivationNames, AreThoseOfConfigurations) {
  EXPECT_EQ(layers::activation_of("silu"), Activation::silu);
  EXPECT_EQ(layers::activation_of("gelu_pytorch_tanh"), layers::activation_of("gelu_new"));
  EXPECT_NE(layers::activation_of("gelu"), layers::activation_of("gelu_new"));
  EXPECT_FALSE(layers::activation_of("mish"));
}

TEST(ActivationShapes, ThatDisagreeAreNamed) {
  const Buffer<float> gate_up("gate_up", 6), y("y", 6);
  try {
    layers::gated_activation(Exec(), Activation::silu, as_const(gate_up.view(2, 3)), y.view(2, 3));
    FAIL() << "no error";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "gated_activation: gate_up [2, 3] does not give y [2, 3]: it holds gate and up");
  }
}

/// dx, or d_gate_up.
template <class T>
std::vector<float> backward(Activation kind, const std::vector<float>& x, const std::vector<float>& dy, Index tokens) {
  const Index width = static_cast<Index>(dy.size()) / tokens, wide = static_cast<Index>(x.size()) / tokens;
  const auto device_x = on_device<T>(x), device_dy = on_device<T>(dy);
  const Buffer<T> dx("dx", tokens * wide);
  const auto from = as_const(device_x.view(tokens, wide)), from_y = as_const(device_dy.view(tokens, width));
  if (wide == width)
    layers::activation_backward(Exec(), kind, from, from_y, dx.view(tokens, wide));
  else
    layers::gated_activation_backward(Exec(), kind, from, from_y, dx.view(tokens, wide));
  return on_host(dx);
}

TYPED_TEST(Activations, HaveTheGradientsOfPyTorch) {
  for (const auto& c : gradient_cases("activation")) {
    SCOPED_TRACE(c.at("kind").get<std::string>());
    const auto kind = *layers::activation_of(c.at("kind").get<std::string>());
    const auto dy = floats_of(c, "dy");
    const Index tokens = c.at("tokens");
    EXPECT_LE(
        worst_error(backward<TypeParam>(kind, floats_of(c, "x"), dy, tokens), gradient<TypeParam>(floats_of(c, "dx"))),
        1);
    EXPECT_LE(worst_error(backward<TypeParam>(kind, floats_of(c, "gate_up"), dy, tokens),
                          gradient<TypeParam>(floats_of(c, "d_gate_up"))),
              1);
  }
}

TEST(ActivationSlopes, AreTheDifferencesOfTheForward) {
  const Index tokens = 3, width = 29;
  const auto dy = normals("dy", tokens * width);
  for (const auto kind : kinds) {
    for (const bool gated : {false, true}) {
      auto x = normals("x", tokens * width * (gated ? 2 : 1));
      for (float& value : x) value += std::abs(value) < 0.05F ? 0.1F : 0;  // relu has no slope at 0
      const auto loss = [&](const std::vector<float>& of_x) {
        return inner_product(Activations<float>::run(kind, gated, of_x, tokens, width), dy);
      };
      // An error of 3e-6 in the loss over 2 h, and h^2 / 6 times a third derivative of about 5.
      std::vector<Expected> expected;
      for (const float d : central_differences(x, 0.01F, loss)) expected.push_back({d, 1e-3});
      EXPECT_LE(worst_error(backward<float>(kind, x, dy, tokens), expected), 1) << static_cast<int>(kind);
    }
  }
}

TYPED_TEST(Activations, SlopesFarOutAreThoseOfTheLimitAndNaNStays) {
  for (const auto kind : kinds) {
    const auto found = backward<TypeParam>(kind, {-1e6F, 1e6F, std::nanf("")}, {3, 3, 3}, 1);
    EXPECT_EQ(std::abs(found[0]), 0) << static_cast<int>(kind);
    EXPECT_EQ(found[1], 3) << static_cast<int>(kind);
    EXPECT_TRUE(kind == Activation::relu || std::isnan(found[2])) << static_cast<int>(kind);
    EXPECT_TRUE(std::isnan(Activations<TypeParam>::run(kind, false, {std::nanf("")}, 1, 1)[0]));
  }
}

TEST(ActivationBackwardShapes, ThatDisagreeAreNamed) {
  const Buffer<float> x("x", 12);
  const auto v = as_const(x.view(2, 3));
  EXPECT_THROW(layers::activation_backward(Exec(), Activation::silu, v, v, x.view(3, 2)), ShapeError);
  try {
    layers::gated_activation_backward(Exec(), Activation::silu, as_const(x.view(2, 6)), v, x.view(2, 3));
    FAIL() << "no error";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "gated_activation_backward: gate_up [2, 6], dy [2, 3] do not give d_gate_up [2, 3]");
  }
}

}  // namespace
