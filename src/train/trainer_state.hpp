// What a Trainer holds: the parts of its passes (trainer.cpp) and of its updates (trainer_update.cpp) share it.
#pragma once

#include <grist/model/model_parts.hpp>
#include <grist/train/gradient_sums.hpp>
#include <grist/train/shared_gradients.hpp>
#include <grist/train/trainer.hpp>
#include <grist/train/trainer_plan.hpp>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace grist::train {

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
                             const std::vector<Shard>& shards, int tp_rank, TensorBlocks& blocks, bool pipelined);

/// Where the tensors of a chunk lie in the flat array: its first ones, each layer's, its last ones.
struct FlatRanges {
  Range first;
  std::vector<Range> layers;
  Range last;
};

std::vector<FlatRanges> places_of(const TensorTable& table, const std::vector<Range>& ranges, const Shard& shard,
                                  TensorBlocks& blocks);

/// What the first rank says that says something; "the loss" where none does. Collective.
std::string first_named(const Communicator& world, const std::string& name);

/// Enqueues to = from, rounded.
template <class From, class To>
void round_all(const Exec& exec, View1<const From> from, View1<To> to) {
  Kokkos::parallel_for(
      "grist::train::round", Indices<Exec>(exec, 0, static_cast<Index>(from.size())),
      KOKKOS_LAMBDA(Index i) { to(i) = To(from(i)); });
}

/// The routers' load-balancing loss of a step (docs/decisions/2026-11-26-routers-loss.md).
struct RouterBalance {
  RouterBalance(const ModelSpec& spec, const TrainerOptions& options, const Layout& layout, int chunks);

  double factor = 0;         // 0: it is not part of the loss
  Routers routers;
  bool at_once = false;      // forward passes all come before backward ones: they count what is chosen
  Buffer<double> sums;       // [2 experts]
  Buffer<float> all;         // the same over all ranks
};

struct Trainer::State {
  State(const Exec& exec, const ModelFiles& files, const ProcessGrid& grid_, const TrainerOptions& options_,
        std::string_view provider, std::uint64_t seed);

  /// Whether this rank has the embedding's stage, and the head's.
  [[nodiscard]] bool embeds() const { return ranges.front().begin == 0; }
  [[nodiscard]] bool projects() const { return ranges.back().end == spec.layer_count(); }
  [[nodiscard]] const Shard& shard() const { return shards[static_cast<std::size_t>(grid.tp().rank())]; }

  Weight compute_weight(const TensorRow& row, View3<float> block);
  /// What is computed with follows the master weights.
  void loaded(const Exec& exec);

  /// The place in `pieces` of a tied matrix that both the embedding's stage and the head's hold, where this is one of
  /// them and not both.
  [[nodiscard]] std::optional<std::size_t> tied_piece() const {
    if (!table.head.tied || embeds() == projects()) return std::nullopt;
    const auto& block = embeds() ? weights.tensors.embedding : weights.tensors.head;
    return std::ranges::find(pieces, block.data() - weights.memory.data(), &Piece::first) - pieces.begin();
  }

  /// What of a piece this rank updates.
  [[nodiscard]] Range part_of(const Piece& piece) const {
    const Index begin = std::max(piece.first, mine.begin), end = std::min(piece.first + piece.size, mine.end);
    return {begin, std::max(begin, end)};
  }

  /// What an optimizer takes of a part of the flat array.
  [[nodiscard]] OptimizerRange range_of(Range part) const;
  /// The gradient that this rank updates with, by place in the flat array.
  [[nodiscard]] View1<float> gradient(Range part) const {
    return View1<float>(gradients.memory.data() + part.begin, part.size());
  }

  /// pass(stage) for each chunk of layers, without a backward pass: x goes from stage to stage.
  template <class Pass>
  void each_stage(const Exec& exec, const MicroBatch& batch, Pass&& pass) {
    const Communicator& pp = grid.pp();
    for (const auto& stage : stages) {
      stage->begin(exec, 0, batch);
      if (!stage->first()) pp.recv(exec, flat(stage->x(0)), peer_of(Action::recv_x, pp.rank(), pp.size()));
      pass(*stage);
      if (!stage->last()) pp.send(exec, as_const(flat(stage->x(0))), peer_of(Action::send_y, pp.rank(), pp.size()));
    }
  }

  /// Whether the gradients of the last tensors are complete with the last forward pass: no other rank has a part.
  [[nodiscard]] bool sums_last_early() const { return !table.head.tied && !options.sequence_parallel; }

  class Passes;
  double run_passes(const Exec& exec, const MicroBatches& batches, StepSeconds& spent, Trace* trace, Index& counted);
  /// Waits for the gradients' sums over all ranks that hold their tensors, which began with the last backward pass.
  void sum_gradients(const Exec& exec);
  void route_step(const Exec& exec, const std::vector<MicroBatch>& batches);
  void count_choices();
  void sum_choices(const Exec& exec, Index counted);
  [[nodiscard]] double router_loss() const;
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
  std::vector<FlatRanges> places;  // of each chunk
  GradientSums sums;               // over dp
  std::vector<SharedGradients> shared;  // of each chunk
  CheckpointLayout where;
  Range mine;  // of the flat arrays: what this rank updates
  Buffer<float> m, v;
  Buffer<bf16> copy;
  ModelTensors<Weight> compute;
  std::vector<std::unique_ptr<Stage>> stages;
  std::vector<Piece> pieces;
  Buffer<double> scratch, squares;
  RouterBalance balance;
  Index updates = 0, skipped = 0;
};

}  // namespace grist::train
