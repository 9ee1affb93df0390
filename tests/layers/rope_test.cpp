// RoPE against Hugging Face's rotate_half, in double precision.
#include <grist/core/errors.hpp>
#include <grist/layers/rope.hpp>

#include <layers/gradients.hpp>
#include <support/views.hpp>

namespace {

using namespace grist;
using namespace grist::test;

const std::vector<int> positions{0, 1, 2, 777, 8191};

std::vector<float> inverse_frequencies(Index head_dim) {
  std::vector<float> frequencies;
  for (Index i = 0; i < head_dim; i += 2) {
    const double exponent = -static_cast<double>(i) / static_cast<double>(head_dim);
    frequencies.push_back(static_cast<float>(std::pow(10000.0, exponent)));
  }
  return frequencies;
}

/// The angle is a float, as it is in Hugging Face; what follows is exact.
double angle_of(std::size_t t, std::size_t i, Index head_dim) {
  return static_cast<double>(static_cast<float>(positions[t]) * inverse_frequencies(head_dim)[i]);
}

Buffer<float> cos_sin_for(Index rotary_dim, float factor = 1) {
  const auto device_positions = on_device<int>(positions);
  const auto frequencies = on_device<float>(inverse_frequencies(rotary_dim));
  const Buffer<float> cos_sin("cos_sin", static_cast<Index>(positions.size()) * rotary_dim);
  layers::rope_cos_sin(Exec(), as_const(device_positions.view()), as_const(device_positions.view()),
                       {.inverse_frequencies = as_const(frequencies.view()), .attention_factor = factor},
                       cos_sin.view(static_cast<Index>(positions.size()), rotary_dim));
  Kokkos::fence();
  return cos_sin;
}

TEST(RopeCosSin, AreCosinesThenSinesTimesTheFactor) {
  for (const Index dim : {2, 6, 64}) {
    for (const float factor : {1.0F, 1.25F}) {
      std::vector<Expected> expected;
      for (std::size_t t = 0; t < positions.size(); ++t) {
        for (Index c = 0; c < dim; ++c) {
          const double angle = angle_of(t, static_cast<std::size_t>(c % (dim / 2)), dim);
          expected.push_back({factor * (c < dim / 2 ? std::cos(angle) : std::sin(angle)), 3 * float_rounding});
        }
      }
      EXPECT_LE(worst_error(on_host(cos_sin_for(dim, factor)), expected), 1) << dim << " elements, factor " << factor;
    }
  }
}

template <class T>
struct Rope : testing::Test {
  static std::vector<float> run(const std::vector<float>& x, int heads, int head_dim, Index rotary_dim) {
    const Index tokens = static_cast<Index>(positions.size());
    const auto device = on_device<T>(x);
    layers::rope(Exec(), as_const(cos_sin_for(rotary_dim).view(tokens, rotary_dim)), heads, head_dim,
                 device.view(tokens, static_cast<Index>(x.size()) / tokens));
    return on_host(device);
  }
};
using Storage = testing::Types<float, bf16>;
TYPED_TEST_SUITE(Rope, Storage);

TYPED_TEST(Rope, RotatesThePairsOfEachHeadAndLeavesOtherColumnsAlone) {
  const int heads = 3;
  for (const auto& [head_dim, rotary_dim] :
       std::vector<std::pair<Index, Index>>{{2, 2}, {6, 6}, {7, 4}, {64, 64}, {80, 20}}) {
    SCOPED_TRACE(testing::Message() << "head_dim " << head_dim << ", rotary_dim " << rotary_dim);
    const Index width = heads * head_dim + 5;
    const auto x = stored<TypeParam>(normals("x", static_cast<Index>(positions.size()) * width));
    std::vector<Expected> expected, rotated;
    std::vector<float> actual_rotated;
    const auto actual = this->run(x, heads, static_cast<int>(head_dim), rotary_dim);
    for (std::size_t t = 0; t < positions.size(); ++t) {
      for (Index c = 0; c < width; ++c) {
        const std::size_t at = t * static_cast<std::size_t>(width) + static_cast<std::size_t>(c);
        const Index i = c % head_dim, half = rotary_dim / 2;
        if (c >= heads * head_dim || i >= rotary_dim) {
          expected.push_back({x[at], 0});
          continue;
        }
        const bool first = i < half;
        const auto apart = static_cast<std::size_t>(half);
        const double angle = angle_of(t, static_cast<std::size_t>(i % half), rotary_dim);
        const double other = first ? -x[at + apart] : x[at - apart];
        const double a = x[at] * std::cos(angle), b = other * std::sin(angle);
        expected.push_back({a + b, 6 * float_rounding * (std::abs(x[at]) + std::abs(other)) +
                                       1.001 * rounding<TypeParam> * std::abs(a + b)});
        rotated.push_back(expected.back());
        actual_rotated.push_back(actual[at]);
      }
    }
    EXPECT_LE(worst_error(actual, expected), 1);
    if (head_dim == 64) expect_rounded_to<TypeParam>(actual_rotated, rotated);
  }
}

TEST(RopeShapes, ThatDisagreeAreNamed) {
  const Buffer<float> cos_sin("cos_sin", 8), x("x", 14), frequencies("frequencies", 2);
  const auto two = on_device<int>(std::vector<int>(2));
  const auto message = [&](int heads, int head_dim) -> std::string {
    try {
      layers::rope(Exec(), as_const(cos_sin.view(2, 4)), heads, head_dim, x.view(2, 7));
      return "no error";
    } catch (const ShapeError& error) {
      return error.what();
    }
  };
  EXPECT_EQ(message(1, 7), "no error");
  EXPECT_EQ(message(2, 4), "rope: 2 heads of 4 in x [2, 7] do not go with cos_sin [2, 4]");
  EXPECT_EQ(message(2, 3), "rope: 2 heads of 3 in x [2, 7] do not go with cos_sin [2, 4]");
  try {
    layers::rope_cos_sin(Exec(), as_const(two.view()), as_const(two.view()), {as_const(frequencies.view())},
                         cos_sin.view(4, 2));
    FAIL() << "no error";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(),
                 "rope_cos_sin: positions [2], lengths [2], inverse_frequencies [2] do not give cos_sin [4, 2]");
  }
}

