#include <grist/train/trainer.hpp>

#include <grist/core/errors.hpp>
#include <grist/core/philox.hpp>
#include <grist/core/staging.hpp>
#include <grist/model/model_parts.hpp>
#include <grist/train/shared_gradients.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <format>
#include <map>
#include <span>

namespace grist::train {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

/// A run of the flat array with one owner and one rule of decay: a tensor, or q, k or v of a fused one.
struct Piece {
  std::string name;
  Index first, size;
  bool decay;
  bool owned;                 // counted in norms of the whole model
  bool first_replica;         // of tp: counted in norms of the tensor
  std::vector<int> replicas;  // ranks of tp that hold it
};

std::vector<Piece> pieces_of(const TensorTable& table, const std::vector<Range>& ranges,
                             const std::vector<Shard>& shards, int tp_rank, TensorBlocks& blocks, bool pipelined) {
  std::vector<Piece> pieces;
  const Shard& shard = shards[static_cast<std::size_t>(tp_rank)];
  for (const Range layers : ranges) {
    each_block(table, layers, shard, blocks.tensors,
               [&](const TensorRow& row, Index layer, const LayerShard* inside, View3<float>& block) {
                 const Index first = block.data() - blocks.memory.data(), columns = block.extent(2);
                 // The embedding's stage owns a tied head.
                 const bool here = !(row.tied && pipelined);
                 const auto add = [&](const TensorPart& part, Index begin, Index size) {
                   auto replicas = replicas_of(row, part, shards, layer, tp_rank);
                   const bool owner = replicas.front() == tp_rank;
                   const std::string name =
                       part.sources.empty() ? "a bias that no file has" : with_number(part.sources.front().tensor, 0);
                   pieces.push_back({name, first + begin, size, row.decay, here && owner, owner, std::move(replicas)});
                 };
                 if (row.experts > 1) return add(row.parts.front(), 0, static_cast<Index>(block.size()));
                 Index begin = 0;
                 for (const auto& part : row.parts) {
                   const Index size = slice_of(row, part, shard, inside).rows * columns;
                   add(part, begin, size);
                   begin += size;
                 }
               });
  }
  return pieces;
}

/// One panel for each tensor: matrices as X, norms and biases in float.
template <class X>
Weight weight_of(const TensorRow& row, View3<float> block, const X* matrix) {
  if (row.vector) return Weight(View2<const float>(block.data(), block.size(), 1));
  Weight weight(static_cast<Index>(block.extent(2)), static_cast<Index>(block.extent(0)));
  weight.add({format_of(dtype_of<X>), static_cast<Index>(block.extent(1)), matrix});
  return weight;
}

void round_all(const Exec& exec, View1<const float> from, View1<bf16> to) {
  Kokkos::parallel_for(
      "grist::train::round", Indices<Exec>(exec, 0, from.size()), KOKKOS_LAMBDA(Index i) { to(i) = bf16(from(i)); });
}

/// Layers of this rank's chunks: chunk c of stage s is virtual stage c stages + s.
std::vector<Range> ranges_of(const ModelSpec& spec, const Layout& layout, int pp_rank, int chunks) {
  const auto stages = stages_of(spec, layout.pp * chunks);
  std::vector<Range> ranges;
  for (int c = 0; c < chunks; ++c) ranges.push_back(stages[static_cast<std::size_t>(c * layout.pp + pp_rank)]);
  return ranges;
}

int chunks_of(const TrainerOptions& options, const Layout& layout) {
  return options.pipeline == Pipeline::interleaved && layout.pp > 1 ? options.chunks : 1;
}

std::vector<Action> actions_of(const TrainerOptions& options, const Layout& layout, int pp_rank, int chunks) {
  const auto kind = chunks == 1 && options.pipeline == Pipeline::interleaved ? Pipeline::one_f_one_b : options.pipeline;
  return pipeline_actions(kind, pp_rank, layout.pp, chunks, options.micro_batches);
}

StageOptions stage_options(const TrainerOptions& options, int slots) {
  const Index tokens = options.sequence * options.micro_batch;
  return {.type = options.type,
          .recompute = options.recompute,
          .limits = {.tokens = tokens,
                     .sequences = static_cast<int>(options.micro_batch) * options.documents,
                     .slots = slots,
                     .logit_rows = std::min<Index>(tokens, 256)}};
}

/// The most micro-batches of a chunk that are under way at once, from what is received for them on.
int slots_of(const std::vector<Action>& actions, int chunk) {
  std::map<int, bool> under_way;
  std::size_t most = 0;
  for (const Action& action : actions) {
    if (action.chunk != chunk) continue;
    if (action.kind == Action::recv_x || action.kind == Action::forward) under_way[action.micro_batch] = true;
    most = std::max(most, under_way.size());
    const bool sends = std::ranges::any_of(actions, [&](const Action& a) {
      return a.kind == Action::send_dx && a.micro_batch == action.micro_batch && a.chunk == chunk;
    });
    if (action.kind == (sends ? Action::send_dx : Action::backward)) under_way.erase(action.micro_batch);
  }
  return static_cast<int>(most);
}

/// What the first rank says that says something; "the loss" where none does.
std::string first_named(const Communicator& world, const std::string& name) {
  const Index best = world.all_reduce(Index{name.empty() ? 0 : world.size() - world.rank()}, Reduction::max);
  if (best == 0) return "the loss";
  const int root = world.size() - static_cast<int>(best);
  int size = static_cast<int>(name.size());
  world.broadcast(&size, 1, root);
  std::vector<int> letters(name.begin(), name.end());
  letters.resize(static_cast<std::size_t>(size));
  world.broadcast(letters.data(), size, root);
  return {letters.begin(), letters.end()};
}

}  // namespace

