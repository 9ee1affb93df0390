// Forward and backward of one micro-batch over some layers of a model: a chunk of a rank's pipeline stage.
#pragma once

#include <grist/backends/products.hpp>
#include <grist/comm/process_grid.hpp>
#include <grist/model/spec.hpp>
#include <grist/model/tensors.hpp>
#include <grist/core/weight.hpp>
#include <grist/model/sharding.hpp>

#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace grist::train {

/// What the backward pass computes again instead of keeping it.
enum class Recompute {
  none,
  selective,  // what is cheap: norms, rotations, activations (Korthikanti et al. 2022)
  block,  // all of a block from its input (Chen et al. 2016)
};

/// Sequences of a micro-batch, one after the other.
struct MicroBatch {
  std::vector<int> ids;      // [tokens]
  std::vector<int> targets;  // [tokens]; -1: takes no part in the loss
  std::vector<int> begins;   // rows at which a sequence begins, ascending from 0: attention does not cross them
};

struct StageLimits {
  Index tokens = 0;   // of a micro-batch
  int sequences = 0;  // of a micro-batch, packed documents included
  int slots = 1;      // micro-batches that wait for their backward pass
  Index logit_rows = 256;
};

struct StageOptions {
  DType type = DType::f32;  // of activations: f32 or bf16
  Recompute recompute = Recompute::none;
  bool balanced = false;  // the routers' loss is part of the loss (Stage::balance)
  bool sequence_parallel = false;  // ranks of tp share the residual stream's tokens (TokenShares)
  StageLimits limits;
};

/// What routers have chosen, and what follows for them. Sums are [2, experts] as in layers/experts.hpp.
struct RouterLoss {
  View1<double> sums{};        // forward passes add those of their tokens; empty: they do not
  View2<const float> all{};    // of all tokens of the step: backward passes add the gradient of the loss
  float factor = 0;            // ... times this
};

/// What all routers of a model choose; no experts where it has none. Throws UsageError where they are not alike.
struct Routers {
  int experts = 0, per_token = 0;
  bool operator==(const Routers&) const = default;
};
Routers routers_of(const ModelSpec& spec);

/// Its passes are collective over tp. Owns activations, not weights and gradients.
class Stage {
public:
  virtual ~Stage() = default;

  [[nodiscard]] virtual bool first() const = 0;
  [[nodiscard]] virtual bool last() const = 0;

  /// Takes a micro-batch into a slot. Throws InputError (ids, targets), ShapeError.
  virtual void begin(const Exec& exec, int slot, const MicroBatch& batch) = 0;
  /// The residual stream [tokens of this rank, hidden] of a slot: what the stage before gives, unless this is the first
  /// one, and after the forward pass what the next one takes.
  [[nodiscard]] virtual View2<float> x(int slot) const = 0;
  /// Its gradient: what the next stage gives, and after the backward pass what the one before takes. On the last stage
  /// forward makes it, with the gradients of the final norm and the head.
  [[nodiscard]] virtual View2<float> dx(int slot) const = 0;

  /// On the last stage: adds the sum of the tokens' losses, whose gradients are taken of the sum.
  virtual void forward(const Exec& exec, int slot) = 0;
  /// Calls `done` with each layer's number, from the last to the first, when its gradients are enqueued.
  virtual void backward(const Exec& exec, int slot, const std::function<void(Index layer)>& done) = 0;
  /// Without gradients, on the last stage: adds the loss alone.
  virtual void evaluate(const Exec& exec, int slot) = 0;

  /// How the passes that follow deal with the routers' loss. Views must outlive them.
  virtual void balance(const RouterLoss& loss) = 0;
  /// A forward pass that does nothing but add to RouterLoss::sums; x() is what the next stage takes.
  virtual void route(const Exec& exec, int slot) = 0;

  /// The sum of losses since the last call, on the last stage; 0 elsewhere.
  virtual double take_loss() = 0;

  /// Bytes that it holds.
  [[nodiscard]] virtual std::uint64_t bytes() const = 0;
};

/// `weights` of the stage's tensors are stored as the activations' type, vectors in float, one panel each. `gradients`
/// are equally built. What is given must outlive the stage. Throws UsageError, MemoryError.
std::unique_ptr<Stage> make_stage(const ModelSpec& spec, const std::vector<Shard>& shards, Range layers,
                                  const ProcessGrid& grid, Products& products, const ModelTensors<Weight>& weights,
                                  const ModelTensors<View3<float>>& gradients, const StageOptions& options);

/// The bytes that such a stage will hold.
std::uint64_t stage_bytes(const ModelSpec& spec, const std::vector<Shard>& shards, Range layers, int tp_rank,
                          const StageOptions& options);

}  // namespace grist::train
