// The backward passes of the norms: against PyTorch, against differences of the forward, and their order of sums.
#include <grist/core/errors.hpp>
#include <grist/layers/norm.hpp>
#include <grist/layers/norm_over_heads.hpp>

#include <layers/gradients.hpp>
#include <support/refuses.hpp>

namespace {

using namespace grist;
using namespace grist::test;

constexpr float eps = 1e-5F;

struct NormGradients {
  std::vector<float> dx, dw, db;
};

template <class Y>
NormGradients backward(bool rms, bool biased, const std::vector<float>& x, const std::vector<float>& w,
                       const std::vector<float>& dy) {
  const Index hidden = static_cast<Index>(w.size()), tokens = static_cast<Index>(x.size()) / hidden;
  const auto device_x = on_device<float>(x), device_w = on_device<float>(w);
  const auto device_dy = on_device<Y>(dy);
  const Buffer<float> scratch("scratch", layers::norm_backward_scratch(tokens, hidden));
  const auto dx = held(x.size()), dw = held(w.size()), db = held(biased ? w.size() : 0);
  const auto x_view = as_const(device_x.view(tokens, hidden));
  const auto w_view = as_const(device_w.view());
  const auto dy_view = as_const(device_dy.view(tokens, hidden));
  if (rms)
    layers::rms_norm_backward(Exec(), x_view, w_view, eps, dy_view, scratch.view(), dx.view(tokens, hidden), dw.view());
  else
    layers::layer_norm_backward(Exec(), x_view, w_view, eps, dy_view, scratch.view(), dx.view(tokens, hidden),
                                dw.view(), db.view());
  return {on_host(dx), on_host(dw), on_host(db)};
}

/// The largest dy w / rms(x): of that size are the terms of dx, which cancel where hidden is 1.
double largest_term(const std::vector<float>& x, const std::vector<float>& w, const std::vector<float>& dy) {
  double largest = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    double mean = 0, squares = 0;
    const std::size_t row = i / w.size() * w.size();
    for (std::size_t c = 0; c < w.size(); ++c) mean += x[row + c] / static_cast<double>(w.size());
    for (std::size_t c = 0; c < w.size(); ++c)
      squares += std::min(std::pow(x[row + c] - mean, 2), std::pow(x[row + c], 2)) / static_cast<double>(w.size());
    largest = std::max(largest, std::abs(dy[i] * w[i % w.size()]) / std::sqrt(squares + double{eps}));
  }
  return largest;
}

template <class T>
struct NormBackward : testing::Test {};
using Storage = testing::Types<float, bf16>;
TYPED_TEST_SUITE(NormBackward, Storage);

TYPED_TEST(NormBackward, AddsWhatPyTorchGives) {
  for (const auto& c : gradient_cases("norm")) {
    SCOPED_TRACE(c.at("kind").get<std::string>() + " of " + c.at("hidden").dump());
    const auto x = floats_of(c, "x"), w = floats_of(c, "w"), dy = floats_of(c, "dy");
    const bool biased = c.contains("db");
    const auto found = backward<TypeParam>(c.at("kind") == "rms", biased, x, w, dy);
    const double terms = largest_term(x, w, dy);
    EXPECT_LE(worst_error(found.dx, gradient<float>(plus_held(floats_of(c, "dx")), terms)), 1);
    EXPECT_LE(worst_error(found.dw, gradient<float>(plus_held(floats_of(c, "dw")), 16)), 1);
    if (biased) {
      EXPECT_LE(worst_error(found.db, gradient<float>(plus_held(floats_of(c, "db")), 16)), 1);
    }
  }
}

/// Of the heads that a case names; dx is all of dqkv.
template <class T>
NormGradients backward_of_heads(const nlohmann::json& c) {
  const auto x = floats_of(c, "x"), w = floats_of(c, "w"), dy = floats_of(c, "dy");
  const Index tokens = c.at("tokens"), width = static_cast<Index>(x.size()) / tokens;
  const auto device_x = on_device<T>(x), dx = on_device<T>(dy);
  const auto device_w = on_device<float>(w), dw = held(w.size());
  const Buffer<float> scratch("scratch", layers::norm_backward_scratch(tokens, static_cast<Index>(w.size())));
  layers::rms_norm_heads_backward(Exec(), as_const(device_x.view(tokens, width)), c.at("first"), c.at("heads"),
                                  as_const(device_w.view()), eps, scratch.view(), dx.view(tokens, width), dw.view());
  return {on_host(dx), on_host(dw), {}};
}