struct Trainer::State {
  State(const Exec& exec, const ModelFiles& files, const ProcessGrid& grid_, const TrainerOptions& options_,
        std::string_view provider, std::uint64_t seed)
      : spec(files.spec),
        table(tensor_table(files.spec, files.names)),
        grid(grid_),
        options(options_),
        chunks(chunks_of(options_, grid_.layout())),
        shards(shards_of(spec, grid_.layout().tp, RowParallel::reduce)),
        ranges(ranges_of(spec, grid_.layout(), grid_.pp().rank(), chunks)),
        actions(actions_of(options_, grid_.layout(), grid_.pp().rank(), chunks)),
        products(provider),
        ends(grid_.pp().split(ranges.front().begin == 0 || ranges.back().end == spec.layer_count() ? 0 : 1,
                              grid_.pp().rank())),
        weights(make_blocks(table, ranges, shard(), grid_.layout().dp)),
        gradients(make_blocks(table, ranges, shard(), grid_.layout().dp)),
        where(table, ranges, shards, grid_.tp().rank(), weights) {
    const Index size = weights.memory.size(), dp = grid.layout().dp;
    mine = options.zero ? Range{size / dp * grid.dp().rank(), size / dp * (grid.dp().rank() + 1)} : Range{0, size};
    for (auto* moments : {&m, &v}) {
      if (moments == &v && options.optimizer == Optimizer::sgd) continue;
      *moments = {"moments", mine.size()};
      Kokkos::deep_copy(moments->view(), 0.0F);
    }
    if (options.zero) share = {"share of the gradient", mine.size()};
    if (options.type == DType::bf16) copy = {"weights in bf16", size};
    for (const Range layers : ranges) {
      if (files.weights.tensors().empty())
        initialize_blocks(weights, files, table, layers, shard(), seed);
      else
        load_blocks(weights, files, table, layers, shard());
    }
    for (const Range layers : ranges) shared.emplace_back(grid.tp(), shards, table, layers, gradients.tensors);
    compute.layers.resize(table.layers.size());
    for (const Range layers : ranges)
      each_block(table, layers, shard(), compute, [&](const TensorRow& row, Index layer, const LayerShard*, Weight& w) {
        w = compute_weight(row, *block_of(row, layer));
      });
    if (table.head.tied && ranges.front().begin == 0 && ranges.back().end == spec.layer_count())
      compute.head = compute.embedding;
    for (int c = 0; c < chunks; ++c)
      stages.push_back(make_stage(spec, shards, ranges[static_cast<std::size_t>(c)], grid, products, compute,
                                  gradients.tensors, stage_options(options, slots_of(actions, c))));
    pieces = pieces_of(table, ranges, shards, grid.tp().rank(), weights, grid.layout().pp > 1);
    Index most = 0;
    for (const Piece& piece : pieces) most = std::max(most, piece.size);
    scratch = {"scratch of norms", norm_scratch(most)};
    squares = {"squares", 2 * static_cast<Index>(pieces.size())};
    loaded(exec);
  }

