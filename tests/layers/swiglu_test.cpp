// SwiGLU against its formula in double precision.
#include <grist/core/errors.hpp>
#include <grist/layers/swiglu.hpp>

#include <support/views.hpp>

namespace {

using namespace grist;
using namespace grist::test;

template <class T>
struct SwiGlu : testing::Test {
  static std::vector<float> run(const std::vector<float>& gate_up, Index tokens, Index width) {
    const auto device = on_device<T>(gate_up);
    const Buffer<T> y("y", tokens * width);
    layers::swiglu(Exec(), as_const(device.view(tokens, 2 * width)), y.view(tokens, width));
    return on_host(y);
  }

  /// A handful of roundings in float, then that of the storage type.
  static std::vector<Expected> expected(const std::vector<float>& gate_up, Index tokens, Index width) {
    std::vector<Expected> y;
    for (Index t = 0; t < tokens; ++t) {
      for (Index c = 0; c < width; ++c) {
        const double gate = gate_up[static_cast<std::size_t>(2 * t * width + c)];
        const double up = gate_up[static_cast<std::size_t>((2 * t + 1) * width + c)];
        const double value = gate / (1 + std::exp(-gate)) * up;
        y.push_back({value, std::abs(value) * (8 * float_rounding + rounding<T> * 1.001)});
      }
    }
    return y;
  }
};
using Storage = testing::Types<float, bf16>;
TYPED_TEST_SUITE(SwiGlu, Storage);

TYPED_TEST(SwiGlu, IsItsFormulaAndRoundsToItsStorageType) {
  for (const Index width : {1, 5, 64, 129}) {
    const auto gate_up = stored<TypeParam>(normals("gate_up", 4 * 2 * width, 3));
    EXPECT_LE(worst_error(this->run(gate_up, 4, width), this->expected(gate_up, 4, width)), 1) << "width " << width;
    if (width == 129) expect_rounded_to<TypeParam>(this->run(gate_up, 4, width), this->expected(gate_up, 4, width));
  }
}

TYPED_TEST(SwiGlu, OfExtremeGatesIsTheProductOrNothing) {
  const auto y = this->run({100, -1000, 0, 3, 3, 3}, 1, 3);
  EXPECT_EQ(y[0], static_cast<float>(TypeParam(300.0F)));
  EXPECT_EQ(y[1], 0);
  EXPECT_EQ(y[2], 0);
}

TEST(SwiGluShapes, ThatDisagreeAreNamed) {
  const Buffer<float> gate_up("gate_up", 6), y("y", 6);
  try {
    layers::swiglu(Exec(), as_const(gate_up.view(2, 3)), y.view(2, 3));
    FAIL() << "no error";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "swiglu: gate_up [2, 3] does not give y [2, 3]: it holds gate and up");
  }
}

}  // namespace
