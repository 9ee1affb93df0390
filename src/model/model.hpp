// A model: this rank's stage and slices, and the forward pass over them. Device memory in, device memory out.
#pragma once

#include <grist/comm/process_grid.hpp>
#include <grist/model/batch.hpp>
#include <grist/model/family.hpp>
#include <grist/model/memory_plan.hpp>
#include <grist/model/paged_kv.hpp>

#include <memory>
#include <span>
#include <vector>

namespace grist {

/// What a model is built with. All ranks of the grid give the same.
struct ModelOptions {
  ModelNumbers numbers;
  std::string products = "auto";  // provider of matrix products
  ModelLimits limits;
  bool replay =
      false;  // decode steps by a graph where the device has one: then the execution space instance is the model's
              // alone, because Kokkos moves the scratch memory of an instance when another kernel wants more
  Progress progress;  // called while loading, may be empty
};

/// A copy of x [tokens, hidden] after a layer; written on the ranks whose stage has the layer.
struct HiddenState {
  int layer;
  View2<float> out;
};

/// What a forward pass begins from, and what it leaves beside x.
struct Inputs {
  std::span<const BatchItem> items;
  View2<const float> embeddings =
      {};  // [tokens, hidden] in place of those of the items' ids, scaled; read on the first stage
  std::span<const HiddenState> hidden = {};
};

/// One decoder over the ranks of a grid. Its methods are collective over the grid: all ranks call them with the same
/// items. Owns weights and scratch, not the cache; a warm pass allocates nothing on the host. The grid must outlive the
/// model.
class Model {
public:
  virtual ~Model() = default;

  [[nodiscard]] const ModelSpec& spec() const { return spec_; }
  [[nodiscard]] const ProcessGrid& grid() const { return grid_; }
  [[nodiscard]] const ModelLimits& limits() const { return limits_; }
  /// What the model's files say ends an answer.
  [[nodiscard]] const std::vector<int>& end_tokens() const { return end_tokens_; }
  [[nodiscard]] virtual bool first_stage() const = 0;
  [[nodiscard]] virtual bool last_stage() const = 0;
  /// This rank's columns of the logits.
  [[nodiscard]] virtual Range vocabulary() const = 0;

  /// Whether a token's keys and values are the same bits in any prompt that begins with the same tokens up to it.
  [[nodiscard]] virtual bool same_bits_for_same_beginning() const = 0;

  /// A cache for this model's layers, for sequences of `tokens` tokens together, limits().batch_sequences of them at a
  /// time where layers have windows: the caller's.
  [[nodiscard]] virtual std::unique_ptr<PagedKv> make_kv(Index tokens) const = 0;

  /// Weights in blocks are read where the file is mapped at first, and brought into a faster order piece by piece
  /// before later passes by all threads of the process, so that the first answer does not wait. This brings all of
  /// them there at once, for those who measure passes. Results have the same bits before and after.
  virtual void finish_loading() = 0;

  /// Enqueues a forward pass over all stages. Returns x [tokens, hidden] after this stage's last block, valid until the
  /// next call. `kv` null: without a cache, every item is a whole sequence. Throws ShapeError, InputError (ids).
  virtual View2<float> run(const Exec& exec, PagedKv* kv, const Inputs& inputs) = 0;

  /// Of the last pass, on the last stage: logits [rows, this rank's columns] after the last tokens of each item
  /// (BatchItem::logits), at most limits().logit_rows. Empty on other stages. Valid until the next call.
  virtual View2<float> logits(const Exec& exec) = 0;
  /// The same after each of some tokens of the pass, at most limits().logit_rows.
  virtual View2<float> logits(const Exec& exec, View1<const int> rows) = 0;

  /// Runs one sequence's new tokens and returns the negative log-likelihood of `targets` (one per token) after each of
  /// them, on all ranks. Throws InputError for a target outside the vocabulary.
  virtual std::vector<float> score(const Exec& exec, PagedKv* kv, const BatchItem& item,
                                   std::span<const int> targets) = 0;

protected:
  Model(ModelSpec spec, const ProcessGrid& grid, ModelLimits limits, std::vector<int> end_tokens)
      : spec_(std::move(spec)), grid_(grid), limits_(limits), end_tokens_(std::move(end_tokens)) {}

  ModelSpec spec_;
  const ProcessGrid& grid_;
  ModelLimits limits_;
  std::vector<int> end_tokens_;
};

/// Loads a model onto the grid. Throws InputError, UsageError (layout), MemoryError.
std::unique_ptr<Model> make_model(const ModelFiles& files, const ProcessGrid& grid, const ModelOptions& options);

}  // namespace grist
