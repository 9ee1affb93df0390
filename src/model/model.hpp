// A model: this rank's stage and slices, and the forward pass over them.
#pragma once

#include <grist/backends/gemm.hpp>
#include <grist/comm/process_grid.hpp>
#include <grist/model/batch.hpp>
#include <grist/model/family.hpp>
#include <grist/model/memory_plan.hpp>
#include <grist/model/parameters.hpp>

#include <memory>
#include <span>

namespace grist {

/// What a model is built with. All ranks of the grid give the same.
struct ModelOptions {
  DType type = DType::f32;  // of weights, activations and KV cache: f32 or bf16
  std::string gemm = "auto";
  ModelLimits limits;
  bool replay = false;  // decode steps by a graph where the device has one: then the execution space instance is the model's
                        // alone, because Kokkos moves the scratch memory of an instance when another kernel wants more
  Progress progress;  // called while loading, may be empty
};

/// One decoder-only transformer over the ranks of a grid. Its methods are collective over the grid: all ranks call them
/// with the same tokens. Owns weights, KV cache and scratch; a warm forward allocates nothing on the host. The grid must
/// outlive the model.
class Model {
public:
  virtual ~Model() = default;

  [[nodiscard]] const ModelSpec& spec() const { return spec_; }
  [[nodiscard]] const ProcessGrid& grid() const { return grid_; }
  [[nodiscard]] const ModelLimits& limits() const { return limits_; }

  /// Runs new tokens through all stages and returns the logits behind the last token of each item, in host memory
  /// [items, vocabulary], on the ranks of the last stage; an empty span elsewhere. Items with few tokens come first.
  /// With `logits` false nothing is computed behind the last block. The span is valid until the next call.
  virtual std::span<const float> forward(const Exec& exec, std::span<const BatchItem> items, bool logits = true) = 0;

  /// Runs one sequence's new tokens and returns the negative log-likelihood of `targets` (one per token) behind each of
  /// them, on all ranks.
  virtual std::vector<float> score(const Exec& exec, const BatchItem& item, std::span<const int> targets) = 0;

  /// Runs one sequence's new tokens and returns the logits behind each of them as forward does.
  virtual std::vector<float> all_logits(const Exec& exec, const BatchItem& item) = 0;

protected:
  Model(ModelSpec spec, const ProcessGrid& grid, ModelLimits limits)
      : spec_(std::move(spec)), grid_(grid), limits_(limits) {}

  ModelSpec spec_;
  const ProcessGrid& grid_;
  ModelLimits limits_;
};

/// Loads a model onto the grid. Throws InputError, UsageError (layout), MemoryError.
std::unique_ptr<Model> make_model(const ModelFiles& files, const ProcessGrid& grid, const ModelOptions& options);

}  // namespace grist
