// Optimizers move weights as PyTorch's do, and sum the same bits with any number of threads.
#include <grist/core/errors.hpp>
#include <grist/train/optimizer.hpp>

#include <support/files.hpp>
#include <support/refuses.hpp>
#include <support/tools_recorder.hpp>
#include <support/views.hpp>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <string>

namespace {

using namespace grist;
using namespace grist::test;
using namespace grist::train;

/// A tensor with its gradient, moments and copy.
struct State {
  Buffer<float> w, g, m, v;
  Buffer<bf16> copy;
  Buffer<double> scratch, norms{"norms", 2};

  explicit State(const std::vector<float>& weights)
      : w(on_device<float>(weights)), g(on_device<float>(weights)),
        m(on_device<float>(std::vector<float>(weights.size()))),
        v(on_device<float>(std::vector<float>(weights.size()))),
        copy("copy", w.size()), scratch("scratch", norm_scratch(w.size())) {}

  [[nodiscard]] OptimizerRange range() const { return {w.view(), g.view(), m.view(), v.view(), copy.view()}; }

  void update(const std::string& kind, const OptimizerConfig& config, const Update& step,
              const std::vector<float>& gradient) {
    const Exec exec;
    g = on_device<float>(gradient);
    if (kind == "adamw") adamw(exec, config, step, range());
    if (kind == "sgd") sgd(exec, config, step, range());
    if (kind != "lamb") return;
    lamb_direction(exec, config, step, range(), scratch.view(), norms.view());
    lamb_apply(exec, step, range(), as_const(norms.view()));
  }
};

/// Each value within `error` of the largest expected one.
void expect_near(const std::vector<float>& actual, const std::vector<double>& expected, double error) {
  ASSERT_EQ(actual.size(), expected.size());
  double largest = 0;
  for (const double value : expected) largest = std::max(largest, std::abs(value));
  for (std::size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(actual[i], expected[i], error * std::max(largest, std::abs(expected[i]))) << "element " << i;
}

constexpr double few_roundings = 10 * float_rounding;  // two in each of five steps

TEST(Optimizers, MoveWeightsAsPyTorchDoes) {
  const auto cases = nlohmann::json::parse(contents_of(data_file("train/optimizers.json")));
  ASSERT_EQ(cases.size(), 8U);
  for (const auto& entry : cases) {
    const std::string kind = entry["kind"];
    SCOPED_TRACE(entry["name"].get<std::string>());
    const OptimizerConfig config{.beta1 = entry["beta1"], .beta2 = entry["beta2"], .eps = entry["eps"],
                                 .weight_decay = entry["weight_decay"]};
    State state(entry["w"].get<std::vector<float>>());
    for (std::size_t t = 0; t < entry["steps"].size(); ++t) {
      SCOPED_TRACE("step " + std::to_string(t + 1));
      const Update step{.step = static_cast<Index>(t + 1), .learning_rate = entry["lr"],
                        .gradient_scale = entry["scale"]};
      state.update(kind, config, step, entry["gradients"][t].get<std::vector<float>>());
      expect_near(on_host(state.w), entry["steps"][t].get<std::vector<double>>(), few_roundings);
      EXPECT_EQ(on_host(state.copy), stored<bf16>(on_host(state.w)));
    }
    expect_near(on_host(state.m), entry["m"].get<std::vector<double>>(), few_roundings);
    if (kind != "sgd") expect_near(on_host(state.v), entry["v"].get<std::vector<double>>(), few_roundings);
  }
}

TEST(Optimizers, SpareNormsAndBiasesTheDecay) {
  const auto weights = normals("w", 45), gradient = normals("g", 45);
  for (const std::string kind : {"adamw", "sgd", "lamb"}) {
    State spared(weights), without(weights), decayed(weights);
    spared.update(kind, {.weight_decay = 0.1}, {.learning_rate = 0.01, .decay = false}, gradient);
    without.update(kind, {.weight_decay = 0}, {.learning_rate = 0.01}, gradient);
    decayed.update(kind, {.weight_decay = 0.1}, {.learning_rate = 0.01}, gradient);
    EXPECT_EQ(on_host(spared.w), on_host(without.w)) << kind;
    EXPECT_NE(on_host(spared.w), on_host(decayed.w)) << kind;
  }
}

TEST(Optimizers, GiveTheSameBitsTwice) {
  const auto weights = normals("w", 5003), gradient = normals("g", 5003);
  for (const std::string kind : {"adamw", "sgd", "lamb"}) {
    State once(weights), again(weights);
    for (State* state : {&once, &again})
      for (Index t = 1; t <= 3; ++t) state->update(kind, {}, {.step = t, .learning_rate = 0.01}, gradient);
    EXPECT_EQ(on_host(once.w), on_host(again.w)) << kind;
    EXPECT_NE(on_host(once.w), weights) << kind;
  }
}

/// A tensor that two ranks share: LAMB with the sum of their norms moves it as one rank would.
TEST(Optimizers, LambTakesTheNormsOfAllRanks) {
  const auto weights = normals("w", 1000), gradient = normals("g", 1000);
  State whole(weights);
  const Update step{.learning_rate = 0.01};
  whole.update("lamb", {}, step, gradient);
  const auto half = [](const std::vector<float>& all, int part) {
    return std::vector<float>(all.begin() + 500 * part, all.begin() + 500 * (part + 1));
  };
  State halves[2] = {State(half(weights, 0)), State(half(weights, 1))};
  double sums[2] = {};
  for (int part = 0; part < 2; ++part) {
    State& state = halves[part];
    state.g = on_device<float>(half(gradient, part));
    lamb_direction(Exec(), {}, step, state.range(), state.scratch.view(), state.norms.view());
    const auto norms = on_host(state.norms);
    for (int i = 0; i < 2; ++i) sums[i] += norms[static_cast<std::size_t>(i)];
  }
  std::vector<double> expected;
  for (const float value : on_host(whole.w)) expected.push_back(value);
  std::vector<float> actual;
  for (State& state : halves) {
    Kokkos::deep_copy(state.norms.view(), HostView<const double>(sums, 2));
    lamb_apply(Exec(), step, state.range(), as_const(state.norms.view()));
    for (const float value : on_host(state.w)) actual.push_back(value);
  }
  expect_near(actual, expected, few_roundings);
}

double norm_of(const std::vector<float>& values) {
  const auto x = on_device<float>(values);
  const Buffer<double> scratch("scratch", norm_scratch(x.size())), result("result", 1);
  squared_norm(Exec(), as_const(x.view()), scratch.view(), result.view());
  double value = -1;
  Kokkos::fence("grist::test: the norm");
  Kokkos::deep_copy(HostView<double>(&value, 1), result.view());
  return value;
}

TEST(SquaredNorm, IsTheSumOfSquaresAtEverySize) {
  for (const Index size : {0, 1, 15, 16, 17, 511, 512, 513, 1023, 5000, 262143, 262145, 600001}) {
    const auto x = normals("x", size);
    long double expected = 0;
    for (const float value : x) expected += static_cast<long double>(value) * value;
    EXPECT_NEAR(norm_of(x), static_cast<double>(expected), 1e-14 * static_cast<double>(expected)) << size;
  }
}

TEST(SquaredNorm, HasTheSameBitsWithAnyNumberOfThreads) {
  if (Exec().concurrency() < 2) GTEST_SKIP() << "one thread";
  const auto x = on_device<float>(normals("x", 100003));
  const Buffer<double> scratch("scratch", norm_scratch(x.size())), result("result", 1);
  std::vector<double> values;
  const auto take = [&](const Exec& exec) {
    squared_norm(exec, as_const(x.view()), scratch.view(), result.view());
    exec.fence("grist::test: the norm");
    double value = 0;
    Kokkos::deep_copy(HostView<double>(&value, 1), result.view());
    values.push_back(value);
  };
  take(Exec());
  for (const Exec& half : Kokkos::Experimental::partition_space(Exec(), 1, 1)) take(half);
  EXPECT_EQ(values[0], values[1]);
  EXPECT_EQ(values[0], values[2]);
}

TEST(SquaredNorm, IsFiniteExactlyWhereAllIs) {
  std::vector<float> x(1301, std::numeric_limits<float>::max());
  EXPECT_TRUE(std::isfinite(norm_of(x)));
  for (const std::size_t place : {std::size_t{0}, std::size_t{700}, x.size() - 1}) {
    for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()}) {
      auto spoilt = x;
      spoilt[place] = bad;
      EXPECT_FALSE(std::isfinite(norm_of(spoilt))) << bad << " at " << place;
    }
  }
}