  [[nodiscard]] const Shard& shard() const { return shards[static_cast<std::size_t>(grid.tp().rank())]; }

  /// The block of weights that a row of the table has.
  const View3<float>* block_of(const TensorRow& wanted, Index layer) {
    const View3<float>* found = nullptr;
    const auto look = [&](const TensorRow& row, const View3<float>& block) {
      if (&row == &wanted) found = &block;
    };
    if (layer >= 0) {
      each_tensor(look, table.layers[static_cast<std::size_t>(layer)],
                  weights.tensors.layers[static_cast<std::size_t>(layer)]);
    } else {
      each_first_tensor(look, table, weights.tensors);
      each_last_tensor(look, table, weights.tensors);
    }
    return found;
  }

  Weight compute_weight(const TensorRow& row, View3<float> block) {
    if (options.type == DType::f32) return weight_of<float>(row, block, block.data());
    return weight_of<bf16>(row, block, copy.data() + (block.data() - weights.memory.data()));
  }

  void loaded(const Exec& exec) {
    if (options.type == DType::bf16) round_all(exec, as_const(weights.flat()), copy.view());
    exec.fence("grist::train: weights are there");
  }

  /// What of a piece this rank updates.
  [[nodiscard]] Range part_of(const Piece& piece) const {
    const Index begin = std::max(piece.first, mine.begin), end = std::min(piece.first + piece.size, mine.end);
    return {begin, std::max(begin, end)};
  }

  /// The gradient that this rank updates with, by place in the flat array.
  [[nodiscard]] OptimizerRange range_of(Range part) const;
  [[nodiscard]] View1<float> gradient(Range part) const {
    float* const data = options.zero ? share.data() - mine.begin : gradients.memory.data();
    return View1<float>(data + part.begin, part.size());
  }

  double run_passes(const Exec& exec, const MicroBatches& batches, StepSeconds& spent, Trace* trace, Index& counted);
  void sum_gradients(const Exec& exec);
  double gradient_norm(const Exec& exec, std::string& broken);
  void update(const Exec& exec, Index step, double scale);
  void lamb(const Exec& exec, const Update& update);

  const ModelSpec spec;
  const TensorTable table;
  const ProcessGrid& grid;
  const TrainerOptions options;
  const int chunks;
  const std::vector<Shard> shards;
  const std::vector<Range> ranges;
  const std::vector<Action> actions;
  Products products;
  Communicator ends;  // first and last stage: those that hold a tied matrix
  TensorBlocks weights, gradients;
  std::vector<SharedGradients> shared;  // of each chunk
  CheckpointLayout where;
  Range mine;  // of the flat arrays: what this rank updates
  Buffer<float> m, v, share;
  Buffer<bf16> copy;
  ModelTensors<Weight> compute;
  std::vector<std::unique_ptr<Stage>> stages;
  std::vector<Piece> pieces;
  Buffer<double> scratch, squares;
  Index updates = 0, skipped = 0;
};

