// Loss and gradients of whole models: those of transformers' autograd, at every tp, by whatever way they are computed.
#include "stage_model.hpp"

#include <support/files.hpp>
#include <support/ranks.hpp>
#include <support/refuses.hpp>

#include <grist/core/errors.hpp>

#include <nlohmann/json.hpp>

#include <filesystem>
#include <limits>
#include <set>

namespace {

using namespace grist;
using test::NamedTensors;
using test::packed;
using test::Sequence;
using test::StageModel;
using train::Recompute;
using train::StageOptions;

/// tests/reference/model_gradients.py.
struct Reference {
  struct Tensor {
    std::string name;
    std::size_t elements, stride;
    double norm, largest;
    std::vector<float> samples;
  };
  std::vector<Sequence> sequences;
  double loss, bf16_error;
  std::vector<Tensor> tensors;

  explicit Reference(const std::string& model) {
    const auto path = test::data_file("train/gradients/" + model + ".json");
    const auto json = nlohmann::json::parse(test::contents_of(path));
    const auto floats = test::floats_of(std::filesystem::path(path).replace_extension(".f32"));
    for (const auto& s : json.at("sequences")) sequences.push_back({s.at("ids"), s.at("targets")});
    loss = json.at("loss");
    bf16_error = json.at("bf16_error");
    auto next = floats.begin();
    for (const auto& t : json.at("tensors")) {
      Tensor tensor{t.at("name"), t.at("elements"), t.at("stride"), t.at("norm"), t.at("largest"), {}};
      const auto count = static_cast<std::ptrdiff_t>((tensor.elements + tensor.stride - 1) / tensor.stride);
      tensor.samples.assign(next, next + count);
      next += count;
      tensors.push_back(std::move(tensor));
    }
    if (next != floats.end()) throw std::runtime_error(path.string() + ": more numbers than tensors");
  }

  [[nodiscard]] double largest() const { return std::ranges::max(tensors, {}, &Tensor::largest).largest; }
};

class Gradients : public testing::TestWithParam<std::string> {
protected:
  Gradients()
      : files(open_model(test::data_file("tiny/" + GetParam()))),
        table(tensor_table(files.spec, files.names)),
        reference(GetParam()),
        grid(test::world(), {.tp = test::ranks()}) {}

  /// Room for the sequences, and logits in uneven pieces.
  [[nodiscard]] StageOptions options(DType type = DType::f32, Recompute recompute = Recompute::none,
                                     int slots = 1) const {
    return {.type = type,
            .recompute = recompute,
            .limits = {.tokens = std::ssize(packed(reference.sequences).ids),
                       .sequences = static_cast<int>(reference.sequences.size()),
                       .slots = slots,
                       .logit_rows = 7}};
  }
  [[nodiscard]] Range all_layers() const { return {0, files.spec.layer_count()}; }
  [[nodiscard]] std::unique_ptr<StageModel> make(Range layers, const StageOptions& options) const {
    return std::make_unique<StageModel>(files.spec, table, grid, layers, options, [&](StageModel& model) {
      load_blocks(model.weights, files, table, layers, model.shard());
    });
  }
  [[nodiscard]] std::unique_ptr<StageModel> make(const StageOptions& options) const {
    return make(all_layers(), options);
  }

  /// Within rounding of the largest element of each tensor.
  void expect_reference(const NamedTensors& gradients) const {
    ASSERT_EQ(gradients.size(), reference.tensors.size());
    for (const auto& tensor : reference.tensors) {
      const auto found = gradients.find(tensor.name);
      ASSERT_NE(found, gradients.end()) << tensor.name;
      const auto& values = found->second;
      ASSERT_EQ(values.size(), tensor.elements) << tensor.name;
      const double bound = 1e-4 * tensor.largest + 1e-7 * reference.largest();
      std::size_t wrong = 0, first = 0;
      double squares = 0;
      for (const double v : values) squares += v * v;
      for (std::size_t i = tensor.samples.size(); i-- > 0;)
        if (!(std::abs(double{values[i * tensor.stride]} - double{tensor.samples[i]}) <= bound)) ++wrong, first = i;
      EXPECT_EQ(wrong, 0U) << tensor.name << ": of " << tensor.samples.size() << " samples, first element "
                           << first * tensor.stride << " is " << values[first * tensor.stride] << ", expected "
                           << tensor.samples[first] << " within " << bound;
      EXPECT_NEAR(std::sqrt(squares), tensor.norm, 1e-4 * tensor.norm + bound) << tensor.name;
    }
  }

