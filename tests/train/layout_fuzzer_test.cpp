// Random small models of every mechanism on random layouts: loss and the gradient of every tensor are those of one rank
// that computes the micro-batch at once. GRIST_DRAWS says how many models are drawn, GRIST_SEED which is the first.
#include "drawn_model.hpp"
#include "stage_model.hpp"

#include <support/ranks.hpp>

#include <grist/core/errors.hpp>
#include <grist/model/initialize.hpp>

#include <set>

namespace {

using namespace grist;
using test::Draw;
using test::has_equal_routers;
using test::NamedTensors;
using test::StageModel;
using train::MicroBatch;
using train::Recompute;
using train::StageOptions;

/// Weights by name and place alone: norms around 1, biases that count, matrices that keep the size of what they take.
void fill(StageModel& model, std::uint64_t seed) {
  auto values = std::vector<float>(static_cast<std::size_t>(model.weights.memory.size()));
  for (std::size_t t = 0; t < model.where->tensors().size(); ++t) {
    const auto& tensor = model.where->tensors()[t];
    const Index columns = tensor.shape.size() == 1 ? 1 : tensor.shape.back();
    const bool vector = tensor.shape.size() == 1, ones = tensor.initial == Initial::ones;
    const float width = vector ? 0.3F : 1.0F / std::sqrt(static_cast<float>(columns));
    const InitialValues normal(tensor.name, Initial::normal, width, seed);
    for (const Run& run : model.where->runs(t))
      for (Index c = 0; c < run.columns; ++c) {
        float& value = values[static_cast<std::size_t>(run.offset + c * run.stride)];
        normal.fill(run.row * columns + run.column + c, 1, 1, &value);
        value += ones ? 1 : 0;
      }
  }
  Kokkos::deep_copy(model.weights.flat(), test::HostView<const float>(values.data(), values.size()));
}

/// What no tensor of a file has must not be trained: padding, and biases that the model lacks.
void expect_zeros_between(const StageModel& model) {
  std::set<Index> held;
  for (std::size_t t = 0; t < model.where->tensors().size(); ++t)
    for (const Run& run : model.where->runs(t))
      for (Index c = 0; c < run.columns; ++c) held.insert(run.offset + c * run.stride);
  const auto values = model.flat();
  for (Index i = 0; i < std::ssize(values); ++i) {
    if (held.contains(i)) continue;
    EXPECT_EQ(values[static_cast<std::size_t>(i)], 0) << "element " << i << " of no tensor";
  }
}

/// Whether the layout goes with the model.
bool allows(const ModelSpec& spec, int tp) {
  try {
    for (int rank = 0; rank < tp; ++rank) (void)shard_of(spec, tp, rank);
    return true;
  } catch (const UsageError&) {
    return false;
  }
}

/// In bf16 sums over ranks are rounded otherwise: all gradients together are near, relative to their length.
void expect_near(const NamedTensors& actual, const NamedTensors& expected) {
  double error = 0, length = 0;
  for (const auto& [name, values] : expected)
    for (std::size_t i = 0; i < values.size(); ++i) {
      error += std::pow(double{actual.at(name)[i]} - double{values[i]}, 2);
      length += std::pow(double{values[i]}, 2);
    }
  EXPECT_LE(std::sqrt(error), 0.05 * std::sqrt(length));
}

void compare_gradients(std::uint64_t seed) {
  Draw draw(seed);
  ModelSpec spec = draw.spec();
  while (!allows(spec, test::ranks())) spec = draw.spec();
  check_spec(spec, "a drawn model");
  const auto table = tensor_table(spec, test::drawn_names());
  const auto batch = draw.batch(spec.vocab_size, draw.between(1, 4));
  const Range layers{0, spec.layer_count()};
  // In bf16 experts may be chosen otherwise.
  const bool bf16 = std::ranges::all_of(spec.layers, [](const auto& layer) { return layer.mlp.experts == 0; }) &&
                    draw.chance(0.4);
  StageOptions options{.type = bf16 ? DType::bf16 : DType::f32,
                       .balanced = has_equal_routers(spec) && draw.chance(0.7),
                       .limits = {.tokens = std::ssize(batch.ids), .sequences = static_cast<int>(batch.begins.size())}};
  const auto make = [&](const ProcessGrid& grid, Range part) {
    return std::make_unique<StageModel>(spec, table, grid, part, options,
                                        [&](StageModel& model) { fill(model, seed); });
  };
  const auto routers = [&] {
    return test::RouterFactor(options.balanced ? train::routers_of(spec).experts : 0,
                              static_cast<float>(batch.ids.size()));
  };
  const ProcessGrid alone(comm_self(), {});
  const auto reference = make(alone, layers);
  const double loss = reference->pass(batch, routers());
  expect_zeros_between(*reference);
  const auto check = [&](double found, const NamedTensors& gradients) {
    EXPECT_NEAR(found, loss, (bf16 ? 1e-2 : 1e-5) * loss);
    if (bf16)
      expect_near(gradients, reference->whole());
    else
      test::expect_close(gradients, reference->whole(), 1e-4);
  };

  const ProcessGrid grid(test::world(), {.tp = test::ranks()});
  options.recompute = Recompute{draw.between(0, 2)};
  options.sequence_parallel = draw.chance(0.5);
  options.limits.logit_rows = draw.between(1, 30);
  options.limits.tokens += draw.between(0, 5);
  const Index cut = draw.between(0, static_cast<int>(spec.layer_count()) - 1);
  if (cut == 0) {
    const auto model = make(grid, layers);
    const double found = model->pass(batch, routers());
    model->sum_shared();
    expect_zeros_between(*model);
    check(found, model->whole());
  } else {
    const auto first = make(grid, {0, cut}), last = make(grid, {cut, spec.layer_count()});
    const double found = test::pass_through(*first, *last, batch, routers());
    if (spec.tied_embeddings) test::tie(*first, *last);
    check(found, test::sum_of(*first, *last));
  }
}

TEST(LayoutFuzzer, EveryLayoutGivesLossAndGradientsOfOneRank) { test::for_each_draw(20, compare_gradients); }

}  // namespace
