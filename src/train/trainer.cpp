#include <grist/train/trainer.hpp>

#include <grist/core/clock.hpp>
#include <grist/core/errors.hpp>
#include <grist/core/staging.hpp>
#include <grist/train/trainer_state.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>

namespace grist::train {
namespace {

using Clock = std::chrono::steady_clock;

/// One panel for each tensor: matrices as X, norms and biases in float.
template <class X>
Weight weight_of(const TensorRow& row, View3<float> block, const X* matrix) {
  if (row.vector) return Weight(View2<const float>(block.data(), block.size(), 1));
  Weight weight(static_cast<Index>(block.extent(2)), static_cast<Index>(block.extent(0)));
  weight.add({format_of(dtype_of<X>), static_cast<Index>(block.extent(1)), matrix});
  return weight;
}

}  // namespace

Trainer::State::State(const Exec& exec, const ModelFiles& files, const ProcessGrid& grid_,
                      const TrainerOptions& options_, std::string_view provider, std::uint64_t seed)
    : spec(files.spec),
      table(tensor_table(files.spec, files.names)),
      grid(grid_),
      options(options_),
      chunks(chunks_of(options_, grid_.layout())),
      shards(shards_of(spec, grid_.layout().tp, RowParallel::reduce)),
      ranges(ranges_of(spec, grid_.layout(), grid_.pp().rank(), chunks)),
      actions(actions_of(options_, grid_.layout(), grid_.pp().rank(), chunks)),
      products(provider),
      ends(grid_.pp().split(embeds() || projects() ? 0 : 1, grid_.pp().rank())),
      weights(make_blocks(table, ranges, shard(), grid_.layout().dp)),
      gradients(make_blocks(table, ranges, shard(), grid_.layout().dp)),
      places(places_of(table, ranges, shard(), gradients)),
      sums(grid_.dp(), grid_.dp().split_by_node(), gradients.flat(), options_.zero),
      where(table, ranges, shards, grid_.tp().rank(), weights),
      balance(spec, options_, grid_.layout(), chunks) {
  const Index size = weights.memory.size(), dp = grid.layout().dp;
  mine = options.zero ? Range{size / dp * grid.dp().rank(), size / dp * (grid.dp().rank() + 1)} : Range{0, size};
  for (auto* moments : {&m, &v}) {
    if (moments == &v && options.optimizer == Optimizer::sgd) continue;
    *moments = {"moments", mine.size()};
    Kokkos::deep_copy(moments->view(), 0.0F);
  }
  if (options.type == DType::bf16) copy = {"weights in bf16", size};
  for (const Range layers : ranges) {
    if (files.weights.tensors().empty())
      initialize_blocks(weights, files, table, layers, shard(), seed);
    else
      load_blocks(weights, files, table, layers, shard());
  }
  for (const Range layers : ranges)
    shared.emplace_back(grid.tp(), shards, table, layers, gradients.tensors, options.sequence_parallel);
  compute.layers.resize(table.layers.size());
  const auto compute_with = [&](const TensorRow& row, const View3<float>& block, Weight& weight) {
    if (block.size() != 0) weight = compute_weight(row, block);
  };
  each_first_tensor(compute_with, table, weights.tensors, compute);
  for (std::size_t layer = 0; layer < table.layers.size(); ++layer)
    each_tensor(compute_with, table.layers[layer], weights.tensors.layers[layer], compute.layers[layer]);
  each_last_tensor(compute_with, table, weights.tensors, compute);
  for (int c = 0; c < chunks; ++c)
    stages.push_back(make_stage(spec, shards, ranges[static_cast<std::size_t>(c)], grid, products, compute,
                                gradients.tensors, stage_options(spec, options, slots_of(actions, c))));
  pieces = pieces_of(table, ranges, shards, grid.tp().rank(), weights, grid.layout().pp > 1);
  Index most = 0;
  for (const Piece& piece : pieces) most = std::max(most, piece.size);
  scratch = {"scratch of norms", norm_scratch(most)};
  squares = {"squares", 2 * static_cast<Index>(pieces.size())};
  loaded(exec);
}

Weight Trainer::State::compute_weight(const TensorRow& row, View3<float> block) {
  if (options.type == DType::f32) return weight_of<float>(row, block, block.data());
  return weight_of<bf16>(row, block, copy.data() + (block.data() - weights.memory.data()));
}

void Trainer::State::loaded(const Exec& exec) {
  if (options.type == DType::bf16) round_all(exec, as_const(weights.flat()), copy.view());
  exec.fence("grist::train: weights are there");
}

Trainer::Trainer(const Exec& exec, const ModelFiles& files, const ProcessGrid& grid, const TrainerOptions& options,
                 std::string_view products, std::uint64_t seed)
    : state_(std::make_unique<State>(exec, files, grid, options, products, seed)) {}
Trainer::~Trainer() = default;

StepResult Trainer::step(const Exec& exec, Index step, const MicroBatches& batches, Trace* trace) {
  State& s = *state_;
  StepResult result;
  Kokkos::deep_copy(exec, s.gradients.flat(), 0.0F);
  double loss = s.run_passes(exec, batches, result.spent, trace, result.tokens);
  const auto done = Clock::now();
  std::optional<Kokkos::Profiling::ScopedRegion> region(std::in_place, "grist::train::communication");
  if (s.grid.pp().size() > 1) {
    s.grid.pp().barrier();  // a stage that is done waits for the others: that is the pipeline's bubble, too
    result.spent.bubble += seconds_since(done);
  }
  const auto begin = Clock::now();
  s.grid.pp().broadcast(&loss, 1, s.grid.pp().size() - 1);
  loss = s.grid.dp().all_reduce(loss);
  result.tokens = s.grid.dp().all_reduce(result.tokens);
  s.sum_gradients(exec);
  std::string broken;
  const double norm = s.gradient_norm(exec, broken), tokens = static_cast<double>(result.tokens);
  region.reset();
  result.spent.communication += seconds_since(begin);
  if (trace != nullptr) trace->add(Lane::communication, "sum gradients", begin, Clock::now());
  result.loss = loss / tokens;
  if (s.balance.factor > 0) result.router_loss = s.router_loss();
  result.gradient_norm = norm / tokens;
  result.skipped = !std::isfinite(result.loss) || !std::isfinite(norm);  // also where no token counts: 0 / 0
  if (result.skipped) {
    if (++s.skipped > s.options.max_skipped)
      throw NumericalError("step {}: {} steps in a row had a loss or gradient that is not finite, the last one in {}",
                           step, s.skipped,
                           result.tokens == 0 ? "the loss of no token: all targets were masked"
                                              : first_named(s.grid.world(), broken));
    return result;
  }
  s.skipped = 0;
  if (s.options.check_replicas) check_replicas(exec);  // of gradients: LAMB writes its directions over them
  // As torch.nn.utils.clip_grad_norm_ has it.
  const double clip = s.options.clip > 0 ? std::min(1.0, s.options.clip / (result.gradient_norm + 1e-6)) : 1.0;
  const auto optimizer_begin = Clock::now();
  region.emplace("grist::train::optimizer");
  s.update(exec, step, clip / tokens);
  exec.fence("grist::train: weights are updated");
  if (s.options.check_replicas) check_replicas(exec);
  result.spent.compute += seconds_since(optimizer_begin);
  if (trace != nullptr) trace->add(Lane::compute, "optimizer", optimizer_begin, Clock::now());
  return result;
}

std::optional<double> Trainer::evaluate(const Exec& exec, int count, const MicroBatches& batches,
                                        const std::function<bool()>& stop) {
  State& s = *state_;
  const Communicator& pp = s.grid.pp();
  Index tokens = 0;
  for (int i = 0; i < count; ++i) {
    // Asked at each, stages would wait for each other.
    if (stop && i % pp.size() == 0 && stop()) {
      for (const auto& stage : s.stages) stage->take_loss();
      return std::nullopt;
    }
    const MicroBatch batch = batches(i);
    if (batch.ids.empty()) continue;
    tokens += std::ranges::count_if(batch.targets, [](int target) { return target >= 0; });
    s.each_stage(exec, batch, [&](Stage& stage) { stage.evaluate(exec, 0); });
  }
  double loss = 0;
  for (const auto& stage : s.stages) loss += stage->take_loss();
  pp.broadcast(&loss, 1, pp.size() - 1);
  return s.grid.dp().all_reduce(loss) / static_cast<double>(std::max<Index>(1, s.grid.dp().all_reduce(tokens)));
}

const CheckpointLayout& Trainer::layout() const { return state_->where; }

std::vector<TensorGroup> Trainer::groups() const {
  const State& s = *state_;
  std::vector<TensorGroup> groups{{"model", s.weights.flat(), 0}, {"optimizer/m", s.m.view(), s.mine.begin}};
  if (s.options.optimizer != Optimizer::sgd) groups.push_back({"optimizer/v", s.v.view(), s.mine.begin});
  return groups;
}

View1<float> Trainer::gradients() const { return state_->gradient(state_->mine); }

void Trainer::loaded(const Exec& exec, Index updates) {
  state_->loaded(exec);
  state_->updates = updates;
}

Index Trainer::updates() const { return state_->updates; }

Index Trainer::parameters() const { return parameter_count(state_->spec); }

std::uint64_t Trainer::bytes() const {
  const State& s = *state_;
  std::uint64_t bytes = 4 * static_cast<std::uint64_t>(s.weights.memory.size() + s.gradients.memory.size() +
                                                       s.m.size() + s.v.size()) +
                        2 * static_cast<std::uint64_t>(s.copy.size());
  for (const auto& stage : s.stages) bytes += stage->bytes();
  return bytes + s.sums.bytes();
}

}  // namespace grist::train