TYPED_TEST(NormBackward, OfHeadsGivesWhatPyTorchGivesAndLeavesOtherColumnsAlone) {
  for (const auto& c : gradient_cases("norm_heads")) {
    const auto found = backward_of_heads<TypeParam>(c), again = backward_of_heads<TypeParam>(c);
    EXPECT_LE(worst_error(found.dx, gradient<TypeParam>(floats_of(c, "dx"), 10)), 1);
    EXPECT_LE(worst_error(found.dw, gradient<float>(plus_held(floats_of(c, "dw")), 16)), 1);
    EXPECT_EQ(found.dx, again.dx);
    EXPECT_EQ(found.dw, again.dw);
    const auto dy = floats_of(c, "dy");
    const std::size_t width = dy.size() / c.at("tokens").get<std::size_t>(), first = c.at("first");
    const std::size_t last = first + c.at("heads").get<std::size_t>() * c.at("size").get<std::size_t>();
    for (std::size_t i = 0; i < dy.size(); ++i) {
      const bool of_others = i % width < first || i % width >= last;
      EXPECT_TRUE(!of_others || found.dx[i] == dy[i]);
    }
  }
}

/// As ranks of tp do it. A head that two ranks hold has a part of dy on each: here the second has none, and its part of
/// dx is what the other heads and the share of the sums give.
TEST(NormBackwardOfParts, OverAllHeadsIsTheNormsOfOneHeadHoweverTheyAreSplit) {
  constexpr Index tokens = 19, dim = 10, heads = 3, width = heads * dim;
  const auto x = normals("x", tokens * width), dy = normals("dy", tokens * width);
  const auto w = normals("w", width);
  const auto device_x = on_device<float>(x);
  const auto device_w = on_device<float>(w);
  const auto in = as_const(device_x.view(tokens, width));
  const Buffer<float> scratch("scratch", layers::norm_backward_scratch(tokens, width));
  const auto whole_dx = on_device<float>(dy);
  const auto whole_dw = held(w.size());
  layers::rms_norm_heads_backward(Exec(), in, 0, 1, as_const(device_w.view()), eps, scratch.view(),
                                  whole_dx.view(tokens, width), whole_dw.view());

  const Buffer<float> squares("squares", tokens * heads), along("along", tokens * heads * 2);
  layers::head_sums(Exec(), in, in, 0, dim, {}, squares.view(tokens, heads));
  const auto part = [&](bool has_dy) {
    return on_device<float>(has_dy ? dy : std::vector<float>(dy.size()));
  };
  std::vector<float> sums(static_cast<std::size_t>(tokens * heads * 2));
  for (const bool second : {false, true}) {
    const auto d = part(!second);
    const Buffer<float> mine("sums", tokens * heads);
    layers::head_sums(Exec(), in, as_const(d.view(tokens, width)), 0, dim, as_const(device_w.view()),
                      mine.view(tokens, heads));
    const auto values = on_host(mine);
    for (Index t = 0; t < tokens; ++t)
      std::copy_n(values.begin() + t * heads, heads, sums.begin() + t * heads * 2 + (second ? heads : 0));
  }
  const auto device_sums = on_device<float>(sums);
  std::vector<float> dx(x.size()), dw(w.size());
  for (const bool second : {false, true}) {
    const auto d = part(!second);
    const auto d_w = on_device<float>(std::vector<float>(w.size()));
    layers::rms_norm_over_heads_backward(Exec(), in, as_const(squares.view(tokens, heads)),
                                         as_const(device_sums.view(tokens, heads * 2)), 0.5F, 0, dim,
                                         as_const(device_w.view()), eps, scratch.view(), d.view(tokens, width),
                                         d_w.view());
    const auto dx_part = on_host(d), dw_part = on_host(d_w);
    for (std::size_t i = 0; i < dx.size(); ++i) dx[i] += dx_part[i];
    for (std::size_t i = 0; i < dw.size(); ++i) dw[i] += dw_part[i];
  }
  EXPECT_LE(worst_error(dx, gradient<float>(on_host(whole_dx), 20)), 1);
  EXPECT_LE(worst_error(plus_held(dw), gradient<float>(on_host(whole_dw), 16)), 1);
}

