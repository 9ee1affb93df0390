// Random small models trained on random layouts, schedules, accumulation, ZeRO-1, recomputing, masks and packed
// documents: the losses and gradient norms of one rank that takes a sequence at a time. GRIST_DRAWS, GRIST_SEED:
// drawn_model.hpp.
#include "drawn_model.hpp"
#include "training.hpp"

#include <format>

namespace {

using namespace grist;
using test::Draw;
using test::TrainedModel;
using train::Pipeline;
using train::Recompute;

void compare_training(std::uint64_t seed) {
  Draw draw(seed);
  ModelFiles files{.names = test::drawn_names()};
  std::vector<Layout> layouts;
  const auto draw_model = [&] {
    files.spec = draw.spec(draw.between(1, 5));
    layouts = test::training_layouts(files.spec);
  };
  // A model that is only copied to all ranks tests little.
  for (draw_model(); layouts.empty() || (test::ranks() > 1 && layouts.size() == 1);) draw_model();
  check_spec(files.spec, "a drawn model");
  const Layout layout = layouts[static_cast<std::size_t>(draw.between(0, static_cast<int>(layouts.size()) - 1))];

  train::TrainerOptions options{.optimizer = train::Optimizer{draw.between(0, 2)}};
  options.config.eps = 1e-3F;  // an update by the sign of a gradient that is rounding alone would differ
  options.clip = draw.chance(0.5) ? 0.5 : 0;
  if (test::has_equal_routers(files.spec) && draw.chance(0.7)) options.router_aux_loss = 0.1;
  auto alone = options;
  const bool interleaved = layout.pp > 1 && files.spec.layer_count() >= 2 * layout.pp && draw.chance(0.5);
  options.pipeline = interleaved ? Pipeline::interleaved : draw.chance(0.5) ? Pipeline::gpipe : Pipeline::one_f_one_b;
  options.chunks = interleaved ? 2 : 1;
  options.zero = layout.dp > 1 && draw.chance(0.5);
  options.recompute = Recompute{draw.between(0, 2)};
  options.sequence_parallel = layout.tp > 1 && draw.chance(0.7);
  options.micro_batch = draw.between(1, 2);
  options.check_replicas = true;
  const int accumulated = draw.between(1, 3) * (interleaved ? layout.pp : 1);
  const test::TrainingCase data{.steps = 3, .batch = layout.dp * options.micro_batch * accumulated,
                                .sequence = draw.between(6, 14), .masked = draw.chance(0.3) ? 0 : draw.between(2, 4),
                                .documents = draw.chance(0.5)};
  SCOPED_TRACE(std::format("{}, {} accumulated", to_string(layout), accumulated));
  test::expect_same_steps(TrainedModel(files, test::world(), layout, data, options).all_steps(),
                          TrainedModel(files, comm_self(), {}, data, alone).all_steps(), 1e-5);
}

TEST(TrainerFuzzer, EveryLayoutTakesTheStepsOfOneRank) { test::for_each_draw(40, compare_training); }

}  // namespace
