// Training runs: the losses of PyTorch, of one rank at every layout, the same bits every time, through checkpoints too.
#include "support/refuses.hpp"
#include "support/shared_folder.hpp"
#include "training.hpp"

#include <grist/core/errors.hpp>

#include <limits>

namespace {

using namespace grist;
using test::expect_same_steps;
using test::ranks;
using test::TrainedModel;
using test::TrainingCase;
using test::Way;
using test::world;
using train::Optimizer;
using train::Pipeline;
using train::Recompute;
using train::TrainerOptions;

ModelFiles tiny(const std::string& name) { return open_model(test::data_file("tiny/" + name)); }

/// Every layout of the ranks, with each schedule, ZeRO-1 and recomputing where they make a difference, and in turn with
/// the tokens of the stream shared over tp.
std::vector<Way> ways_of(const ModelSpec& spec, const TrainerOptions& given = {}) {
  std::vector<Way> ways;
  for (const Layout& layout : test::training_layouts(spec)) {
    std::vector<Pipeline> kinds{Pipeline::one_f_one_b};
    if (layout.pp > 1) kinds.push_back(Pipeline::gpipe);
    if (layout.pp > 1 && spec.layer_count() >= 2 * layout.pp) kinds.push_back(Pipeline::interleaved);
    for (const Pipeline kind : kinds) {
      for (const bool zero : {false, true}) {
        if (zero && layout.dp == 1) continue;
        for (const Recompute recompute : {Recompute::none, Recompute::selective, Recompute::block}) {
          if (ranks() > 2 && (recompute == Recompute::block) == (kind == Pipeline::one_f_one_b)) continue;  // time
          TrainerOptions options = given;
          options.pipeline = kind;
          options.chunks = kind == Pipeline::interleaved ? 2 : 1;
          options.zero = zero;
          options.recompute = recompute;
          options.sequence_parallel = layout.tp > 1 && recompute != Recompute::none;
          ways.push_back({layout, options});
        }
      }
    }
  }
  return ways;
}

/// Each layout once, with what can go wrong in it: ZeRO-1, chunks.
std::vector<Way> one_way_each(const ModelSpec& spec, const TrainerOptions& given = {}) {
  std::vector<Way> ways;
  for (Way& way : ways_of(spec, given)) {
    if (!ways.empty() && ways.back().layout == way.layout) ways.back() = std::move(way);  // the last has all of it
    else
      ways.push_back(std::move(way));
  }
  return ways;
}

class Training : public testing::TestWithParam<const char*> {
protected:
  TrainedModel make(const Way& way) const { return {files, world(), way.layout, data, way.options}; }
  TrainedModel alone(TrainerOptions options = {}) const { return {files, comm_self(), {}, data, options}; }

  /// Losses that no update has moved would be equal at every layout, whatever the updates are.
  void expect_updates_to_matter(const std::vector<train::StepResult>& results) const {
    const double untrained = alone().evaluate(data.steps);
    EXPECT_GT(std::abs(results.back().loss - untrained), 1e-3 * untrained);
  }

