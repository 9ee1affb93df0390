// The residual is one float addition: exact to the bit.
#include <grist/core/errors.hpp>
#include <grist/layers/residual.hpp>

#include <support/views.hpp>

namespace {

using namespace grist;
using namespace grist::test;

TEST(Residual, AddsIntoX) {
  const auto x = normals("x", 5 * 33), y = normals("y", 5 * 33);
  const auto device_x = on_device<float>(x), device_y = on_device<float>(y);
  layers::residual(Exec(), as_const(device_y.view(5, 33)), device_x.view(5, 33));
  std::vector<float> expected;
  for (std::size_t i = 0; i < x.size(); ++i) expected.push_back(x[i] + y[i]);
  EXPECT_EQ(on_host(device_x), expected);
  EXPECT_EQ(on_host(device_y), y);
}

TEST(Residual, ShapesThatDisagreeAreNamed) {
  const Buffer<float> x("x", 6), y("y", 6);
  try {
    layers::residual(Exec(), as_const(y.view(2, 3)), x.view(3, 2));
    FAIL() << "no error";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "residual: y [2, 3] cannot be added to x [3, 2]");
  }
}

}  // namespace