/// Walks the pipeline's actions. Returns the sum of this rank's losses.
double Trainer::State::run_passes(const Exec& exec, const MicroBatches& batches, StepSeconds& spent, Trace* trace,
                                  Index& counted) {
  std::vector<MicroBatch> held(static_cast<std::size_t>(options.micro_batches));
  const auto data_begin = Clock::now();
  for (int i = 0; i < options.micro_batches; ++i) {
    held[static_cast<std::size_t>(i)] = batches(i);
    counted += std::ranges::count_if(held[static_cast<std::size_t>(i)].targets, [](int target) { return target >= 0; });
  }
  spent.data += seconds_since(data_begin);
  std::vector<std::map<int, int>> slot_of(static_cast<std::size_t>(chunks));
  const auto slot = [&](const Action& action) {
    auto& slots = slot_of[static_cast<std::size_t>(action.chunk)];
    if (const auto found = slots.find(action.micro_batch); found != slots.end()) return found->second;
    int free = 0;
    while (std::ranges::any_of(slots, [&](const auto& s) { return s.second == free; })) ++free;
    slots.emplace(action.micro_batch, free);
    const MicroBatch& batch = held[static_cast<std::size_t>(action.micro_batch)];
    stages[static_cast<std::size_t>(action.chunk)]->begin(exec, free, batch);
    return free;
  };
  const Communicator& pp = grid.pp();
  const int stages_count = pp.size();
  for (const Action& action : actions) {
    Stage& stage = *stages[static_cast<std::size_t>(action.chunk)];
    const int at = slot(action);
    const int peer = peer_of(action.kind, pp.rank(), stages_count);
    const auto begin = Clock::now();
    const char* name = "";
    bool passes = false, ends_here = false;
    switch (action.kind) {
      case Action::forward:
        stage.forward(exec, at), name = "forward", passes = true;
        break;
      case Action::backward:
        stage.backward(exec, at), name = "backward", passes = true;
        ends_here = stage.first();
        break;
      case Action::recv_x:
        pp.recv(exec, flat(stage.x(at)), peer), name = "receive x";
        break;
      case Action::send_y:
        pp.send(exec, as_const(flat(stage.x(at))), peer), name = "send y";
        break;
      case Action::recv_dy:
        pp.recv(exec, flat(stage.dx(at)), peer), name = "receive dy";
        break;
      case Action::send_dx:
        pp.send(exec, as_const(flat(stage.dx(at))), peer), name = "send dx";
        ends_here = true;
        break;
    }
    if (passes) exec.fence("grist::train: a pass has ended");
    (passes ? spent.compute : spent.bubble) += seconds_since(begin);
    if (trace != nullptr)
      trace->add(passes ? Lane::compute : Lane::communication, name, begin, Clock::now(),
                 std::format("micro-batch {}, chunk {}", action.micro_batch, action.chunk));
    if (ends_here) slot_of[static_cast<std::size_t>(action.chunk)].erase(action.micro_batch);
  }
  double loss = 0;
  for (const auto& stage : stages) loss += stage->take_loss();
  return loss;
}

/// Each gradient becomes the sum over all ranks that hold its tensor.
void Trainer::State::sum_gradients(const Exec& exec) {
  for (const auto& layers : shared) layers.sum(exec);
  if (table.head.tied && grid.pp().size() > 1) {
    if (ranges.front().begin == 0)
      ends.all_reduce(exec, View1<float>(gradients.tensors.embedding.data(), gradients.tensors.embedding.size()));
    else if (ranges.back().end == spec.layer_count())
      ends.all_reduce(exec, View1<float>(gradients.tensors.head.data(), gradients.tensors.head.size()));
  }
  if (options.zero)
    grid.dp().reduce_scatter(exec, as_const(gradients.flat()), share.view());
  else
    grid.dp().all_reduce(exec, gradients.flat());
}

/// Of all gradients, each element once. `broken` names a tensor whose gradient is not finite.
double Trainer::State::gradient_norm(const Exec& exec, std::string& broken) {
  Kokkos::deep_copy(exec, squares.view(), 0.0);
  for (std::size_t i = 0; i < pieces.size(); ++i)
    if (const Range part = part_of(pieces[i]); part.size() > 0)
      squared_norm(exec, as_const(gradient(part)), scratch.view(), View1<double>(squares.data() + i, 1));
  exec.fence("grist::train: norms");
  const auto values = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, squares.view());
  double sum = 0;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    if (broken.empty() && !std::isfinite(values(i))) broken = pieces[i].name;
    if (pieces[i].owned) sum += values(i);
  }
  sum = grid.tp().all_reduce(sum);
  sum = grid.pp().all_reduce(sum);
  return std::sqrt(options.zero ? grid.dp().all_reduce(sum) : sum);
}

void Trainer::State::update(const Exec& exec, Index step, double scale) {
  Update update{.step = ++updates, .learning_rate = options.learning_rate.at(step), .gradient_scale = scale};
  if (options.optimizer == Optimizer::lamb) {
    lamb(exec, update);
  } else {
    for (const Piece& piece : pieces) {
      const Range part = part_of(piece);
      if (part.size() == 0) continue;
      update.decay = piece.decay;
      options.optimizer == Optimizer::adamw ? adamw(exec, options.config, update, range_of(part))
                                            : sgd(exec, options.config, update, range_of(part));
    }
  }
  if (!options.zero) return;
  // In place: every rank's share lies where it belongs.
  Kokkos::deep_copy(exec, share.view(), View1<float>(weights.memory.data() + mine.begin, mine.size()));
  grid.dp().all_gather(exec, as_const(share.view()), weights.flat());
  if (copy.size() != 0) round_all(exec, as_const(weights.flat()), copy.view());
}

