// The routers' load-balancing loss in training: its gradient, and that it is the loss of all tokens of a step, however
// these lie on ranks and in micro-batches. Against transformers: trainer_test.
#include "stage_model.hpp"
#include "training.hpp"

#include <support/ranks.hpp>
#include <support/refuses.hpp>

#include <grist/core/errors.hpp>
#include <grist/layers/experts.hpp>

namespace {

using namespace grist;
using test::TrainedModel;
using test::TrainingCase;
using train::Pipeline;
using train::Recompute;
using train::TrainerOptions;

const ModelFiles& mixtral() {
  static const ModelFiles files = open_model(test::data_file("tiny/mixtral"));
  return files;
}

/// Along a gradient of length n the loss rises by n, what is chosen being as it was.
TEST(RouterLoss, HasTheGradientOfItsDifferences) {
  constexpr float factor = 300;
  const ModelFiles& files = mixtral();
  const auto table = tensor_table(files.spec, files.names);
  const ProcessGrid alone(comm_self(), {});
  const auto batch = TrainingCase{}.samples(0, 3, files.spec.vocab_size);
  const Range layers{0, files.spec.layer_count()};
  const auto routers = train::routers_of(files.spec);
  for (const auto recompute : {Recompute::none, Recompute::selective, Recompute::block}) {
    test::StageModel model(files.spec, table, alone, layers,
                           {.recompute = recompute, .balanced = true,
                            .limits = {.tokens = std::ssize(batch.ids), .sequences = 3}},
                           [&](test::StageModel& m) { load_blocks(m.weights, files, table, layers, m.shard()); });
    const double loss = model.pass(batch, test::RouterFactor(routers.experts, 0));
    const auto without = model.flat();
    model.zero();
    const test::RouterFactor balanced(routers.experts, factor);
    EXPECT_EQ(model.pass(batch, balanced), loss);
    const auto chosen = test::on_host(balanced.all);
    const auto with = model.flat(), weights = test::on_host(model.weights.memory);
    double squares = 0;
    for (std::size_t i = 0; i < with.size(); ++i) squares += std::pow(double{with[i]} - double{without[i]}, 2);
    const double norm = std::sqrt(squares), step = 2e-4;
    ASSERT_GT(norm, 1);
    double side[2];
    for (const int sign : {0, 1}) {
      auto moved = weights;
      for (std::size_t i = 0; i < moved.size(); ++i)
        moved[i] += static_cast<float>((sign == 0 ? -step : step) * (double{with[i]} - double{without[i]}) / norm);
      Kokkos::deep_copy(model.weights.flat(), test::HostView<const float>(moved.data(), moved.size()));
      const test::RouterFactor counted(routers.experts);
      model.stage->begin(model.exec, 0, batch);
      model.stage->balance({.sums = counted.sums.view()});
      model.stage->route(model.exec, 0);
      (void)counted.loss(model.exec);
      auto sums = test::on_host(counted.all);
      std::copy_n(chosen.begin(), routers.experts, sums.begin());
      side[sign] = double{factor} * layers::load_balancing_loss(sums.data(), routers.experts, routers.per_token);
    }
    EXPECT_NEAR((side[1] - side[0]) / (2 * step), norm, 0.02 * norm);
  }
}

/// A mean over ranks or micro-batches of their own losses would be another number at each layout.
TEST(RouterLoss, IsOneAtEveryLayout) {
  const TrainingCase data{.documents = true};
  const auto run = [&](CommHandle comm, const Layout& layout, const TrainerOptions& options) {
    return TrainedModel(mixtral(), comm, layout, data, options).all_steps();
  };
  const auto expected = run(comm_self(), {}, {.micro_batch = 8, .router_aux_loss = 0.5});
  const auto without = run(comm_self(), {}, {.micro_batch = 8, .router_aux_loss = 0.0});
  EXPECT_FALSE(without.back().router_loss);
  EXPECT_GT(std::abs(expected.back().loss - without.back().loss), 1e-4 * without.back().loss);
  for (const Layout& layout : test::training_layouts(mixtral().spec)) {
    for (const auto pipeline : {Pipeline::one_f_one_b, Pipeline::gpipe}) {
      for (const bool at_once : {false, true}) {
        SCOPED_TRACE(to_string(layout) + (pipeline == Pipeline::gpipe ? ", gpipe" : "") + (at_once ? ", at once" : ""));
        const auto found = run(test::world(), layout,
                               {.recompute = at_once ? Recompute::selective : Recompute::block,
                                .pipeline = pipeline,
                                .sequence_parallel = at_once,
                                .micro_batch = at_once ? 8 / layout.dp : 1,
                                .router_aux_loss = 0.5,
                                .check_replicas = true});
        test::expect_same_steps(found, expected, 1e-5);
        for (std::size_t i = 0; i < found.size(); ++i)
          EXPECT_NEAR(found[i].router_loss.value(), expected[i].router_loss.value(), 1e-5);
      }
    }
  }
}

TEST(RouterLoss, IsRefusedOfRoutersThatAreNotAlike) {
  ModelSpec spec;
  spec.layers.resize(2);
  EXPECT_EQ(train::routers_of(spec).experts, 0);
  spec.layers[1].mlp.experts = 4, spec.layers[1].mlp.experts_per_token = 2;
  EXPECT_EQ(train::routers_of(spec), (train::Routers{4, 2}));
  spec.layers[0].mlp.experts = 4, spec.layers[0].mlp.experts_per_token = 1;
  EXPECT_THAT([&] { train::routers_of(spec); }, (test::Refuses<UsageError>({"1 of 4", "2 of 4"})));
}

}  // namespace
