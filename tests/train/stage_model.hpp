// A stage that trains, with weights and gradients of its own, and its gradients as the files of a model order them.
#pragma once

#include <grist/model/model_parts.hpp>
#include <grist/train/checkpoint_layout.hpp>
#include <grist/train/shared_gradients.hpp>
#include <grist/train/stage.hpp>

#include <support/views.hpp>

#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace grist::test {

/// Whole tensors by name, rows one after the other.
using NamedTensors = std::map<std::string, std::vector<float>>;

/// As a stage takes them: vectors in float, matrices as `type`, which may need a copy.
class StageWeights {
public:
  StageWeights(const TensorTable& table, const TensorBlocks& blocks, DType type) {
    if (type == DType::bf16) copy_ = on_device<bf16>(on_host(blocks.memory));
    tensors.layers.resize(table.layers.size());
    const auto add = [&](const TensorRow& row, View3<float> block, Weight& weight) {
      if (block.size() == 0) return;
      const Index experts = block.extent(0), rows = block.extent(1), columns = block.extent(2);
      if (row.vector) {
        weight = Weight(View2<const float>(block.data(), rows, 1));
        return;
      }
      weight = Weight(columns, experts);
      if (type == DType::bf16)
        weight.add({Format::bf16, rows, copy_.data() + (block.data() - blocks.memory.data())});
      else
        weight.add({Format::f32, rows, block.data()});
    };
    each_first_tensor(add, table, blocks.tensors, tensors);
    for (std::size_t l = 0; l < table.layers.size(); ++l)
      each_tensor(add, table.layers[l], blocks.tensors.layers[l], tensors.layers[l]);
    each_last_tensor(add, table, blocks.tensors, tensors);
  }

  ModelTensors<Weight> tensors;

private:
  Buffer<bf16> copy_;
};

/// The routers' loss of one micro-batch; without experts none.
struct RouterFactor {
  explicit RouterFactor(int experts = 0, float factor_ = 0)
      : factor(factor_), sums("sums of routers", 2 * experts), all("the same in float", 2 * experts) {
    Kokkos::deep_copy(sums.view(), 0.0);
  }
  [[nodiscard]] train::RouterLoss loss(const Exec& exec) const {
    exec.fence("grist::test: what routers chose");
    const auto from = sums.view();
    const auto to = all.view();
    Kokkos::parallel_for("grist::test::round", Indices<Exec>(exec, 0, sums.size()),
                         KOKKOS_LAMBDA(Index i) { to(i) = static_cast<float>(from(i)); });
    return {.sums = {}, .all = View2<const float>(all.data(), 2, all.size() / 2), .factor = factor};
  }
  float factor;
  Buffer<double> sums;
  Buffer<float> all;
};

class StageModel {
public:
  /// fill(model) gives values to the weights' blocks.
  template <class Fill>
  StageModel(const ModelSpec& spec, const TensorTable& table, const ProcessGrid& grid, Range layers_,
             const train::StageOptions& options, Fill&& fill)
      : layers(layers_), shards(shards_of(spec, grid.tp().size(), RowParallel::reduce)), grid_(grid) {
    const Shard& mine = shards[static_cast<std::size_t>(grid.tp().rank())];
    weights = make_blocks(table, layers, mine);
    gradients = make_blocks(table, layers, mine);
    where.emplace(table, std::vector{layers}, shards, grid.tp().rank(), gradients);
    fill(*this);
    given_.emplace(table, weights, options.type);
    stage = train::make_stage(spec, shards, layers, grid, products_, given_->tensors, gradients.tensors, options);
    shared.emplace(grid.tp(), shards, table, layers, gradients.tensors, options.sequence_parallel);
  }
  StageModel(const StageModel&) = delete;
  StageModel& operator=(const StageModel&) = delete;

  [[nodiscard]] const Shard& shard() const { return shards[static_cast<std::size_t>(grid_.tp().rank())]; }

  /// Of a whole model: loss and gradients of a micro-batch. The gradients of shared tensors are not yet summed.
  double pass(const train::MicroBatch& batch, const RouterFactor& routers = RouterFactor()) {
    stage->begin(exec, 0, batch);
    stage->balance({.sums = routers.sums.view()});
    stage->forward(exec, 0);
    stage->balance(routers.loss(exec));
    stage->backward(exec, 0, {});
    return stage->take_loss();
  }
  double loss(const train::MicroBatch& batch) {
    stage->begin(exec, 0, batch);
    stage->evaluate(exec, 0);
    return stage->take_loss();
  }

  /// Gradients of what several ranks of tp hold become their sums. Collective over tp.
  void sum_shared() const {
    shared->sum(exec, train::SharedGradients::outside);
    for (Index layer = layers.begin; layer < layers.end; ++layer) shared->sum(exec, layer);
  }

  [[nodiscard]] std::vector<float> flat() const { return on_host(gradients.memory); }
  void zero() const { Kokkos::deep_copy(gradients.flat(), 0.0F); }

