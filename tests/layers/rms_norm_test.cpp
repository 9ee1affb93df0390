// RMSNorm against its formula in double precision.
#include <grist/core/errors.hpp>
#include <grist/layers/rms_norm.hpp>

#include <support/views.hpp>

namespace {

using namespace grist;
using namespace grist::test;

template <class T>
struct RmsNorm : testing::Test {
  static std::vector<float> run(const std::vector<float>& x, const std::vector<float>& w, float eps) {
    const Index hidden = static_cast<Index>(w.size()), tokens = static_cast<Index>(x.size()) / hidden;
    const auto device_x = on_device<float>(x), device_w = on_device<float>(w);
    const Buffer<T> y("y", tokens * hidden);
    layers::rms_norm(Exec(), as_const(device_x.view(tokens, hidden)), as_const(device_w.view()), eps,
                     y.view(tokens, hidden));
    return on_host(y);
  }

  /// A square and each addition round once, of positive terms; the root halves that. Then a handful of products.
  static std::vector<Expected> expected(const std::vector<float>& x, const std::vector<float>& w, float eps) {
    std::vector<Expected> y;
    for (std::size_t row = 0; row < x.size(); row += w.size()) {
      double squares = 0;
      for (std::size_t i = 0; i < w.size(); ++i) squares += double{x[row + i]} * x[row + i];
      const double scale = 1 / std::sqrt(squares / static_cast<double>(w.size()) + double{eps});
      for (std::size_t i = 0; i < w.size(); ++i) {
        const double value = x[row + i] * scale * w[i];
        const double roundings = static_cast<double>(w.size() + 1) / 2 + 6;
        y.push_back({value, std::abs(value) * (roundings * float_rounding + rounding<T> * 1.001)});
      }
    }
    return y;
  }
};
using Storage = testing::Types<float, bf16>;
TYPED_TEST_SUITE(RmsNorm, Storage);

TYPED_TEST(RmsNorm, IsItsFormulaAtEveryWidth) {
  for (const Index hidden : {1, 3, 15, 16, 17, 64, 100, 576}) {
    const auto x = normals("x", 5 * hidden), w = normals("w", hidden);
    EXPECT_LE(worst_error(this->run(x, w, 1e-5F), this->expected(x, w, 1e-5F)), 1) << "hidden " << hidden;
  }
}

TYPED_TEST(RmsNorm, RoundsToItsStorageType) {
  const auto x = normals("x", 5 * 576), w = normals("w", 576);
  expect_rounded_to<TypeParam>(this->run(x, w, 1e-5F), this->expected(x, w, 1e-5F));
}

TYPED_TEST(RmsNorm, EpsilonCountsForSmallRowsAndKeepsZerosZero) {
  const auto x = normals("x", 3 * 32, 1e-4F), w = normals("w", 32);
  EXPECT_LE(worst_error(this->run(x, w, 1e-6F), this->expected(x, w, 1e-6F)), 1);
  EXPECT_GT(worst_error(this->run(x, w, 1e-6F), this->expected(x, w, 1e-5F)), 1);
  EXPECT_EQ(this->run(std::vector<float>(64), w, 1e-5F), std::vector<float>(64));
}

TYPED_TEST(RmsNorm, ATokensBitsAreTheSameAloneAndAmongOthers) {
  const auto x = normals("x", 7 * 100), w = normals("w", 100);
  const auto all = this->run(x, w, 1e-5F);
  for (std::size_t row = 0; row < x.size(); row += 100) {
    const auto alone = this->run({&x[row], &x[row] + 100}, w, 1e-5F);
    EXPECT_TRUE(std::ranges::equal(alone, std::span(all).subspan(row, 100))) << "token " << row / 100;
  }
}

TEST(RmsNormShapes, ThatDisagreeAreNamed) {
  const Buffer<float> x("x", 6), w("w", 2), y("y", 6);
  try {
    layers::rms_norm(Exec(), as_const(x.view(2, 3)), as_const(w.view()), 1e-5F, y.view(2, 3));
    FAIL() << "no error";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "rms_norm: x [2, 3], w [2] do not give y [2, 3]");
  }
}

}  // namespace
