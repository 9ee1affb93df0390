// RMSNorm and LayerNorm against their formulas in double precision.
#include <grist/core/errors.hpp>
#include <grist/layers/norm.hpp>
#include <grist/layers/norm_over_heads.hpp>

#include <support/refuses.hpp>
#include <support/views.hpp>

namespace {

using namespace grist;
using namespace grist::test;

enum class Kind { rms, layer };

/// Storage of x and of y.
template <class X_, class Y_>
struct Types {
  using X = X_;
  using Y = Y_;
};

template <class T>
struct Norm : testing::Test {
  using X = typename T::X;
  using Y = typename T::Y;

  static std::vector<float> run(Kind kind, const std::vector<float>& x, const std::vector<float>& w,
                                const std::vector<float>& b, float eps) {
    const Index hidden = static_cast<Index>(w.size()), tokens = static_cast<Index>(x.size()) / hidden;
    const auto device_x = on_device<X>(x);
    const auto device_w = on_device<float>(w), device_b = on_device<float>(b);
    const Buffer<Y> y("y", tokens * hidden);
    const auto in = as_const(device_x.view(tokens, hidden));
    if (kind == Kind::rms)
      layers::rms_norm(Exec(), in, as_const(device_w.view()), eps, y.view(tokens, hidden));
    else
      layers::layer_norm(Exec(), in, as_const(device_w.view()), as_const(device_b.view()), eps, y.view(tokens, hidden));
    return on_host(y);
  }