  const ModelFiles files = tiny(GetParam());
  TrainingCase data{.documents = true};
  Exec exec;
};

/// Of a tiny model by its name, or by its name and what is special about the run.
class AgainstPyTorch : public testing::TestWithParam<const char*> {
protected:
  const nlohmann::json json = nlohmann::json::parse(test::contents_of(test::data_file("train/losses.json")))
                                  .at(GetParam());
  const TrainingCase data{.steps = json.at("steps"), .batch = json.at("batch"), .sequence = json.at("sequence"),
                          .peak = json.at("peak"), .least = json.at("least"), .warmup = json.at("warmup"),
                          .masked = json.at("masked")};
  const std::string name = std::string(GetParam()).substr(0, std::string(GetParam()).find('_'));
};

TEST_P(AgainstPyTorch, LossesAndNormsAreTheSameAtEachStep) {
  const auto files = tiny(name);
  TrainedModel model(files, comm_self(), {}, data,
                     {.micro_batch = 2, .router_aux_loss = json.at("router").get<double>()});
  const std::vector<double> losses = json.at("losses"), norms = json.at("norms");
  ASSERT_EQ(std::ssize(losses), data.steps);
  for (std::size_t i = 0; i < losses.size(); ++i) {
    const auto result = model.step(static_cast<Index>(i) + 1);
    EXPECT_NEAR(result.loss, losses[i], 1e-4 * losses[i]) << "step " << i + 1;
    EXPECT_NEAR(result.gradient_norm, norms[i], 1e-3 * norms[i]) << "step " << i + 1;
    ASSERT_EQ(result.router_loss.has_value(), json.contains("router_losses"));
    if (!result.router_loss) continue;
    const double router = json.at("router_losses").at(i);
    EXPECT_NEAR(*result.router_loss, router, 1e-4 * router) << "step " << i + 1;
  }
}
INSTANTIATE_TEST_SUITE_P(Tiny, AgainstPyTorch,
                         testing::Values("llama2", "gemma2", "mixtral", "mixtral_router", "bloom"));

TEST_P(Training, OfEveryLayoutHasOneRanksLosses) {
  const auto expected = alone({.micro_batch = 2}).all_steps();
  expect_updates_to_matter(expected);
  for (const Way& way : ways_of(files.spec, {.check_replicas = true})) {
    SCOPED_TRACE(way.name());
    expect_same_steps(make(way).all_steps(), expected, 1e-5);
  }
}

TEST_P(Training, OfOneLayoutHasTheSameBitsEveryTime) {
  for (const Way& way : one_way_each(files.spec)) {
    SCOPED_TRACE(way.name());
    auto first = make(way), second = make(way);
    const auto a = first.all_steps(), b = second.all_steps();
    for (std::size_t i = 0; i < a.size(); ++i) EXPECT_EQ(a[i].loss, b[i].loss);
    EXPECT_EQ(first.weights(), second.weights());
  }
}

/// Masked targets are spread unevenly: a mean of means would be another number.
TEST_P(Training, DoesNotDependOnMicroBatches) {
  const auto expected = alone({.micro_batch = 8}).all_steps();
  for (const Index micro : {1, 4}) expect_same_steps(alone({.micro_batch = micro}).all_steps(), expected, 1e-5);
}

TEST_P(Training, WithOtherOptimizersHasOneRanksLosses) {
  data.peak = 0.03;
  for (const Optimizer optimizer : {Optimizer::lamb, Optimizer::sgd}) {
    const auto expected = alone({.optimizer = optimizer}).all_steps();
    expect_updates_to_matter(expected);
    for (const Way& way : one_way_each(files.spec, {.optimizer = optimizer, .check_replicas = true})) {
      SCOPED_TRACE(way.name() + (optimizer == Optimizer::lamb ? ", lamb" : ", sgd"));
      expect_same_steps(make(way).all_steps(), expected, 1e-5);
    }
  }
}

TEST_P(Training, InBf16IsNearF32AndNotTheSame) {
  const auto exact = alone().all_steps();
  for (const Way& way : one_way_each(files.spec, {.type = DType::bf16, .check_replicas = true})) {
    SCOPED_TRACE(way.name());
    const auto rounded = make(way).all_steps();
    for (std::size_t i = 0; i < exact.size(); ++i) {
      EXPECT_NEAR(rounded[i].loss, exact[i].loss, 0.02 * exact[i].loss);
      EXPECT_GT(std::abs(rounded[i].loss - exact[i].loss), 1e-6 * exact[i].loss);
    }
  }
}

TEST_P(Training, EvaluationIsTheLossOfAStepAndChangesNothing) {
  for (const Way& way : one_way_each(files.spec)) {
    SCOPED_TRACE(way.name());
    auto model = make(way), other = make(way);
    model.step(1);
    other.step(1);
    const double loss = model.evaluate(2);
    EXPECT_EQ(model.weights(), other.weights());
    const auto result = model.step(2);
    EXPECT_NEAR(loss, result.loss, 1e-6 * loss);
    EXPECT_EQ(result.loss, other.step(2).loss);
    EXPECT_EQ(model.weights(), other.weights());
  }
}

TEST_P(Training, GoesOnFromACheckpointAtAnyLayout) {
  if (ranks() > 2 && files.spec.layer_count() > 3) return;  // time
  data.steps = 4;
  const auto expected = alone().all_steps();
  const std::vector<train::StepResult> rest(expected.begin() + 2, expected.end());
  const auto ways = one_way_each(files.spec);
  const test::SharedFolder folder;
  for (std::size_t i = 0; i < ways.size(); ++i) {
    SCOPED_TRACE(ways[i].name());
    const auto file = folder / "step.h5";
    auto whole = make(ways[i]);
    whole.steps(1, 2);
    save_checkpoint(exec, file, whole.trainer->layout(), whole.trainer->groups(), {.step = 2}, whole.grid);
    whole.steps(3, 4);
    const auto load = [&](TrainedModel& model) {
      model.step(1);  // so that nothing is right by itself
      EXPECT_EQ(load_checkpoint(exec, file, model.trainer->layout(), model.trainer->groups(), model.grid).step, 2);
      model.trainer->loaded(exec, 2);
    };
    auto same = make(ways[i]);
    load(same);
    expect_same_steps(same.steps(3, 4), rest, 1e-5);
    EXPECT_EQ(same.weights(), whole.weights());
    const Way& next = ways[(i + 1) % ways.size()];
    SCOPED_TRACE("to " + next.name());
    auto other = make(next);
    load(other);
    expect_same_steps(other.steps(3, 4), rest, 1e-5);
  }
}

TEST_P(Training, AnEvaluationThatIsStoppedChangesNothing) {
  for (const Way& way : one_way_each(files.spec)) {
    SCOPED_TRACE(way.name());
    auto model = make(way), other = make(way);
    int asked = 0;
    EXPECT_FALSE(model.trainer->evaluate(exec, 8, model.batches(1), [&] { return ++asked == 2; }));
    EXPECT_EQ(asked, 2);
    EXPECT_EQ(model.step(1).loss, other.step(1).loss);
  }
}

/// The first weight of a norm among the elements of the flat array that are held, from `first` on; empty: none.
View1<float> norm_weight(const TrainedModel& model, View1<float> held, Index first) {
  const auto& layout = model.trainer->layout();
  for (std::size_t t = 0; t < layout.tensors().size(); ++t) {
    if (!layout.holds(t) || !layout.tensors()[t].name.ends_with("weight") || layout.tensors()[t].shape.size() != 1)
      continue;
    const Index at = layout.runs(t).front().offset - first;
    if (at >= 0 && at < static_cast<Index>(held.size())) return Kokkos::subview(held, std::pair(at, at + 1));
  }
  return {};
}

/// Sets a weight of one rank to a value; returns what it was.
float poke(View1<float> element, float value) {
  float before = 0;
  Kokkos::deep_copy(before, Kokkos::subview(element, 0));
  Kokkos::deep_copy(element, value);
  return before;
}
float poke(const TrainedModel& model, float value) {
  return poke(norm_weight(model, model.trainer->groups().front().values, 0), value);
}

TEST_P(Training, SkipsWhatIsNotFiniteAndEndsAfterALimit) {
  for (const Way& way : one_way_each(files.spec, {.max_skipped = 2})) {
    SCOPED_TRACE(way.name());
    auto model = make(way);
    model.step(1);
    const bool first = model.grid.world().rank() == 0;
    const float before = first ? poke(model, std::numeric_limits<float>::infinity()) : 0;
    const auto weights = model.weights();
    EXPECT_TRUE(model.step(2).skipped);
    EXPECT_TRUE(model.step(3).skipped);
    EXPECT_EQ(model.weights(), weights);
    EXPECT_EQ(model.trainer->updates(), 1);
    EXPECT_THAT([&] { model.step(4); }, (test::Refuses<NumericalError>({"step 4", "3 steps in a row", "weight"})));
    if (first) poke(model, before);
    EXPECT_FALSE(model.step(2).skipped);
    EXPECT_EQ(model.trainer->updates(), 2);
    if (first) poke(model, std::numeric_limits<float>::infinity());
    EXPECT_TRUE(model.step(3).skipped) << "and the count begins anew";
  }
}

/// A check that cannot see a difference would pass every other test of this file.
TEST_P(Training, ReplicasThatDifferAreNamedOnAllRanks) {
  int seen = 0;
  for (const Way& way : ways_of(files.spec)) {
    if (way.layout.pp == ranks()) continue;  // has none
    if (way.options.pipeline != Pipeline::one_f_one_b || way.options.recompute == Recompute::block) continue;
    SCOPED_TRACE(way.name());
    auto model = make(way);
    model.step(1);
    model.trainer->check_replicas(exec);
    const bool first = model.grid.world().rank() == 0;
    const auto differs = [&](View1<float> values, Index from, const std::string& what) {
      SCOPED_TRACE(what);
      const auto element = norm_weight(model, values, from);
      const bool there = model.grid.world().all_reduce(first && element.size() > 0 ? 1 : 0) > 0;
      // With ZeRO-1 ranks of dp hold nothing but weights alike.
      if (!there || (way.options.zero && way.layout.tp == 1 && what != "weights")) return;
      ++seen;
      const float before = first ? poke(element, 7) : 0;
      EXPECT_THAT([&] { model.trainer->check_replicas(exec); }, (test::Refuses<InternalError>({"weight", what})));
      if (first) poke(element, before);
      EXPECT_NO_THROW(model.trainer->check_replicas(exec));
    };
    const auto groups = model.trainer->groups();
    differs(groups[0].values, 0, "weights");
    differs(groups[1].values, groups[1].first, "first moments");
    differs(groups[2].values, groups[2].first, "second moments");
    differs(model.trainer->gradients(), groups[1].first, "gradients");
  }
  EXPECT_GE(seen, ranks() == 1 ? 0 : 9);
}

INSTANTIATE_TEST_SUITE_P(Tiny, Training, testing::Values("llama2", "gemma2", "gemma3", "mixtral", "bloom"),
                         [](const auto& of) { return std::string(of.param); });

}  // namespace