TEST(Optimizers, KeepTheRulesOfLayers) {
  State state(normals("w", 2000));
  const auto all = [&] {
    const Exec exec;
    adamw(exec, {}, {.learning_rate = 0.01}, state.range());
    sgd(exec, {}, {.learning_rate = 0.01}, state.range());
    lamb_direction(exec, {}, {.learning_rate = 0.01}, state.range(), state.scratch.view(), state.norms.view());
    lamb_apply(exec, {.learning_rate = 0.01}, state.range(), as_const(state.norms.view()));
  };
  all();
  Kokkos::fence("grist::test: warm");
  const ToolsRecorder seen;
  all();
  EXPECT_THAT(seen.kernels, testing::SizeIs(4 + 4));  // each norm of 2000 takes two
  EXPECT_THAT(seen.kernels, testing::Each(testing::StartsWith("grist::")));
  EXPECT_THAT(seen.fences, testing::IsEmpty());
  EXPECT_THAT(seen.allocations, testing::IsEmpty());
  EXPECT_THAT(seen.copies, testing::IsEmpty());
}

TEST(Optimizers, NameSizesThatDisagree) {
  const State state(normals("w", 20));
  OptimizerRange range = state.range();
  range.g = View1<float>(range.g.data(), 19);
  EXPECT_THAT([&] { adamw(Exec(), {}, {}, range); }, (Refuses<ShapeError>({"adamw: w [20]", "g [19]"})));
  EXPECT_THAT([&] { squared_norm(Exec(), as_const(state.w.view()), {}, {}); },
              (Refuses<ShapeError>({"result [0]", "x [20]"})));
}

}  // namespace