  /// A square and each addition round once, of positive terms; the root halves that. The mean's error is one of its
  /// magnitudes. Then a handful of products.
  static std::vector<Expected> expected(Kind kind, const std::vector<float>& x, const std::vector<float>& w,
                                        const std::vector<float>& b, float eps) {
    std::vector<Expected> y;
    const double size = static_cast<double>(w.size());
    for (std::size_t row = 0; row < x.size(); row += w.size()) {
      double mean = 0, magnitude = 0, squares = 0;
      for (std::size_t i = 0; kind == Kind::layer && i < w.size(); ++i) {
        mean += x[row + i] / size;
        magnitude += std::abs(x[row + i]) / size;
      }
      for (std::size_t i = 0; i < w.size(); ++i) squares += (x[row + i] - mean) * (x[row + i] - mean);
      const double scale = 1 / std::sqrt(squares / size + double{eps});
      for (std::size_t i = 0; i < w.size(); ++i) {
        const double shift = b.empty() ? 0 : b[i], normed = (x[row + i] - mean) * scale * w[i], value = normed + shift;
        const double roundings = (size + 1) / 2 + 8;
        const double error =
            std::abs(normed) * roundings +
            std::abs(scale * w[i]) * (magnitude * (size + 1) + std::abs(x[row + i])) * (kind == Kind::layer ? 2 : 0) +
            std::abs(shift);
        y.push_back({value, error * float_rounding + std::abs(value) * rounding<Y> * 1.001});
      }
    }
    return y;
  }
};
using NormTypes = testing::Types<Types<float, float>, Types<float, bf16>, Types<bf16, bf16>>;
TYPED_TEST_SUITE(Norm, NormTypes);

TYPED_TEST(Norm, IsItsFormulaAtEveryWidth) {
  for (const auto kind : {Kind::rms, Kind::layer}) {
    for (const Index hidden : {1, 3, 15, 16, 17, 64, 100, 576}) {
      const auto x = stored<typename TypeParam::X>(normals("x", 5 * hidden)), w = normals("w", hidden);
      for (const auto& b : {std::vector<float>(), kind == Kind::layer ? normals("b", hidden) : std::vector<float>()})
        EXPECT_LE(worst_error(this->run(kind, x, w, b, 1e-5F), this->expected(kind, x, w, b, 1e-5F)), 1)
            << "hidden " << hidden;
    }
  }
}

TYPED_TEST(Norm, RoundsToItsStorageType) {
  const auto x = stored<typename TypeParam::X>(normals("x", 5 * 576)), w = normals("w", 576);
  for (const auto kind : {Kind::rms, Kind::layer})
    expect_rounded_to<typename TypeParam::Y>(this->run(kind, x, w, {}, 1e-5F), this->expected(kind, x, w, {}, 1e-5F));
}

TYPED_TEST(Norm, EpsilonCountsForSmallRowsAndKeepsZerosZero) {
  const auto x = stored<typename TypeParam::X>(normals("x", 3 * 32, 1e-4F)), w = normals("w", 32);
  for (const auto kind : {Kind::rms, Kind::layer}) {
    EXPECT_LE(worst_error(this->run(kind, x, w, {}, 1e-6F), this->expected(kind, x, w, {}, 1e-6F)), 1);
    EXPECT_GT(worst_error(this->run(kind, x, w, {}, 1e-6F), this->expected(kind, x, w, {}, 1e-5F)), 1);
    EXPECT_EQ(this->run(kind, std::vector<float>(64), w, {}, 1e-5F), std::vector<float>(64));
  }
}

TYPED_TEST(Norm, ATokensBitsAreTheSameAloneAndAmongOthers) {
  const auto x = stored<typename TypeParam::X>(normals("x", 7 * 100)), w = normals("w", 100), b = normals("b", 100);
  for (const auto kind : {Kind::rms, Kind::layer}) {
    const auto all = this->run(kind, x, w, b, 1e-5F);
    for (std::size_t row = 0; row < x.size(); row += 100) {
      const auto alone = this->run(kind, {&x[row], &x[row] + 100}, w, b, 1e-5F);
      EXPECT_TRUE(std::ranges::equal(alone, std::span(all).subspan(row, 100))) << "token " << row / 100;
    }
  }
}

template <class X>
struct NormInPlace : testing::Test {};
using Stored = testing::Types<float, bf16>;
TYPED_TEST_SUITE(NormInPlace, Stored);

TYPED_TEST(NormInPlace, OfHeadsIsTheNormOfEachAndLeavesOtherColumnsAlone) {
  for (const Index size : {1, 5, 16, 80}) {
    const Index tokens = 3, heads = 4, first = 7, width = first + heads * size + 2;
    const auto x = stored<TypeParam>(normals("x", tokens * width)), w = normals("w", size);
    const auto device = on_device<TypeParam>(x);
    const auto device_w = on_device<float>(w);
    layers::rms_norm_heads(Exec(), first, static_cast<int>(heads), as_const(device_w.view()), 1e-5F,
                           device.view(tokens, width));
    std::vector<Expected> expected;
    for (const float value : x) expected.push_back({value, 0});
    for (Index t = 0; t < tokens; ++t) {
      for (Index h = 0; h < heads; ++h) {
        const auto at = t * width + first + h * size;
        const auto head =
            Norm<Types<float, TypeParam>>::expected(Kind::rms, {x.begin() + at, x.begin() + at + size}, w, {}, 1e-5F);
        std::ranges::copy(head, expected.begin() + at);
      }
    }
    EXPECT_LE(worst_error(on_host(device), expected), 1) << "size " << size;
  }
}

/// As ranks of tp do it: each has some heads, between other columns, and the sums of all.
TYPED_TEST(NormInPlace, OverAllHeadsIsOneNormWhoseBitsDoNotDependOnHowTheHeadsAreSplit) {
  for (const Index dim : {1, 5, 16, 33}) {
    constexpr Index tokens = 3, heads = 6, first = 2;
    const Index width = heads * dim;
    const auto x = stored<TypeParam>(normals("x", tokens * width));
    const auto w = normals("w", width);
    std::vector<std::vector<float>> found;
    for (const auto& split : std::vector<std::vector<Index>>{{6}, {4, 2}, {1, 2, 3}}) {
      const Buffer<float> all("squares", tokens * heads);
      std::vector<float> squares(static_cast<std::size_t>(tokens * heads)), y(x.size());
      const auto each_part = [&](auto&& f) {
        Index begin = 0;
        for (const Index count : split) {
          const Index columns = first + count * dim + 1;
          std::vector<float> part(static_cast<std::size_t>(tokens * columns), 9);
          for (Index t = 0; t < tokens; ++t)
            std::copy_n(x.begin() + t * width + begin * dim, count * dim, part.begin() + t * columns + first);
          f(begin, count, on_device<TypeParam>(part), columns);
          begin += count;
        }
      };
      each_part([&](Index begin, Index count, const Buffer<TypeParam>& part, Index columns) {
        const Buffer<float> mine("sums", tokens * count);
        const auto in = as_const(part.view(tokens, columns));
        layers::head_sums(Exec(), in, in, first, dim, {}, mine.view(tokens, count));
        const auto sums = on_host(mine);
        for (Index t = 0; t < tokens; ++t)
          std::copy_n(sums.begin() + t * count, count, squares.begin() + t * heads + begin);
      });
      const auto device_squares = on_device<float>(squares);
      each_part([&](Index begin, Index count, const Buffer<TypeParam>& part, Index columns) {
        const auto device_w = on_device<float>(
            std::vector<float>(w.begin() + begin * dim, w.begin() + (begin + count) * dim));
        layers::rms_norm_over_heads(Exec(), as_const(device_squares.view(tokens, heads)), first, dim,
                                    as_const(device_w.view()), 1e-5F, part.view(tokens, columns));
        const auto normed = on_host(part);
        for (Index t = 0; t < tokens; ++t)
          std::copy_n(normed.begin() + t * columns + first, count * dim, y.begin() + t * width + begin * dim);
      });
      found.push_back(y);
    }
    EXPECT_EQ(found[0], found[1]);
    EXPECT_EQ(found[0], found[2]);
    const auto expected = Norm<Types<TypeParam, TypeParam>>::expected(Kind::rms, x, w, {}, 1e-5F);
    EXPECT_LE(worst_error(found[0], expected), 1) << "heads of " << dim;
  }
}

TYPED_TEST(NormInPlace, AfterAResidualIsTheNormOfTheSum) {
  const Index tokens = 3, hidden = 37;
  const auto x = normals("x", tokens * hidden), delta = normals("delta", tokens * hidden), w = normals("w", hidden);
  std::vector<float> sum = x;
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += delta[i];
  const auto device_x = on_device<float>(x), device_delta = on_device<float>(delta), device_w = on_device<float>(w);
  const Buffer<TypeParam> y("y", tokens * hidden);
  layers::residual_rms_norm(Exec(), as_const(device_delta.view(tokens, hidden)), device_x.view(tokens, hidden),
                            as_const(device_w.view()), 1e-5F, y.view(tokens, hidden));
  EXPECT_EQ(on_host(y), (Norm<Types<float, TypeParam>>::run(Kind::rms, sum, w, {}, 1e-5F)));
  EXPECT_EQ(on_host(device_x), sum);
}

TYPED_TEST(NormInPlace, WithoutOneIsXRounded) {
  const auto x = normals("x", 3 * 37);
  const auto device_x = on_device<float>(x);
  const Buffer<TypeParam> y("y", 3 * 37);
  layers::no_norm(Exec(), as_const(device_x.view(3, 37)), y.view(3, 37));
  EXPECT_EQ(on_host(y), stored<TypeParam>(x));
}

TEST(NormShapes, OfHeadsThatDisagreeAreNamed) {
  const Buffer<float> x("x", 6), w("w", 4), sums("sums", 4);
  EXPECT_EQ(refusal([&] {
              layers::head_sums(Exec(), as_const(x.view(2, 3)), as_const(x.view(2, 3)), 0, 2, {}, sums.view(2, 2));
            }),
            "head_sums: 2 heads of 2 from column 0 on of x [2, 3], y [2, 3], w [0] do not give [2]");
  EXPECT_EQ(refusal([&] {
              layers::rms_norm_over_heads(Exec(), as_const(sums.view(2, 2)), 0, 2, as_const(w.view()), 1e-5F,
                                          x.view(2, 3));
            }),
            "rms_norm_over_heads: 4 columns from 0 on do not fit x [2, 3] and squares [2, 2]");
}

TEST(NormShapes, ThatDisagreeAreNamed) {
  const Buffer<float> x("x", 6), w("w", 2), y("y", 6), three("three", 3);
  const auto in = as_const(x.view(2, 3));
  const auto v2 = as_const(w.view()), v3 = as_const(three.view());
  EXPECT_EQ(refusal([&] { layers::rms_norm(Exec(), in, v2, 1e-5F, y.view(2, 3)); }),
            "rms_norm: x [2, 3], w [2] do not give y [2, 3]");
  EXPECT_EQ(refusal([&] { layers::layer_norm(Exec(), in, v2, {}, 1e-5F, y.view(2, 3)); }),
            "layer_norm: x [2, 3], w [2] do not give y [2, 3]");
  EXPECT_EQ(refusal([&] { layers::layer_norm(Exec(), in, v3, v2, 1e-5F, y.view(2, 3)); }),
            "layer_norm: w [3] does not go with b [2]");
  EXPECT_EQ(refusal([&] { layers::rms_norm_heads(Exec(), 0, 2, v2, 1e-5F, x.view(2, 3)); }),
            "rms_norm_heads: 2 heads of 2 from column 0 on do not fit x [2, 3]");
  EXPECT_EQ(refusal([&] { layers::no_norm(Exec(), in, y.view(3, 2)); }), "no_norm: x [2, 3] does not give y [3, 2]");
}

}  // namespace