TEST(NormBackwardDifferences, AgreeWithTheForward) {
  const Index tokens = 2, hidden = 19;
  const auto x = normals("x", tokens * hidden), w = normals("w", hidden), b = normals("b", hidden),
             dy = normals("dy", tokens * hidden);
  for (const bool rms : {true, false}) {
    const auto loss = [&](const std::vector<float>& of_x, const std::vector<float>& of_w,
                          const std::vector<float>& of_b) {
      const auto device_x = on_device<float>(of_x), device_w = on_device<float>(of_w),
                 device_b = on_device<float>(of_b);
      const Buffer<float> y("y", tokens * hidden);
      const auto in = as_const(device_x.view(tokens, hidden));
      if (rms)
        layers::rms_norm(Exec(), in, as_const(device_w.view()), eps, y.view(tokens, hidden));
      else
        layers::layer_norm(Exec(), in, as_const(device_w.view()), as_const(device_b.view()), eps,
                           y.view(tokens, hidden));
      return inner_product(on_host(y), dy);
    };
    const auto found = backward<float>(rms, !rms, x, w, dy);
    // An error of 1e-6 in the loss over 2 h, and h^2 / 6 times a third derivative of about 10.
    const auto near = [](const std::vector<float>& differences) {
      std::vector<Expected> expected;
      for (const float value : plus_held(differences)) expected.push_back({value, 2e-3});
      return expected;
    };
    constexpr float h = 0.01F;
    EXPECT_LE(worst_error(found.dx, near(central_differences(x, h, [&](const auto& v) { return loss(v, w, b); }))), 1);
    EXPECT_LE(worst_error(found.dw, near(central_differences(w, h, [&](const auto& v) { return loss(x, v, b); }))), 1);
    if (rms) continue;
    EXPECT_LE(worst_error(found.db, near(central_differences(b, h, [&](const auto& v) { return loss(x, w, v); }))), 1);
  }
}

TYPED_TEST(NormBackward, ATokensBitsAreTheSameAloneAndTheSumsAreTheSameEveryTime) {
  const std::size_t hidden = 100;
  const auto x = normals("x", 37 * 100), w = normals("w", 100), dy = stored<TypeParam>(normals("dy", 37 * 100));
  for (const bool rms : {true, false}) {
    const auto all = backward<TypeParam>(rms, !rms, x, w, dy), again = backward<TypeParam>(rms, !rms, x, w, dy);
    EXPECT_EQ(all.dx, again.dx);
    EXPECT_EQ(all.dw, again.dw);
    EXPECT_EQ(all.db, again.db);
    for (const std::size_t token : {0, 16, 36}) {
      const std::size_t row = token * hidden;
      const auto alone = backward<TypeParam>(rms, !rms, {&x[row], &x[row] + hidden}, w, {&dy[row], &dy[row] + hidden});
      EXPECT_TRUE(std::ranges::equal(alone.dx, std::span(all.dx).subspan(row, hidden))) << "token " << token;
    }
  }
}

TYPED_TEST(NormBackward, WithoutANormIsAnAddition) {
  const auto dy = stored<TypeParam>(normals("dy", 3 * 37));
  const auto device_dy = on_device<TypeParam>(dy);
  const auto dx = held(dy.size());
  layers::no_norm_backward(Exec(), as_const(device_dy.view(3, 37)), dx.view(3, 37));
  EXPECT_EQ(on_host(dx), plus_held(dy));
}

TEST(NormBackwardShapes, ThatDisagreeAreNamed) {
  const Buffer<float> six("six", 6), w("w", 3), two("two", 2);
  const auto x = as_const(six.view(2, 3));
  const auto v3 = as_const(w.view());
  EXPECT_EQ(refusal([&] { layers::rms_norm_backward(Exec(), x, v3, eps, x, six.view(), six.view(2, 3), two.view()); }),
            "rms_norm_backward: x [2, 3], w [3] do not give dx [2, 3], dw [2]");
  EXPECT_EQ(refusal([&] { layers::rms_norm_backward(Exec(), x, v3, eps, x, two.view(), six.view(2, 3), w.view()); }),
            "rms_norm_backward: scratch has 2 floats, expected 6 or more");
  EXPECT_EQ(refusal([&] {
              layers::layer_norm_backward(Exec(), x, v3, eps, x, six.view(), six.view(2, 3), w.view(), two.view());
            }),
            "layer_norm_backward: w [3] does not go with db [2]");
  EXPECT_EQ(
      refusal([&] { layers::rms_norm_heads_backward(Exec(), x, 1, 1, v3, eps, six.view(), six.view(2, 3), w.view()); }),
      "rms_norm_heads_backward: 1 heads of 3 from column 1 on in x [2, 3] do not give dx [2, 3], dw [3]");
  EXPECT_EQ(refusal([&] { layers::no_norm_backward(Exec(), x, six.view(3, 2)); }),
            "no_norm_backward: dy [2, 3] does not give dx [3, 2]");
}

}  // namespace
