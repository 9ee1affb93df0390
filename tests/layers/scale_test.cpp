// The scalings of whole matrices against their formulas, and the soft cap's slope against differences of it.
#include <grist/core/errors.hpp>
#include <grist/layers/scale.hpp>

#include <layers/gradients.hpp>

namespace {

using namespace grist;
using namespace grist::test;

constexpr float cap = 3;

std::vector<float> capped(const std::vector<float>& x) {
  const auto device = on_device<float>(x);
  layers::soft_cap(Exec(), cap, device.view(3, static_cast<Index>(x.size()) / 3));
  return on_host(device);
}

template <class T>
struct Scale : testing::Test {};
using Storage = testing::Types<float, bf16>;
TYPED_TEST_SUITE(Scale, Storage);

TYPED_TEST(Scale, MultipliesAndRoundsOnce) {
  auto x = stored<TypeParam>(normals("x", 3 * 37));
  const auto device = on_device<TypeParam>(x);
  layers::scale(Exec(), 1.7F, device.view(3, 37));
  for (float& value : x) value *= 1.7F;
  EXPECT_EQ(on_host(device), stored<TypeParam>(x));
}

TEST(SoftCap, IsItsFormula) {
  const auto x = normals("x", 3 * 37, 10);
  std::vector<Expected> expected;
  for (const float value : x) {
    const double y = cap * std::tanh(double{value} / cap);
    expected.push_back({y, 8 * float_rounding * std::abs(y)});
  }
  EXPECT_LE(worst_error(capped(x), expected), 1);
}

TYPED_TEST(Scale, TheSoftCapsBackwardIsItsSlope) {
  const auto x = normals("x", 3 * 37, 3), dy = stored<TypeParam>(normals("dy", 3 * 37));
  const auto y = on_device<float>(capped(x));
  const auto device = on_device<TypeParam>(dy);
  layers::soft_cap_backward(Exec(), cap, as_const(y.view(3, 37)), device.view(3, 37));
  std::vector<float> exact;
  for (std::size_t i = 0; i < x.size(); ++i)
    exact.push_back(static_cast<float>(dy[i] / std::pow(std::cosh(double{x[i]} / cap), 2)));
  EXPECT_LE(worst_error(on_host(device), gradient<TypeParam>(exact)), 1);
  // An error of 3e-7 in the loss over 2 h, and h^2 / 6 times a third derivative below 1.
  std::vector<Expected> differences;
  for (const float d : central_differences(x, 0.02F, [&](const auto& v) { return inner_product(capped(v), dy); }))
    differences.push_back({d, 1e-3 + rounding<TypeParam> * std::abs(d)});
  EXPECT_LE(worst_error(on_host(device), differences), 1);
}

TEST(SoftCap, ShapesThatDisagreeAreNamed) {
  const Buffer<float> x("x", 6);
  try {
    layers::soft_cap_backward(Exec(), cap, as_const(x.view(2, 3)), x.view(3, 2));
    FAIL() << "no error";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "soft_cap_backward: y [2, 3] does not go with dy [3, 2]");
  }
}

}  // namespace