  /// The whole model's, each element by its owner among the ranks of tp; zeros of what other stages have. Each rank
  /// that holds a copy must have the owner's bits. Collective over tp.
  [[nodiscard]] NamedTensors whole() const {
    const auto mine = flat();
    std::vector<float> all;
    std::vector<std::size_t> begins{0};
    for (const auto& tensor : where->tensors())
      begins.push_back(begins.back() + static_cast<std::size_t>(elements(tensor)));
    all.resize(begins.back());
    const auto each_element = [&](auto&& f) {
      for (std::size_t t = 0; t < where->tensors().size(); ++t) {
        const auto& shape = where->tensors()[t].shape;
        const Index columns = shape.size() == 1 ? 1 : shape.back();
        for (const Run& run : where->runs(t))
          for (Index c = 0; c < run.columns; ++c)
            f(run.owned, all[begins[t] + static_cast<std::size_t>(run.row * columns + run.column + c)],
              mine[static_cast<std::size_t>(run.offset + c * run.stride)], where->tensors()[t].name);
      }
    };
    each_element([](bool owned, float& whole, float value, const std::string&) {
      if (owned) whole = value;
    });
    const auto device = on_device<float>(all);
    grid_.tp().all_reduce(exec, device.view());
    all = on_host(device);
    std::map<std::string, int> different;
    each_element([&](bool owned, float& whole, float value, const std::string& name) {
      if (!owned && std::memcmp(&whole, &value, sizeof value) != 0) ++different[name];
    });
    for (const auto& [name, count] : different)
      ADD_FAILURE() << name << ": " << count << " elements differ from their owner's";
    NamedTensors named;
    for (std::size_t t = 0; t < where->tensors().size(); ++t)
      named[where->tensors()[t].name].assign(all.begin() + static_cast<std::ptrdiff_t>(begins[t]),
                                             all.begin() + static_cast<std::ptrdiff_t>(begins[t + 1]));
    return named;
  }

  static Index elements(const FileTensor& tensor) {
    Index size = 1;
    for (const Index extent : tensor.shape) size *= extent;
    return size;
  }

  Range layers;
  std::vector<Shard> shards;
  TensorBlocks weights, gradients;
  std::optional<CheckpointLayout> where;
  std::unique_ptr<train::Stage> stage;
  std::optional<train::SharedGradients> shared;
  Exec exec;

private:
  const ProcessGrid& grid_;
  Products products_;
  std::optional<StageWeights> given_;
};

/// Sequences one after the other.
struct Sequence {
  std::vector<int> ids, targets;
};
inline train::MicroBatch packed(const std::vector<Sequence>& sequences) {
  train::MicroBatch batch;
  for (const auto& s : sequences) {
    batch.begins.push_back(static_cast<int>(batch.ids.size()));
    batch.ids.insert(batch.ids.end(), s.ids.begin(), s.ids.end());
    batch.targets.insert(batch.targets.end(), s.targets.begin(), s.targets.end());
  }
  return batch;
}

/// A micro-batch through two stages of a model on this rank; the loss.
inline double pass_through(StageModel& first, StageModel& last, const train::MicroBatch& batch,
                           const RouterFactor& routers = RouterFactor()) {
  const Exec& exec = first.exec;
  for (const auto* model : {&first, &last}) {
    model->stage->begin(exec, 0, batch);
    model->stage->balance({.sums = routers.sums.view()});
  }
  first.stage->forward(exec, 0);
  Kokkos::deep_copy(exec, last.stage->x(0), first.stage->x(0));
  last.stage->forward(exec, 0);
  for (const auto* model : {&first, &last}) model->stage->balance(routers.loss(exec));
  last.stage->backward(exec, 0, {});
  Kokkos::deep_copy(exec, first.stage->dx(0), last.stage->dx(0));
  first.stage->backward(exec, 0, {});
  return last.stage->take_loss();
}

/// The embedding's gradient += that of the head which has the same values; the head's becomes zero.
inline void tie(const StageModel& first, const StageModel& last) {
  const auto head = last.gradients.tensors.head, embedding = first.gradients.tensors.embedding;
  Kokkos::parallel_for("grist::test::tie", Indices<Exec>(first.exec, 0, static_cast<Index>(head.size())),
                       KOKKOS_LAMBDA(Index i) { embedding.data()[i] += head.data()[i], head.data()[i] = 0; });
  first.exec.fence("grist::test: the sum of a tied matrix");
}

/// The gradients of a model in two stages.
inline NamedTensors sum_of(const StageModel& first, const StageModel& last) {
  first.sum_shared();
  last.sum_shared();
  auto sum = first.whole();
  for (const auto& [name, values] : last.whole())
    for (std::size_t i = 0; i < values.size(); ++i) sum.at(name)[i] += values[i];
  return sum;
}

/// |actual - expected| of each tensor within `tolerance` of its largest element, or within rounding of the largest of
/// all where a tensor's gradient is nothing but rounding (queries and keys where one key alone is seen).
inline void expect_close(const NamedTensors& actual, const NamedTensors& expected, double tolerance) {
  const auto largest = [](const std::vector<float>& values) {
    double most = 0;
    for (const float v : values) most = std::max(most, std::abs(static_cast<double>(v)));
    return most;
  };
  double overall = 0;
  for (const auto& [name, values] : expected) overall = std::max(overall, largest(values));
  ASSERT_EQ(actual.size(), expected.size());
  for (const auto& [name, values] : expected) {
    const auto& found = actual.at(name);
    ASSERT_EQ(found.size(), values.size()) << name;
    const double bound = tolerance * largest(values) + 1e-6 * overall;
    std::size_t wrong = 0, first = 0;
    for (std::size_t i = values.size(); i-- > 0;)
      if (!(std::abs(static_cast<double>(found[i]) - values[i]) <= bound)) ++wrong, first = i;
    if (wrong > 0) {
      ADD_FAILURE() << name << ": " << wrong << " of " << values.size() << " elements, first [" << first << "] is "
                    << found[first] << ", expected " << values[first] << " within " << bound;
    }
  }
}

}  // namespace grist::test
