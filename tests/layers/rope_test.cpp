// RoPE against the halves form of Hugging Face, y = x cos + rotate_half(x) sin, in double precision.
#include <grist/core/errors.hpp>
#include <grist/layers/rope.hpp>

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

Buffer<float> turns_for(Index head_dim) {
  const auto device_positions = on_device<int>(positions);
  const auto frequencies = on_device<float>(inverse_frequencies(head_dim));
  const Buffer<float> turns("turns", static_cast<Index>(positions.size()) * head_dim);
  layers::rope_turns(Exec(), as_const(device_positions.view()), as_const(frequencies.view()),
                     turns.view(static_cast<Index>(positions.size()), head_dim));
  Kokkos::fence();
  return turns;
}

TEST(RopeTurns, AreCosinesThenSines) {
  for (const Index head_dim : {2, 6, 64}) {
    std::vector<Expected> expected;
    for (std::size_t t = 0; t < positions.size(); ++t) {
      for (Index c = 0; c < head_dim; ++c) {
        const double angle = angle_of(t, static_cast<std::size_t>(c % (head_dim / 2)), head_dim);
        expected.push_back({c < head_dim / 2 ? std::cos(angle) : std::sin(angle), 2 * float_rounding});
      }
    }
    EXPECT_LE(worst_error(on_host(turns_for(head_dim)), expected), 1) << "head_dim " << head_dim;
  }
}

template <class T>
struct Rope : testing::Test {
  static std::vector<float> run(const std::vector<float>& x, int heads, Index head_dim) {
    const Index tokens = static_cast<Index>(positions.size());
    const auto device = on_device<T>(x);
    layers::rope(Exec(), as_const(turns_for(head_dim).view(tokens, head_dim)), heads,
                 device.view(tokens, static_cast<Index>(x.size()) / tokens));
    return on_host(device);
  }
};
using Storage = testing::Types<float, bf16>;
TYPED_TEST_SUITE(Rope, Storage);

TYPED_TEST(Rope, TurnsTheHalvesOfEachHeadAndLeavesOtherColumnsAlone) {
  for (const Index head_dim : {2, 6, 64}) {
    const int heads = 3;
    const Index width = heads * head_dim + 5;
    const auto x = stored<TypeParam>(normals("x", static_cast<Index>(positions.size()) * width));
    std::vector<Expected> expected, turned;
    std::vector<float> actual_turned;
    const auto actual = this->run(x, heads, head_dim);
    for (std::size_t t = 0; t < positions.size(); ++t) {
      for (Index c = 0; c < width; ++c) {
        const std::size_t at = t * static_cast<std::size_t>(width) + static_cast<std::size_t>(c);
        if (c >= heads * head_dim) {
          expected.push_back({x[at], 0});
          continue;
        }
        const auto half = static_cast<std::size_t>(head_dim / 2), i = static_cast<std::size_t>(c % head_dim);
        const double angle = angle_of(t, i % half, head_dim);
        const double rotated_half = i < half ? -x[at + half] : x[at - half];
        const double a = x[at] * std::cos(angle), b = rotated_half * std::sin(angle);
        expected.push_back({a + b, 6 * float_rounding * (std::abs(x[at]) + std::abs(rotated_half)) +
                                       1.001 * rounding<TypeParam> * std::abs(a + b)});
        turned.push_back(expected.back());
        actual_turned.push_back(actual[at]);
      }
    }
    EXPECT_LE(worst_error(actual, expected), 1) << "head_dim " << head_dim;
    if (head_dim == 64) expect_rounded_to<TypeParam>(actual_turned, turned);
  }
}

TEST(RopeShapes, ThatDisagreeAreNamed) {
  const Buffer<float> turns("turns", 8), x("x", 14), frequencies("frequencies", 2);
  const auto two = on_device<int>(std::vector<int>(2));
  try {
    layers::rope(Exec(), as_const(turns.view(2, 4)), 2, x.view(2, 7));
    FAIL() << "no error";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "rope: 2 heads of 4 do not fit x [2, 7] with turns [2, 4]");
  }
  try {
    layers::rope_turns(Exec(), as_const(two.view()), as_const(frequencies.view()), turns.view(4, 2));
    FAIL() << "no error";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "rope_turns: positions [2], inverse_frequencies [2] do not give turns [4, 2]");
  }
}

}  // namespace
