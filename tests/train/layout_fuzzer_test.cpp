// Random small models of every mechanism on random layouts: loss and the gradient of every tensor are those of one rank
// that computes the micro-batch at once. GRIST_DRAWS says how many models are drawn, GRIST_SEED which is the first.
#include "stage_model.hpp"

#include <support/ranks.hpp>

#include <grist/core/errors.hpp>
#include <grist/model/initialize.hpp>

#include <cstdlib>
#include <random>
#include <set>

namespace {

using namespace grist;
using test::NamedTensors;
using test::StageModel;
using train::MicroBatch;
using train::Recompute;
using train::StageOptions;

/// Each tensor has a name of its own.
TensorNames names() {
  TensorNames names;
  names.positions = "positions";
  names.embedding_norm = "embedding_norm";
  names.mlp_norm = "mlp_norm";
  return names;
}

class Draw {
public:
  explicit Draw(std::uint64_t seed) : random_(seed) {}

  int between(int least, int most) {
    return least + static_cast<int>(random_() % static_cast<unsigned>(most - least + 1));
  }
  bool chance(double p) { return static_cast<double>(random_() >> 11) * 0x1p-53 < p; }

  ModelSpec spec() {
    ModelSpec spec{.vocab_size = between(11, 90), .hidden_size = between(5, 40), .max_positions = 64};
    const int position = between(0, 3), head_dim = between(2, 12);
    for (int i = between(1, 2); i > 0 && position == 0; --i) {
      RopeTable rope;
      for (int pair = between(1, head_dim / 2); pair > 0; --pair)
        rope.inverse_frequencies.push_back(1.0F / static_cast<float>(between(1, 30)));
      spec.ropes.push_back(rope);
    }
    if (position == 1) spec.learned_positions = 64;
    LayerSpec layer;
    layer.norm = norm();
    spec.final_norm = norm();
    layer.attention = {.kv_heads = between(1, 4),
                       .head_dim = head_dim,
                       .scale = 1 / std::sqrt(static_cast<float>(head_dim)),
                       .softcap = chance(0.3) ? static_cast<float>(between(2, 20)) : 0,
                       .position = position == 0   ? Position::rope
                                   : position == 2 ? Position::alibi
                                                   : Position::none,
                       .q_bias = chance(0.4),
                       .k_bias = chance(0.4),
                       .v_bias = chance(0.4),
                       .o_bias = chance(0.4)};
    layer.attention.heads = layer.attention.kv_heads * between(1, 4);
    layer.attention.qk_norm = chance(0.3) ? QkNorm::head : chance(0.3) ? QkNorm::all : QkNorm::none;
    switch (between(0, 4)) {
      case 0:
        layer.post_norm = true;
        break;
      case 1:
        layer.post_norm = true, layer.pre_norm = false;
        break;
      case 2:
        layer.parallel = layer.shared_norm = true;
        break;
      case 3:
        layer.parallel = true;
        break;
      default:
        break;
    }
    for (int i = between(1, 3); i > 0; --i) {
      if (position == 0) layer.attention.rope = between(0, static_cast<int>(spec.ropes.size()) - 1);
      layer.attention.window = chance(0.4) ? between(1, 9) : 0;
      layer.mlp = mlp();
      spec.layers.push_back(layer);
    }
    if (chance(0.3)) spec.embedding_scale = 1.5F;
    if (chance(0.3)) spec.logit_scale = 0.7F;
    if (chance(0.3)) spec.logit_softcap = 4;
    spec.embedding_norm = chance(0.3);
    spec.tied_embeddings = chance(0.5);
    spec.head_bias = chance(0.3);
    return spec;
  }

  MicroBatch batch(Index vocab_size, int sequences) {
    MicroBatch batch;
    for (int s = 0; s < sequences; ++s) {
      batch.begins.push_back(static_cast<int>(batch.ids.size()));
      for (int length = between(1, 23); length > 0; --length) {
        batch.ids.push_back(between(0, static_cast<int>(vocab_size) - 1));
        batch.targets.push_back(chance(0.3) ? -1 : between(0, static_cast<int>(vocab_size) - 1));
      }
    }
    return batch;
  }

private:
  NormSpec norm() {
    NormSpec norm{.kind = chance(0.5) ? NormSpec::Kind::rms : NormSpec::Kind::layer};
    norm.bias = norm.kind == NormSpec::Kind::layer && chance(0.7);
    return norm;
  }
  MlpSpec mlp() {
    MlpSpec mlp{
        .intermediate_size = between(4, 70), .activation = layers::Activation{between(0, 4)}, .gated = chance(0.6)};
    if (chance(0.35)) {
      mlp.experts = between(2, 6);
      mlp.experts_per_token = between(1, std::min(3, mlp.experts));
      mlp.renormalize = mlp.experts_per_token > 1 && chance(0.5);  // of one expert the weight would always be 1
      if (chance(0.5)) mlp.shared_intermediate = between(4, 40), mlp.shared_gate = chance(0.5);
    } else {
      mlp.up_bias = chance(0.4);
      mlp.down_bias = chance(0.4);
    }
    return mlp;
  }

  std::mt19937_64 random_;
};

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

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
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

/// Whether they may have a common loss.
bool has_equal_routers(const ModelSpec& spec) {
  try {
    return train::routers_of(spec).experts > 0;
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

void compare(std::uint64_t seed) {
  Draw draw(seed);
  ModelSpec spec = draw.spec();
  while (!allows(spec, test::ranks())) spec = draw.spec();
  check_spec(spec, "a drawn model");
  const auto table = tensor_table(spec, names());
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

TEST(LayoutFuzzer, EveryLayoutGivesLossAndGradientsOfOneRank) {
  const auto first = number_from("GRIST_SEED", 0), draws = number_from("GRIST_DRAWS", 20);
  for (std::uint64_t seed = first; seed < first + draws; ++seed) {
    SCOPED_TRACE("GRIST_DRAWS=1 GRIST_SEED=" + std::to_string(seed));
    ASSERT_NO_THROW(compare(seed)) << "GRIST_SEED=" << seed;
    if (HasFailure()) return;
  }
}

}  // namespace
