// Gradients of a mixture of experts, as a model would chain them, against PyTorch's autograd and finite differences;
// and the load-balancing loss against transformers'.
#include <grist/backends/products.hpp>
#include <grist/core/errors.hpp>
#include <grist/layers/experts.hpp>

#include <support/files.hpp>
#include <support/refuses.hpp>
#include <support/views.hpp>

#include <nlohmann/json.hpp>

namespace {

using namespace grist;
using namespace grist::test;
using nlohmann::json;

json golden(const std::string& name) { return json::parse(contents_of(data_file("layers/" + name + ".json"))); }
std::vector<float> floats(const json& j) { return j.get<std::vector<float>>(); }

/// Sums of tens of products have tens of roundings of their largest terms; what is rounded to X on the way (drows,
/// dshared, dx) has one rounding of it more.
template <class X>
std::vector<Expected> near(const std::vector<float>& values) {
  double largest = 0;
  for (const float value : values) largest = std::max(largest, std::abs(double{value}));
  std::vector<Expected> expected;
  for (const float value : values)
    expected.push_back({value, largest * (60 * float_rounding + (rounding<X> > float_rounding ? 2 * rounding<X> : 0))});
  return expected;
}

/// Memory that holds NaN until it is written.
template <class T>
Buffer<T> unwritten(Index size) {
  return on_device<T>(std::vector<float>(static_cast<std::size_t>(size), std::nanf("")));
}

template <class X>
struct ExpertsBackward : testing::Test {};
using Storage = testing::Types<float, bf16>;
TYPED_TEST_SUITE(ExpertsBackward, Storage);

TYPED_TEST(ExpertsBackward, IsPyTorchs) {
  using X = TypeParam;
  for (const auto* name : {"one", "top2", "top3", "all"}) {
    SCOPED_TRACE(name);
    const json j = golden("experts_" + std::string(name));
    const Index tokens = j["tokens"], experts = j["experts"], k = j["slots"], hidden = j["hidden"], rows = j["rows"];
    const bool renormalize = j["renormalize"], gated = j["gated"];
    const Exec exec;
    Products products;
    const auto x = on_device<X>(floats(j["x"])), w = on_device<X>(floats(j["w"]));
    const auto logits = on_device<float>(floats(j["logits"])), shared = on_device<float>(floats(j["shared"])),
               dy = on_device<float>(floats(j["dy"])),
               gate = on_device<float>(gated ? floats(j["gate"]) : std::vector<float>());
    Weight weight(hidden, experts);
    weight.add({format_of(dtype_of<X>), rows, w.data()});

    const Buffer<int> choices("choices", tokens * k), row_of("row_of", tokens * k), token_of("token_of", tokens * k),
        offsets("offsets", experts + 1);
    const auto weights = unwritten<float>(tokens * k), outputs = unwritten<float>(tokens * k * rows),
               y = unwritten<float>(tokens * rows);
    const auto dispatched = unwritten<X>(tokens * k * hidden);
    const auto slots = [&](const auto& buffer) { return buffer.view(tokens, k); };
    layers::choose_experts(exec, as_const(logits.view(tokens, experts)), renormalize, slots(choices), slots(weights));
    layers::sort_by_expert(exec, as_const(slots(choices)), offsets.view(), token_of.view(), slots(row_of));
    layers::dispatch(exec, as_const(x.view(tokens, hidden)), as_const(token_of.view()),
                     dispatched.view(tokens * k, hidden));
    products.grouped(exec, as_const(dispatched.view(tokens * k, hidden)), as_const(offsets.view()), weight,
                     outputs.view(tokens * k, rows));
    layers::combine(exec, as_const(outputs.view(tokens * k, rows)), as_const(slots(row_of)), as_const(slots(weights)),
                    y.view(tokens, rows));
    layers::add_shared(exec, as_const(shared.view(tokens, rows)), as_const(gate.view()), y.view(tokens, rows));
    EXPECT_EQ(on_host(choices), floats(j["choices"]));
    EXPECT_LE(worst_error(on_host(y), near<float>(floats(j["y"]))), 1);

    const auto dshared = unwritten<X>(tokens * rows), drows = unwritten<X>(tokens * k * rows),
               ddispatched = unwritten<X>(tokens * k * hidden), dx = unwritten<X>(tokens * hidden);
    const auto dgate = unwritten<float>(gated ? tokens : 0), dweights = unwritten<float>(tokens * k),
               dlogits = unwritten<float>(tokens * experts),
               dw = on_device<float>(std::vector<float>(static_cast<std::size_t>(experts * rows * hidden), 0));
    const auto on_dy = as_const(dy.view(tokens, rows));
    layers::add_shared_backward(exec, as_const(shared.view(tokens, rows)), as_const(gate.view()), on_dy,
                                dshared.view(tokens, rows), dgate.view());
    layers::combine_backward(exec, as_const(outputs.view(tokens * k, rows)), as_const(slots(row_of)),
                             as_const(slots(weights)), on_dy, drows.view(tokens * k, rows), slots(dweights));
    products.grouped_backward(exec, as_const(drows.view(tokens * k, rows)), as_const(offsets.view()), weight,
                              ddispatched.view(tokens * k, hidden));
    products.grouped_weights_backward(exec, as_const(drows.view(tokens * k, rows)),
                                      as_const(dispatched.view(tokens * k, hidden)), as_const(offsets.view()),
                                      View3<float>(dw.data(), experts, rows, hidden));
    layers::dispatch_backward(exec, as_const(ddispatched.view(tokens * k, hidden)), as_const(slots(row_of)),
                              dx.view(tokens, hidden));
    layers::choose_experts_backward(exec, as_const(logits.view(tokens, experts)), renormalize, as_const(slots(choices)),
                                    as_const(slots(weights)), as_const(slots(dweights)), dlogits.view(tokens, experts));
    EXPECT_LE(worst_error(on_host(dx), near<X>(floats(j["dx"]))), 1);
    EXPECT_LE(worst_error(on_host(dw), near<X>(floats(j["dw"]))), 1);
    EXPECT_LE(worst_error(on_host(dshared), near<X>(floats(j["dshared"]))), 1);
    if (gated) {
      EXPECT_LE(worst_error(on_host(dgate), near<float>(floats(j["dgate"]))), 1);
    }
    if (experts > 1) {  // the logit of a single expert has none
      EXPECT_LE(worst_error(on_host(dlogits), near<float>(floats(j["dlogits"]))), 1);
    } else {
      EXPECT_EQ(on_host(dlogits), std::vector<float>{0});
    }
  }
}

// The sum of dweights times weights, choices being fixed, in double precision.
TEST(ChooseExpertsBackward, IsTheDifferenceQuotient) {
  for (const auto& [tokens, experts, k] : std::vector<std::array<Index, 3>>{{1, 1, 1}, {37, 13, 3}, {5, 4, 4}}) {
    for (const bool renormalize : {false, true}) {
      const auto logits = normals("logits", tokens * experts), dweights = normals("dweights", tokens * k);
      const auto on_logits = on_device<float>(logits), on_dweights = on_device<float>(dweights);
      const Buffer<int> choices("choices", tokens * k);
      const auto weights = unwritten<float>(tokens * k), dlogits = unwritten<float>(tokens * experts);
      layers::choose_experts(Exec(), as_const(on_logits.view(tokens, experts)), renormalize, choices.view(tokens, k),
                             weights.view(tokens, k));
      layers::choose_experts_backward(Exec(), as_const(on_logits.view(tokens, experts)), renormalize,
                                      as_const(choices.view(tokens, k)), as_const(weights.view(tokens, k)),
                                      as_const(on_dweights.view(tokens, k)), dlogits.view(tokens, experts));
      const auto chosen = on_host(choices);
      std::vector<Expected> expected;
      for (Index t = 0; t < tokens; ++t) {
        std::vector<double> row(logits.begin() + t * experts, logits.begin() + (t + 1) * experts);
        const auto loss = [&] {
          double total = 0, part = 0, sum = 0;
          for (const double logit : row) total += std::exp(logit);
          for (Index s = 0; s < k; ++s) {
            const auto slot = static_cast<std::size_t>(t * k + s);
            const double mass = std::exp(row[static_cast<std::size_t>(chosen[slot])]);
            part += mass;
            sum += mass * double{dweights[slot]};
          }
          return sum / (renormalize ? part : total);
        };
        for (double& logit : row) {
          const double before = logit, step = 1e-5;
          logit = before + step;
          const double higher = loss();
          logit = before - step;
          expected.push_back({(higher - loss()) / (2 * step), 5e-6});  // dweights are about 3 at most
          logit = before;
        }
      }
      EXPECT_LE(worst_error(on_host(dlogits), expected), 1);
    }
  }
}

TEST(AddSharedBackward, OfLargeGatesIsFinite) {
  const auto shared = on_device<float>(std::vector<float>{2, 2}), dy = on_device<float>(std::vector<float>{3, 3}),
             gate = on_device<float>(std::vector<float>{1e4F, -1e4F});
  const auto dshared = unwritten<float>(2), dgate = unwritten<float>(2);
  layers::add_shared_backward(Exec(), as_const(shared.view(2, 1)), as_const(gate.view()), as_const(dy.view(2, 1)),
                              dshared.view(2, 1), dgate.view());
  EXPECT_EQ(on_host(dshared), (std::vector<float>{3, 0}));
  EXPECT_EQ(on_host(dgate), (std::vector<float>{0, 0}));
}

/// Logits of some layers, with their choices and which tokens count.
struct Routed {
  Index tokens, experts, k;
  std::vector<Buffer<float>> logits;
  Buffer<int> counted;
  Buffer<float> sums = on_device<float>(std::vector<float>(static_cast<std::size_t>(2 * experts), 0));