  /// Of all samples, relative to their length.
  [[nodiscard]] double distance(const NamedTensors& gradients) const {
    double error = 0, length = 0;
    for (const auto& tensor : reference.tensors) {
      const auto& values = gradients.at(tensor.name);
      for (std::size_t i = 0; i < tensor.samples.size(); ++i) {
        const double difference = double{values[i * tensor.stride]} - double{tensor.samples[i]};
        error += difference * difference;
        length += double{tensor.samples[i]} * double{tensor.samples[i]};
      }
    }
    return std::sqrt(error / length);
  }

  ModelFiles files;
  TensorTable table;
  Reference reference;
  ProcessGrid grid;
};

TEST_P(Gradients, AreThoseOfTransformers) {
  const auto model = make(options());
  EXPECT_NEAR(model->pass(packed(reference.sequences)), reference.loss, 1e-5 * reference.loss);
  model->sum_shared();
  expect_reference(model->whole());
}

/// As near as torch's own bfloat16, whose gradients are rounded at every sum; and not as near as float would be.
TEST_P(Gradients, InBf16AreNearThem) {
  const auto model = make(options(DType::bf16));
  EXPECT_NEAR(model->pass(packed(reference.sequences)), reference.loss, 0.01 * reference.loss);
  model->sum_shared();
  const double error = distance(model->whole());
  EXPECT_LT(error, 1.25 * reference.bf16_error);
  EXPECT_GT(error, 0.1 * reference.bf16_error) << "this was not computed in bf16";
}

/// Losses even to the bit, as the same numbers are summed in the same order.
TEST_P(Gradients, AreTheSameWhereRanksShareTheTokensOfTheStream) {
  if (test::ranks() == 1) return;
  StageOptions shared = options(DType::f32, Recompute::selective);
  shared.sequence_parallel = true;
  // Fewer tokens than ranks, too.
  for (const auto& batch : {packed(reference.sequences), packed({{{3}, {1}}})}) {
    const auto whole = make(options()), model = make(shared);
    const double loss = whole->pass(batch);
    EXPECT_EQ(model->loss(batch), loss);
    EXPECT_EQ(model->pass(batch), loss);
    const auto first = model->flat();
    model->zero();
    EXPECT_EQ(model->pass(batch), loss);
    EXPECT_EQ(model->flat(), first);
    whole->sum_shared();
    model->sum_shared();
    test::expect_close(model->whole(), whole->whole(), 1e-5);
  }
}

TEST_P(Gradients, OfSequencesPackedAreTheSumsOfEach) {
  const auto together = make(options()), apart = make(options());
  const double loss = together->pass(packed(reference.sequences));
  double sum = 0;
  for (const auto& sequence : reference.sequences) sum += apart->pass(packed({sequence}));
  EXPECT_NEAR(loss, sum, 1e-6 * loss);
  together->sum_shared();
  apart->sum_shared();
  test::expect_close(apart->whole(), together->whole(), 1e-5);
}

TEST_P(Gradients, HaveTheSameBitsInEveryRunWhateverIsComputedAgain) {
  for (const DType type : {DType::f32, DType::bf16}) {
    const auto model = make(options(type));
    const auto batch = packed(reference.sequences);
    const double loss = model->pass(batch);
    const auto first = model->flat();
    model->zero();
    EXPECT_EQ(model->loss(batch), loss);
    EXPECT_EQ(model->flat(), std::vector<float>(first.size()));
    EXPECT_EQ(model->pass(batch), loss);
    EXPECT_EQ(model->flat(), first);
    for (const auto recompute : {Recompute::selective, Recompute::block}) {
      const auto again = make(options(type, recompute));
      EXPECT_EQ(again->pass(batch), loss);
      EXPECT_EQ(again->flat(), first);
    }
  }
}

/// A pass that took more would have thrown.
TEST_P(Gradients, TakeTheMemoryThatIsToldBefore) {
  const auto kept = [&](StageOptions with) {  // by one more micro-batch
    const auto model = make(with);
    const auto told = [&] {
      return train::stage_bytes(files.spec, model->shards, model->layers, grid.tp().rank(), with);
    };
    const auto bytes = told();
    EXPECT_EQ(model->stage->bytes(), bytes);
    model->pass(packed(reference.sequences));
    ++with.limits.slots;
    return told() - bytes;
  };
  for (const DType type : {DType::f32, DType::bf16}) {
    std::uint64_t before = std::numeric_limits<std::uint64_t>::max();
    for (const auto recompute : {Recompute::none, Recompute::selective, Recompute::block}) {
      StageOptions with = options(type, recompute);
      const auto whole = kept(with);
      with.sequence_parallel = true;
      const auto shared = kept(with);
      EXPECT_LT(whole, before);
      EXPECT_TRUE(test::ranks() == 1 || shared < whole);
      before = whole;
    }
  }
}

/// As 1F1B runs them.
TEST_P(Gradients, DoNotDependOnMicroBatchesThatWait) {
  const auto model = make(options(DType::f32, Recompute::none, 2)), other = make(options());
  for (const auto& sequence : reference.sequences) other->pass(packed({sequence}));
  const Exec& exec = model->exec;
  for (int slot : {0, 1}) {
    model->stage->begin(exec, slot, packed({reference.sequences[static_cast<std::size_t>(slot)]}));
    model->stage->forward(exec, slot);
  }
  for (int slot : {0, 1}) model->stage->backward(exec, slot, {});
  if (!files.spec.tied_embeddings) {
    EXPECT_EQ(model->flat(), other->flat());
  } else {  // the head's and the embedding's parts of one gradient come in another order
    model->sum_shared();
    other->sum_shared();
    test::expect_close(model->whole(), other->whole(), 1e-6);
  }
}

TEST_P(Gradients, OfTwoStagesAreThoseOfOne) {
  const Index layers = files.spec.layer_count();
  const auto whole = make(options());
  const auto batch = packed(reference.sequences);
  const double loss = whole->pass(batch);
  const auto first = make({0, layers / 2}, options()), last = make({layers / 2, layers}, options());
  EXPECT_EQ(test::pass_through(*first, *last, batch), loss);
  EXPECT_EQ(first->stage->take_loss(), 0);
  if (files.spec.tied_embeddings) test::tie(*first, *last);
  whole->sum_shared();
  test::expect_close(test::sum_of(*first, *last), whole->whole(), 1e-6);
}

/// A second witness. Along a gradient of length n the loss rises by n; single elements have their own.
TEST_P(Gradients, AreCentralDifferencesOfTheLoss) {
  // One rank and four models, which have every mechanism between them, are enough.
  if (test::ranks() > 1 || !std::set<std::string>{"bloom", "gemma2", "qwen2_moe", "qwen3"}.contains(GetParam())) return;
  const auto model = make(options());
  const auto batch = packed(reference.sequences);
  const double loss = model->pass(batch);
  const auto gradients = model->flat(), weights = test::on_host(model->weights.memory);
  const auto set = [&](const std::vector<float>& values) {
    Kokkos::deep_copy(model->weights.flat(), test::HostView<const float>(values.data(), values.size()));
  };
  double largest = 0;
  for (const float g : gradients) largest = std::max(largest, std::abs(double{g}));
  int compared = 0;
  for (std::size_t t = 0; t < model->where->tensors().size(); ++t) {
    const auto& tensor = model->where->tensors()[t];
    std::vector<std::size_t> places;
    for (const grist::Run& run : model->where->runs(t))
      for (Index c = 0; c < run.columns; ++c) places.push_back(static_cast<std::size_t>(run.offset + c * run.stride));
    const auto slope = [&](const std::vector<float>& direction, double step) {
      auto moved = weights;
      double side[2];
      for (const int sign : {0, 1}) {
        for (const std::size_t i : places)
          moved[i] = static_cast<float>(double{weights[i]} + (sign == 0 ? -step : step) * double{direction[i]});
        set(moved);
        side[sign] = model->loss(batch);
      }
      return (side[1] - side[0]) / (2 * step);
    };
    double squares = 0;
    for (const std::size_t i : places) squares += double{gradients[i]} * double{gradients[i]};
    const double norm = std::sqrt(squares);
    // A float loss has an error of some 1e-7 of itself, which the step divides.
    const double step = 2e-3, noise = 4e-7 * loss / step;
    if (norm > 100 * noise) {
      std::vector<float> direction(gradients.size());
      for (const std::size_t i : places) direction[i] = static_cast<float>(double{gradients[i]} / norm);
      EXPECT_NEAR(slope(direction, step), norm, 0.02 * norm + noise) << tensor.name;
      ++compared;
    }
    for (const std::size_t i : {std::size_t{0}, places.size() / 3, places.size() - 1}) {
      std::vector<float> direction(gradients.size());
      direction[places[i]] = 1;
      EXPECT_NEAR(slope(direction, step), gradients[places[i]], 0.02 * std::abs(gradients[places[i]]) + noise)
          << tensor.name << " [" << i << "]";
    }
  }
  set(weights);
  EXPECT_GT(compared, 10);
}

TEST(Stage, RefusesBatchesThatItCannotTrainOn) {
  const auto files = open_model(test::data_file("tiny/gpt2"));
  const auto table = tensor_table(files.spec, files.names);
  const ProcessGrid alone(comm_self(), {});
  const int vocab_size = static_cast<int>(files.spec.vocab_size),
            positions = static_cast<int>(files.spec.learned_positions);
  StageOptions options{.limits = {.tokens = positions + 1, .sequences = 2}};
  const auto make = [&] {
    return std::make_unique<StageModel>(files.spec, table, alone, Range{0, files.spec.layer_count()}, options,
                                        [](StageModel&) {});
  };
  const auto model = make();
  const auto begin = [&](train::MicroBatch batch) {
    return [&, batch] { model->stage->begin(model->exec, 0, batch); };
  };
  using test::Refuses;
  const std::vector<int> many(static_cast<std::size_t>(positions + 1), 1), more(many.size() + 1, 1);
  EXPECT_THAT(begin({{1, vocab_size}, {1, 2}, {0}}), Refuses({std::to_string(vocab_size)}));
  EXPECT_THAT(begin({{1, 2}, {1, vocab_size}, {0}}), Refuses({"target", std::to_string(vocab_size)}));
  EXPECT_THAT(begin({{1, 2}, {1, -2}, {0}}), Refuses({"target -2"}));
  EXPECT_THAT(begin({many, many, {0}}), Refuses({std::to_string(positions + 1), "positions"}));
  EXPECT_THAT(begin({{1, 2}, {1}, {0}}), Refuses<ShapeError>({"1 targets", "2 tokens"}));
  for (const auto& begins : std::vector<std::vector<int>>{{}, {1}, {0, 2}, {0, 0}, {0, 1, 1}})
    EXPECT_THAT(begin({{1, 2}, {1, 2}, begins}), Refuses<ShapeError>({"beginnings"}));
  EXPECT_THAT(begin({more, more, {0, 2}}), Refuses<ShapeError>({std::to_string(more.size() - 2), "fit"}));
  begin({many, many, {0, 2}})();
  options.type = DType::f16;
  EXPECT_THAT(make, Refuses<UsageError>({"f16"}));
}

/// Those whose heads can be split over the ranks of this test.
std::vector<std::string> models() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(test::data_file("train/gradients"))) {
    if (entry.path().extension() != ".json") continue;
    const std::string name = entry.path().stem();
    try {
      (void)shard_of(read_spec(test::data_file("tiny/" + name)).spec, test::ranks(), 0);
      names.push_back(name);
    } catch (const UsageError&) {
    }
  }
  std::ranges::sort(names);
  return names;
}
INSTANTIATE_TEST_SUITE_P(Tiny, Gradients, testing::ValuesIn(models()), [](const auto& of) { return of.param; });

}  // namespace
