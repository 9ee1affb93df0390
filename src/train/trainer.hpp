// Training steps over the ranks of a grid: data, pipeline and tensor parallel, optimizer, clipping.
#pragma once

#include <grist/backends/products.hpp>
#include <grist/model/family.hpp>
#include <grist/model/tensor_blocks.hpp>
#include <grist/train/checkpoint.hpp>
#include <grist/train/learning_rate.hpp>
#include <grist/train/metrics.hpp>
#include <grist/train/optimizer.hpp>
#include <grist/train/pipeline.hpp>
#include <grist/train/stage.hpp>
#include <grist/train/trace.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace grist::train {

enum class Optimizer { adamw, lamb, sgd };

struct TrainerOptions {
  DType type = DType::f32;  // of activations and of the weights that they meet; master weights are float
  Recompute recompute = Recompute::none;
  Pipeline pipeline = Pipeline::one_f_one_b;
  int chunks = 1;     // of layers on each stage, under Pipeline::interleaved
  bool zero = false;  // ZeRO-1 (Rajbhandari et al. 2020): each dp rank keeps and updates its share of the flat arrays
  Optimizer optimizer = Optimizer::adamw;
  OptimizerConfig config;
  LearningRate learning_rate;
  double clip = 1;  // of the gradient's norm; 0: none
  Index max_skipped = 10;
  Index sequence = 0;
  Index micro_batch = 1;        // sequences
  int micro_batches = 1;        // of a step on each dp rank
  int documents = 1;            // packed into a sequence, at most
  bool check_replicas = false;  // before and after each update (Trainer::check_replicas)
};

/// The i-th micro-batch of this dp rank in a step; the same on all its ranks of pp and tp.
using MicroBatches = std::function<MicroBatch(int i)>;

struct StepResult {
  double loss = 0;           // mean over the tokens that count, of all ranks
  double gradient_norm = 0;  // before clipping
  Index tokens = 0;          // that count, of all ranks
  bool skipped = false;      // a loss or gradient was not finite: nothing was changed
  StepSeconds spent;
};

/// What a rank holds of a model in training, and the steps over it. Its methods are collective over the grid, which
/// must outlive it. A step's result depends on the layout by rounding alone; of one layout it has the same bits every
/// time.
class Trainer {
public:
  /// Loads the model's weights, or where its files hold none draws them from `seed`. Throws UsageError where the layout
  /// does not go with the model, MemoryError.
  Trainer(const Exec& exec, const ModelFiles& files, const ProcessGrid& grid, const TrainerOptions& options,
          std::string_view products, std::uint64_t seed);
  ~Trainer();

  /// `step` counts from 1. Throws NumericalError naming a tensor after more than max_skipped steps in a row were
  /// skipped.
  StepResult step(const Exec& exec, Index step, const MicroBatches& batches, Trace* trace = nullptr);
  /// Mean loss over micro-batches, without gradients; all ranks of dp bring equally many. `stop` is asked now and then,
  /// by all ranks, which it gives the same answer: nothing where it says yes.
  std::optional<double> evaluate(const Exec& exec, int count, const MicroBatches& batches,
                                 const std::function<bool()>& stop = {});

  /// What a checkpoint holds, and where it lies.
  [[nodiscard]] const CheckpointLayout& layout() const;
  [[nodiscard]] std::vector<TensorGroup> groups() const;
  /// Summed over all ranks, as the last step used them; with ZeRO-1 the memory of this rank's range of them, which a
  /// step leaves with the weights of that range.
  [[nodiscard]] View1<float> gradients() const;
  /// After groups() were read: what is computed with follows. `updates`: how often moments were updated so far.
  void loaded(const Exec& exec, Index updates);
  [[nodiscard]] Index updates() const;

  /// Compares weights, gradients and moments, of each what ranks of tp, dp or pp hold alike. Throws InternalError
  /// naming a tensor that they do not hold bit for bit.
  void check_replicas(const Exec& exec) const;

  [[nodiscard]] Index parameters() const;  // of the whole model
  [[nodiscard]] std::uint64_t bytes() const;

private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Bytes that a rank holds: masters, gradients, moments, copies, activations.
std::uint64_t trainer_bytes(const ModelSpec& spec, const TensorNames& names, const Layout& layout, int pp_rank,
                            int tp_rank, const TrainerOptions& options);

}  // namespace grist::train