  explicit Routed(const json& j)
      : tokens(j["tokens"]), experts(j["experts"]), k(j["slots"]), counted(on_device<int>(floats(j["counted"]))) {
    for (const auto& layer : j["logits"]) logits.push_back(on_device<float>(floats(layer)));
  }

  /// Adds tokens [first, first + count) of a layer.
  void add(const Buffer<float>& layer, Index first, Index count) const {
    const View2<const float> rows(layer.data() + first * experts, count, experts);
    const Buffer<int> choices("choices", count * k);
    const auto weights = unwritten<float>(count * k),
               scratch = unwritten<float>(layers::load_balancing_scratch(count, experts));
    layers::choose_experts(Exec(), rows, true, choices.view(count, k), weights.view(count, k));
    layers::load_balancing_sums(Exec(), rows, as_const(choices.view(count, k)),
                                View1<const int>(counted.data() + first, count), scratch.view(), sums.view(2, experts));
  }
};

TEST(LoadBalancing, LossAndGradientAreTransformers) {
  for (const auto* name : {"one", "layers", "masked"}) {
    SCOPED_TRACE(name);
    const json j = golden("load_balancing_" + std::string(name));
    const Routed whole(j), parts(j);
    for (const auto& layer : whole.logits) whole.add(layer, 0, whole.tokens);
    for (const auto& layer : parts.logits) {  // micro-batches, which may be empty
      const Index some = parts.tokens / 3;
      for (const auto& [first, count] : {std::pair{Index{0}, some}, {some, Index{0}}, {some, parts.tokens - some}})
        parts.add(layer, first, count);
    }
    for (const auto* routed : {&whole, &parts}) {
      const auto sums = on_host(routed->sums);
      EXPECT_NEAR(layers::load_balancing_loss(sums.data(), routed->experts, routed->k), j["loss"], 1e-6);
      for (std::size_t i = 0; i < routed->logits.size(); ++i) {
        const Index size = routed->tokens * routed->experts;
        const auto dlogits = on_device<float>(std::vector<float>(static_cast<std::size_t>(size), 1));
        layers::load_balancing_backward(Exec(), as_const(routed->logits[i].view(routed->tokens, routed->experts)),
                                        as_const(routed->counted.view()),
                                        as_const(routed->sums.view(2, routed->experts)), routed->k, 0.5F,
                                        dlogits.view(routed->tokens, routed->experts));
        std::vector<Expected> expected;
        for (const float value : floats(j["dlogits"][i]))
          expected.push_back({1 + 0.5 * value, 2 * float_rounding + 1e-7});
        EXPECT_LE(worst_error(on_host(dlogits), expected), 1);
      }
    }
  }
}

TEST(LoadBalancing, CountsAllTokensWithoutAMask) {
  const json j = golden("load_balancing_layers");
  Routed masked(j), bare(j);
  bare.counted = {};
  masked.add(masked.logits[0], 0, masked.tokens);
  const View2<const float> logits = as_const(bare.logits[0].view(bare.tokens, bare.experts));
  const Buffer<int> choices("choices", bare.tokens * bare.k);
  const auto weights = unwritten<float>(bare.tokens * bare.k),
             scratch = unwritten<float>(layers::load_balancing_scratch(bare.tokens, bare.experts));
  layers::choose_experts(Exec(), logits, true, choices.view(bare.tokens, bare.k), weights.view(bare.tokens, bare.k));
  layers::load_balancing_sums(Exec(), logits, as_const(choices.view(bare.tokens, bare.k)), {}, scratch.view(),
                              bare.sums.view(2, bare.experts));
  EXPECT_EQ(on_host(bare.sums), on_host(masked.sums));
}

TEST(LoadBalancing, OfNoTokensThatCountIsNothing) {
  json j = golden("load_balancing_masked");
  for (auto& one : j["counted"]) one = 0;
  const Routed routed(j);
  routed.add(routed.logits[0], 0, routed.tokens);
  const auto sums = on_host(routed.sums);
  EXPECT_EQ(sums, std::vector<float>(sums.size(), 0));
  EXPECT_EQ(layers::load_balancing_loss(sums.data(), routed.experts, routed.k), 0);
  const auto dlogits =
      on_device<float>(std::vector<float>(static_cast<std::size_t>(routed.tokens * routed.experts), 1));
  layers::load_balancing_backward(Exec(), as_const(routed.logits[0].view(routed.tokens, routed.experts)),
                                  as_const(routed.counted.view()), as_const(routed.sums.view(2, routed.experts)),
                                  routed.k, 1, dlogits.view(routed.tokens, routed.experts));
  EXPECT_EQ(on_host(dlogits), std::vector<float>(static_cast<std::size_t>(routed.tokens * routed.experts), 1));
}

TEST(ExpertsBackwardShapes, ThatDisagreeAreNamed) {
  const Buffer<float> memory("memory", 200);
  const Buffer<int> ints("ints", 100);
  const auto f = [&](Index rows, Index columns) { return View2<float>(memory.data(), rows, columns); };
  const auto c = [&](Index rows, Index columns) { return as_const(f(rows, columns)); };
  const auto i = [&](Index rows, Index columns) { return View2<const int>(ints.data(), rows, columns); };
  const auto v = [&](Index size) { return View1<float>(memory.data(), size); };
  EXPECT_EQ(
      refusal([&] { layers::choose_experts_backward(Exec(), c(2, 3), true, i(2, 2), c(2, 2), c(2, 1), f(2, 3)); }),
      "choose_experts_backward: logits [2, 3], choices [2, 2], weights [2, 2], dweights [2, 1] do not give dlogits "
      "[2, 3]");
  EXPECT_EQ(refusal([&] { layers::dispatch_backward(Exec(), c(3, 3), i(2, 2), f(2, 3)); }),
            "dispatch_backward: drows [3, 3] and row_of [2, 2] do not give dx [2, 3]");
  EXPECT_EQ(
      refusal([&] { layers::combine_backward(Exec(), c(4, 3), i(2, 2), c(2, 2), c(2, 4), f(4, 3), f(2, 2)); }),
      "combine_backward: rows [4, 3], row_of [2, 2], weights [2, 2], dy [2, 4] do not give drows [4, 3], dweights "
      "[2, 2]");
  EXPECT_EQ(refusal([&] { layers::add_shared_backward(Exec(), c(2, 3), as_const(v(2)), c(2, 3), f(2, 3), v(0)); }),
            "add_shared_backward: shared [2, 3], gate [2], dy [2, 3] do not give dshared [2, 3], dgate [0]");
  EXPECT_EQ(refusal([&] { layers::load_balancing_sums(Exec(), c(2, 3), i(2, 2), {}, v(5), f(2, 3)); }),
            "load_balancing_sums: scratch has 5 floats, expected 6 or more");
  EXPECT_EQ(refusal([&] { layers::load_balancing_sums(Exec(), c(2, 3), i(2, 2), {}, v(9), f(2, 4)); }),
            "load_balancing_sums: logits [2, 3], choices [2, 2], counted [0] do not give sums [2, 4]");
  EXPECT_EQ(refusal([&] { layers::load_balancing_backward(Exec(), c(2, 3), {}, c(2, 4), 2, 1, f(2, 3)); }),
            "load_balancing_backward: logits [2, 3], counted [0], sums [2, 4] do not give dlogits [2, 3]");
}

}  // namespace