OptimizerRange Trainer::State::range_of(Range part) const {
  const auto of = [&](const Buffer<float>& buffer, Index at) {
    return buffer.size() == 0 ? View1<float>() : View1<float>(buffer.data() + at, part.size());
  };
  // Under ZeRO-1 the copy follows when all weights are there.
  const bool copies = copy.size() != 0 && !options.zero;
  return {of(weights.memory, part.begin), gradient(part), of(m, part.begin - mine.begin),
          of(v, part.begin - mine.begin), copies ? View1<bf16>(copy.data() + part.begin, part.size()) : View1<bf16>()};
}

void Trainer::State::lamb(const Exec& exec, const Update& given) {
  Update update = given;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    update.decay = pieces[i].decay;
    const View1<double> norms(squares.data() + 2 * i, 2);
    if (part_of(pieces[i]).size() == 0) {
      Kokkos::deep_copy(exec, norms, 0.0);
      continue;
    }
    lamb_direction(exec, options.config, update, range_of(part_of(pieces[i])), scratch.view(), norms);
    if (!pieces[i].first_replica) Kokkos::deep_copy(exec, norms, 0.0);  // another rank counts it
  }
  grid.tp().all_reduce(exec, squares.view());
  if (options.zero) grid.dp().all_reduce(exec, squares.view());
  for (std::size_t i = 0; i < pieces.size(); ++i)
    if (part_of(pieces[i]).size() != 0)
      lamb_apply(exec, update, range_of(part_of(pieces[i])), View1<const double>(squares.data() + 2 * i, 2));
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
  const auto begin = Clock::now();
  s.grid.pp().broadcast(&loss, 1, s.grid.pp().size() - 1);
  loss = s.grid.dp().all_reduce(loss);
  result.tokens = s.grid.dp().all_reduce(result.tokens);
  if (result.tokens == 0) throw InputError("step {}: none of its tokens counts: all targets are masked", step);
  s.sum_gradients(exec);
  std::string broken;
  const double norm = s.gradient_norm(exec, broken), tokens = static_cast<double>(result.tokens);
  result.spent.communication += seconds_since(begin);
  result.loss = loss / tokens;
  result.gradient_norm = norm / tokens;
  result.skipped = !std::isfinite(result.loss) || !std::isfinite(norm);
  if (result.skipped) {
    if (++s.skipped > s.options.max_skipped)
      throw NumericalError("step {}: {} steps in a row had a loss or gradient that is not finite, the last one in {}",
                           step, s.skipped, first_named(s.grid.world(), broken));
    return result;
  }
  s.skipped = 0;
  // As torch.nn.utils.clip_grad_norm_ has it.
  const double clip = s.options.clip > 0 ? std::min(1.0, s.options.clip / (result.gradient_norm + 1e-6)) : 1.0;
  const auto optimizer_begin = Clock::now();
  s.update(exec, step, clip / tokens);
  exec.fence("grist::train: weights are updated");
  if (s.options.check_replicas) check_replicas(exec);
  result.spent.compute += seconds_since(optimizer_begin);
  return result;
}

