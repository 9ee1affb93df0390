// A mixture of experts against its formulas in double precision.
#include <grist/core/errors.hpp>
#include <grist/layers/experts.hpp>

#include <support/views.hpp>

namespace {

using namespace grist;
using namespace grist::test;

TEST(SharedExpert, IsScaledByTheSigmoidOfItsGate) {
  const auto shared = normals("shared", 5 * 33), gate = normals("gate", 5, 3), y = normals("y", 5 * 33);
  const auto device_shared = on_device<float>(shared), device_gate = on_device<float>(gate),
             device_y = on_device<float>(y);
  layers::add_shared(Exec(), as_const(device_shared.view(5, 33)), as_const(device_gate.view()), device_y.view(5, 33));
  std::vector<Expected> expected;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double added = shared[i] / (1 + std::exp(-double{gate[i / 33]}));
    expected.push_back({y[i] + added, (std::abs(y[i]) + 8 * std::abs(added)) * float_rounding});
  }
  EXPECT_LE(worst_error(on_host(device_y), expected), 1);
}

TEST(SharedExpert, WithoutAGateIsAddedWhole) {
  const auto shared = normals("shared", 5 * 33), y = normals("y", 5 * 33);
  const auto device_shared = on_device<float>(shared), device_y = on_device<float>(y);
  layers::add_shared(Exec(), as_const(device_shared.view(5, 33)), {}, device_y.view(5, 33));
  std::vector<float> expected;
  for (std::size_t i = 0; i < y.size(); ++i) expected.push_back(y[i] + shared[i]);
  EXPECT_EQ(on_host(device_y), expected);
}

TEST(SharedExpert, ShapesThatDisagreeAreNamed) {
  const Buffer<float> shared("shared", 6), gate("gate", 3), y("y", 6);
  try {
    layers::add_shared(Exec(), as_const(shared.view(2, 3)), as_const(gate.view()), y.view(2, 3));
    FAIL() << "no error";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "add_shared: shared [2, 3] and gate [3] do not go with y [2, 3]");
  }
}

}  // namespace