TYPED_TEST(Rope, HasTheGradientsOfPyTorch) {
  for (const auto& c : gradient_cases("rope")) {
    SCOPED_TRACE(c.at("head_dim").dump());
    const auto cos_sin = on_device<float>(floats_of(c, "cos_sin"));
    const auto dx = on_device<TypeParam>(floats_of(c, "dy"));
    const Index tokens = c.at("tokens"), rotary_dim = c.at("rotary_dim");
    layers::rope_backward(Exec(), as_const(cos_sin.view(tokens, rotary_dim)), c.at("heads"), c.at("head_dim"),
                          dx.view(tokens, dx.size() / tokens));
    EXPECT_LE(worst_error(on_host(dx), gradient<TypeParam>(floats_of(c, "dx"))), 1);
  }
}

TEST(RopeBackward, IsTheTransposeOfTheForward) {
  const Index tokens = static_cast<Index>(positions.size()), width = 3 * 10 + 5;
  const auto x = normals("x", tokens * width), dy = normals("dy", tokens * width);
  const auto cos_sin = cos_sin_for(6, 1.25F);
  const auto y = on_device<float>(x), dx = on_device<float>(dy);
  layers::rope(Exec(), as_const(cos_sin.view(tokens, 6)), 3, 10, y.view(tokens, width));
  layers::rope_backward(Exec(), as_const(cos_sin.view(tokens, 6)), 3, 10, dx.view(tokens, width));
  EXPECT_NEAR(inner_product(on_host(y), dy), inner_product(x, on_host(dx)), 1e-5);  // of 175 terms of size 1
}

TEST(RopeShapes, ThatDisagreeAreNamedInTheBackwardToo) {
  const Buffer<float> cos_sin("cos_sin", 8), dx("dx", 14);
  try {
    layers::rope_backward(Exec(), as_const(cos_sin.view(2, 4)), 2, 4, dx.view(2, 7));
    FAIL() << "no error";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "rope_backward: 2 heads of 4 in x [2, 7] do not go with cos_sin [2, 4]");
  }
}

}  // namespace
