// What is planned is what is taken, part by part: by a model with its cache and a scheduler that uses all of them.
#include "support/files.hpp"
#include "support/ranks.hpp"
#include "support/tools_recorder.hpp"

#include <grist/backends/products.hpp>
#include <grist/core/staging.hpp>
#include <grist/generate/draft_model.hpp>
#include <grist/generate/scheduler.hpp>

#include <gtest/gtest.h>

#include <format>

namespace {

using namespace grist;

constexpr ModelLimits limits{  // four requests fill a batch
    .batch_tokens = 64 + 65 + 66 + 67, .batch_sequences = 6, .logit_rows = 6, .context = 128, .kv_tokens = 512};

/// Draws with a repetition penalty, so that every kind of scratch is taken.
Request request(int number) {
  Request request;
  for (int i = 0; i < 64 + number; ++i) request.prompt.push_back((7 * i + number) % 100);
  request.max_new_tokens = 8;
  request.ignore_eos = true;
  request.sampling = {.repetition_penalty = 1.1F, .temperature = 1, .top_k = 20, .top_p = 0.9F};
  return request;
}

/// Whether the usual provider multiplies such numbers as floats.
bool widens(DType type) {
  const ConstMatrix a(nullptr, type, 8, 8, 8);
  const Matrix c(nullptr, type, 8, 8, 8);
  return make_gemm()->scratch_bytes({a, Op::none, a, Op::transposed, 0, c}) > 0;
}

class Planned : public testing::TestWithParam<const char*> {};

TEST_P(Planned, IsWhatIsTakenAndNoPartMayBeLeftOut) {
  if (!host_reaches_memory) GTEST_SKIP() << "libraries load kernels of their own, and pinned memory is no device's";
  const auto files = open_model(test::data_file(std::string("tiny/") + GetParam()));
  const ProcessGrid grid(test::world(), {});
  for (const ModelNumbers numbers : {ModelNumbers{.weights = WeightStorage::bf16},
                                     ModelNumbers{.weights = WeightStorage::q4_0},
                                     ModelNumbers{.type = DType::bf16, .kv_type = KvType::bf16},
                                     ModelNumbers{.type = DType::bf16, .kv_type = KvType::bf16,
                                                  .weights = WeightStorage::q4_0},
                                     ModelNumbers{.type = DType::bf16, .kv_type = KvType::int8}}) {
    SCOPED_TRACE(std::format("{}, cache in {}", name_of(numbers.type), name_of(numbers.kv_type)));
    Products products;
    const auto plan = scheduler_plan(files, {}, 0, 0, numbers, limits, products);
    const test::MemoryMeter meter;
    const Exec exec;
    const auto model = make_model(files, grid, {.numbers = numbers, .limits = limits});
    const auto scored = request(0).prompt;  // the head's product of many rows
    const BatchItem item{.ids = scored, .prompt_length = static_cast<int>(scored.size())};
    (void)model->score(exec, nullptr, item, scored);
    Scheduler scheduler(exec, *model, {});
    for (int i = 0; i < limits.batch_sequences; ++i) scheduler.submit(request(i));
    while (!scheduler.idle()) scheduler.step();

    const auto allocated = plan.total() - plan.mapped;
    EXPECT_GE(allocated + 64, meter.most) << "Kokkos rounds each piece up to 8 bytes";
    EXPECT_LE(static_cast<double>(allocated), 1.1 * static_cast<double>(meter.most));
    // A provider that widens to float is planned with more than rows of experts take, by more than a batch's arrays,
    // and one of floats alone with more than any of these shapes.
    const bool plans_more = files.spec.layers[0].mlp.experts > 0 && widens(numbers.type);
    const auto batch = plans_more || !make_gemm()->batch_invariant() ? 0 : plan.batch;
    const auto copied = plan.parameters - plan.mapped;
    for (const auto part : {copied, plan.kv_cache, plan.workspace, batch, plan.products, plan.sampling})
      EXPECT_TRUE(part == 0 || allocated - part < meter.most) << "without a part of " << part << " bytes";
    const bool converts = numbers.type == DType::f32;
    EXPECT_TRUE(plan.products > 0 || !converts) << "panels are converted";
    EXPECT_GT(plan.sampling, 0U);
    EXPECT_GT(plan.batch, 0U);
  }
}

TEST_P(Planned, OfAModelAndADraftModelIsTheirSum) {
  if (!host_reaches_memory) GTEST_SKIP() << "libraries load kernels of their own, and pinned memory is no device's";
  const auto files = open_model(test::data_file(std::string("tiny/") + GetParam()));
  const ProcessGrid grid(test::world(), {});
  const ModelNumbers numbers{.weights = WeightStorage::bf16};
  Products products;
  auto large = limits;
  large.logit_rows *= 4;
  const auto small = draft_limits(large, large.context);
  auto plan = scheduler_plan(files, {}, 0, 0, numbers, large, products);
  const auto alone = plan.total();
  plan += scheduler_plan(files, {}, 0, 0, numbers, small, products);
  EXPECT_GT(plan.total(), alone);

  const test::MemoryMeter meter;
  const Exec exec;
  const auto model = make_model(files, grid, {.numbers = numbers, .limits = large});
  const auto draft = make_model(files, grid, {.numbers = numbers, .limits = small});
  Scheduler scheduler(exec, *model, {.draft_tokens = 3,
                                     .drafter = std::make_unique<ModelDrafter>(exec, *model, draft.get())});
  for (int i = 0; i < limits.batch_sequences; ++i) {
    auto guessed = request(i);
    guessed.sampling.repetition_penalty = 1;
    scheduler.submit(guessed);
  }
  while (!scheduler.idle()) scheduler.step();
  const auto allocated = plan.total() - plan.mapped;
  EXPECT_GE(allocated + 64, meter.most);
  EXPECT_LE(static_cast<double>(allocated), 1.2 * static_cast<double>(meter.most));
}

INSTANTIATE_TEST_SUITE_P(Models, Planned, testing::Values("llama2", "mixtral", "gemma3", "bloom"));

}  // namespace