double Trainer::evaluate(const Exec& exec, int count, const MicroBatches& batches) {
  State& s = *state_;
  const Communicator& pp = s.grid.pp();
  Index tokens = 0;
  for (int i = 0; i < count; ++i) {
    const MicroBatch batch = batches(i);
    tokens += std::ranges::count_if(batch.targets, [](int target) { return target >= 0; });
    for (std::size_t c = 0; c < s.stages.size(); ++c) {
      Stage& stage = *s.stages[c];
      stage.begin(exec, 0, batch);
      if (!stage.first()) pp.recv(exec, flat(stage.x(0)), peer_of(Action::recv_x, pp.rank(), pp.size()));
      stage.evaluate(exec, 0);
      if (!stage.last()) pp.send(exec, as_const(flat(stage.x(0))), peer_of(Action::send_y, pp.rank(), pp.size()));
    }
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

void Trainer::loaded(const Exec& exec, Index updates) {
  state_->loaded(exec);
  state_->updates = updates;
}

Index Trainer::updates() const { return state_->updates; }

void Trainer::check_replicas(const Exec& exec) const {
  const State& s = *state_;
  exec.fence("grist::train: weights to compare");
  const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, s.weights.flat());
  const Communicator &tp = s.grid.tp(), &dp = s.grid.dp();
  std::vector<int> mine;  // two for each piece
  for (const Piece& piece : s.pieces) {
    const auto* const begin = reinterpret_cast<const char*>(host.data() + piece.first);
    const auto hash = hash_name({begin, static_cast<std::size_t>(piece.size) * sizeof(float)});
    mine.push_back(static_cast<int>(hash >> 32)), mine.push_back(static_cast<int>(hash));
  }
  std::string broken;  // all ranks go through all comparisons, so that none waits for one that has thrown
  const auto compare = [&](const Communicator& ranks, int root, const char* axis, auto&& replicated) {
    std::vector<int> others = mine;
    ranks.broadcast(others.data(), static_cast<int>(others.size()), root);
    for (std::size_t i = 0; i < s.pieces.size(); ++i) {
      const bool equal = others[2 * i] == mine[2 * i] && others[2 * i + 1] == mine[2 * i + 1];
      if (equal || !replicated(s.pieces[i]) || !broken.empty()) continue;
      broken = std::format("{}: ranks {} and {} of {} hold other numbers", s.pieces[i].name, root, ranks.rank(), axis);
    }
  };
  compare(dp, 0, "dp", [](const Piece&) { return true; });
  for (int rank = 0; rank < tp.size(); ++rank)
    compare(tp, rank, "tp", [&](const Piece& piece) {
      return std::ranges::find(piece.replicas, rank) != piece.replicas.end();
    });
  // The stages of the embedding and of the head both hold a tied matrix.
  const bool embeds = s.ranges.front().begin == 0, projects = s.ranges.back().end == s.spec.layer_count();
  if (s.table.head.tied && embeds != projects) {
    const auto& block = embeds ? s.weights.tensors.embedding : s.weights.tensors.head;
    const auto tied = std::ranges::find(s.pieces, block.data() - s.weights.memory.data(), &Piece::first);
    const auto at = static_cast<std::size_t>(2 * (tied - s.pieces.begin()));
    int other[] = {mine[at], mine[at + 1]};
    s.ends.broadcast(other, 2, 0);
    if ((other[0] != mine[at] || other[1] != mine[at + 1]) && broken.empty())
      broken = tied->name + ": the first and the last stage hold other numbers";
  }
  const Index wrong = s.grid.world().all_reduce(Index{broken.empty() ? 0 : 1});
  if (wrong > 0) throw InternalError("{}", first_named(s.grid.world(), broken));
}

Index Trainer::parameters() const { return parameter_count(state_->spec); }

std::uint64_t Trainer::bytes() const {
  const State& s = *state_;
  std::uint64_t bytes = 4 * static_cast<std::uint64_t>(s.weights.memory.size() + s.gradients.memory.size() +
                                                       s.m.size() + s.v.size() + s.share.size()) +
                        2 * static_cast<std::uint64_t>(s.copy.size());
  for (const auto& stage : s.stages) bytes += stage->bytes();
  return bytes;
}

std::uint64_t trainer_bytes(const ModelSpec& spec, const TensorNames& names, const Layout& layout, int pp_rank,
                            int tp_rank, const TrainerOptions& options) {
  const int chunks = chunks_of(options, layout);
  const auto shards = shards_of(spec, layout.tp, RowParallel::reduce);
  const auto ranges = ranges_of(spec, layout, pp_rank, chunks);
  const auto actions = actions_of(options, layout, pp_rank, chunks);
  const auto table = tensor_table(spec, names);
  std::uint64_t elements = 0, bytes = 0;
  for (const Range layers : ranges)
    each_row(table, layers, shards[static_cast<std::size_t>(tp_rank)],
             [&](const TensorRow& row, const LayerShard* layer) {
               const auto experts = static_cast<std::uint64_t>(experts_of(row, layer).size());
               for (const auto& part : row.parts) {
                 const auto slice = slice_of(row, part, shards[static_cast<std::size_t>(tp_rank)], layer);
                 elements += experts * static_cast<std::uint64_t>(slice.rows * slice.columns);
               }
             });
  for (int c = 0; c < chunks; ++c)
    bytes += stage_bytes(spec, shards, ranges[static_cast<std::size_t>(c)], tp_rank,
                         stage_options(options, slots_of(actions, c)));
  const auto share = options.zero ? elements / static_cast<std::uint64_t>(layout.dp) : elements;
  return bytes + elements * (options.type == DType::bf16 ? 10 : 8) + share * (options.zero ? 12 : 8);
}

}  // namespace grist::train
