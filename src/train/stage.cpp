#include <grist/train/stage.hpp>

#include <grist/core/errors.hpp>
#include <grist/core/staging.hpp>
#include <grist/model/embed.hpp>
#include <grist/model/model_parts.hpp>
#include <grist/model/position_tables.hpp>
#include <grist/train/head.hpp>

#include <algorithm>
#include <numeric>
#include <optional>

namespace grist::train {
namespace {

constexpr Index row_lists = 3;  // of a slot: targets, the tokens' order by id and by position

/// A micro-batch that is on its way.
template <class X>
struct Slot {
  Slot(const AttentionLimits& limits, Index vocab_size, const std::vector<AttentionConfig>& pools, std::size_t kept)
      : workspace(kept), batch(limits, vocab_size, pools), rows("rows of a micro-batch", row_lists * limits.tokens) {}

  Workspace workspace;
  Batch batch;
  Buffer<int> rows;  // [row_lists, tokens]
  Index tokens = 0;
  std::optional<Workspace::Scope> frame;
  PassBuffers pass;
  View2<float> raw, dx;
  std::vector<View2<const float>> cos_sin;
  std::vector<SavedBlock<X>> saved;
};

AttentionLimits attention_limits(const StageLimits& limits) {
  return {limits.tokens, limits.sequences, limits.tokens, false};
}

/// A slot's numbers that are no activations.
std::size_t batch_bytes(const ModelParts& parts, const StageLimits& limits) {
  return static_cast<std::size_t>(Batch::bytes(attention_limits(limits), parts.pools) +
                                  row_lists * limits.tokens * Index{sizeof(int)});
}

TokenShares shares_of(Index tokens, int tp, const StageOptions& options) {
  return {.tokens = tokens, .ranks = options.sequence_parallel ? tp : 1};
}

PassSizes sizes_of(const ModelSpec& spec, const ModelParts& parts, int tp_rank, const StageOptions& options) {
  return {.hidden = spec.hidden_size,
          .tokens = options.limits.tokens,
          .shares = shares_of(options.limits.tokens, static_cast<int>(parts.shards.size()), options),
          .tp_rank = tp_rank,
          .sequences = options.limits.sequences,
          .selective = options.recompute == Recompute::selective,
          .balanced = options.balanced};
}

std::size_t stream_bytes(const PassSizes& sizes) { return Workspace::bytes_for<float>(sizes.stream() * sizes.hidden); }

/// What one slot keeps.
template <class X>
std::size_t kept_bytes(const ModelSpec& spec, const ModelParts& parts, int tp_rank, const StageOptions& options) {
  const Exec exec;
  const PassSizes sizes = sizes_of(spec, parts, tp_rank, options);
  Workspace workspace = Workspace::counting();
  const PassBuffers pass(exec, workspace, spec, sizes.tokens, sizes.stream());
  std::size_t bytes = pass.bytes + 2 * stream_bytes(sizes);  // raw and dx
  for (const auto& block : parts.blocks)
    bytes += options.recompute == Recompute::block ? stream_bytes(sizes) : saved_bytes<X>(exec, block, sizes);
  return bytes;
}

/// Experts of each router, which are equally many (routers_of).
Index experts_of(const ModelSpec& spec) {
  return std::ranges::max_element(spec.layers, {}, [](const LayerSpec& l) { return l.mlp.experts; })->mlp.experts;
}

void add_to(const Exec& exec, View1<const float> values, View1<double> sums) {
  Kokkos::parallel_for("grist::train::add_router_sums", Indices<Exec>(exec, 0, static_cast<Index>(sums.size())),
                       KOKKOS_LAMBDA(Index i) { sums(i) += values(i); });
}

Index partials(const ModelParts& parts, const StageLimits& limits) {
  Index most = 0;
  for (const auto& pool : parts.pools) most = std::max(most, attention_scratch(pool, attention_limits(limits)));
  return most;
}

/// Where a block is computed again.
template <class X>
std::size_t again_bytes(const ModelSpec& spec, const ModelParts& parts, int tp_rank, const StageOptions& options) {
  std::size_t most = 0;
  for (const auto& block : parts.blocks)
    most = std::max(most, saved_bytes<X>(Exec(), block, sizes_of(spec, parts, tp_rank, options)));
  return options.recompute == Recompute::block ? stream_bytes(sizes_of(spec, parts, tp_rank, options)) + most : 0;
}

/// What all slots share.
template <class X>
std::size_t scratch_bytes(const ModelSpec& spec, const ModelParts& parts, const StageOptions& options) {
  const Exec exec;
  const StageLimits& limits = options.limits;
  const PassSizes sizes = sizes_of(spec, parts, 0, options);  // the first rank has the largest share
  std::size_t backward = embed_backward_bytes(exec, spec, sizes);
  std::size_t forward = sizes.shares.split() ? Workspace::bytes_for<float>(sizes.tokens * sizes.hidden) : 0;
  for (const auto& block : parts.blocks) {
    backward = std::max(backward, backward_bytes<X>(exec, block, sizes));
    // A pass that keeps nothing: one that is evaluated, or computed again.
    forward = std::max(forward, block_bytes<X>(exec, block, sizes, partials(parts, limits)));
  }
  Index columns = 0;
  for (const auto& shard : parts.shards) columns = std::max(columns, shard.vocabulary.size());
  return std::max({forward, backward, head_bytes<X>(exec, sizes, columns, limits.logit_rows)});
}

template <class X>
class TrainStage final : public Stage {
public:
  TrainStage(const ModelSpec& spec, const std::vector<Shard>& shards, Range layers, const ProcessGrid& grid,
             Products& products, const ModelTensors<Weight>& weights, const ModelTensors<View3<float>>& gradients,
             const StageOptions& options)
      : spec_(spec),
        grid_(grid),
        products_(products),
        weights_(weights),
        gradients_(gradients),
        options_(options),
        parts_(parts_of(spec, shards, layers, grid.tp().rank())),
        positions_(spec, parts_.blocks),
        partials_(partials(parts_, options.limits)),
        scratch_(scratch_bytes<X>(spec, parts_, options)),
        again_(again_bytes<X>(spec, parts_, grid.tp().rank(), options)),
        router_sums_("sums of routers", options.balanced ? 2 * experts_of(spec) : 0) {
    for (Block& block : parts_.blocks) block.weights = weights.layers[static_cast<std::size_t>(block.number)];
    const auto kept = kept_bytes<X>(spec, parts_, grid.tp().rank(), options);
    for (int slot = 0; slot < options.limits.slots; ++slot)
      slots_.push_back(
          std::make_unique<Slot<X>>(attention_limits(options.limits), spec.vocab_size, parts_.pools, kept));
  }

  [[nodiscard]] bool first() const override { return parts_.layers.begin == 0; }
  [[nodiscard]] bool last() const override { return parts_.layers.end == spec_.layer_count(); }
  [[nodiscard]] View2<float> x(int slot) const override { return at(slot).pass.x; }
  [[nodiscard]] View2<float> dx(int slot) const override { return at(slot).dx; }
  [[nodiscard]] std::uint64_t bytes() const override {
    std::uint64_t bytes = scratch_.capacity() + again_.capacity();
    for (const auto& slot : slots_) bytes += slot->workspace.capacity() + batch_bytes(parts_, options_.limits);
    return bytes;
  }

  void begin(const Exec& exec, int number, const MicroBatch& batch) override {
    check(batch);
    Slot<X>& slot = at(number);
    std::vector<BatchItem> items;
    std::vector<int> positions(batch.ids.size());
    for (std::size_t i = 0; i < batch.begins.size(); ++i) {
      const auto begin = static_cast<std::size_t>(batch.begins[i]),
                 end = i + 1 < batch.begins.size() ? static_cast<std::size_t>(batch.begins[i + 1]) : batch.ids.size();
      items.push_back(
          {.ids = std::span(batch.ids).subspan(begin, end - begin), .prompt_length = static_cast<int>(end - begin)});
      std::iota(positions.begin() + static_cast<std::ptrdiff_t>(begin),
                positions.begin() + static_cast<std::ptrdiff_t>(end), 0);
    }
    slot.batch.assign(exec, items);
    slot.tokens = slot.batch.tokens();
    std::vector<int> rows = batch.targets;
    for (const auto& keys : {batch.ids, positions}) {
      std::vector<int> order(keys.size());
      std::iota(order.begin(), order.end(), 0);
      std::ranges::stable_sort(order, {}, [&](int row) { return keys[static_cast<std::size_t>(row)]; });
      rows.insert(rows.end(), order.begin(), order.end());
    }
    Kokkos::deep_copy(View1<int>(slot.rows.data(), rows.size()),
                      Kokkos::View<const int*, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>(rows.data(), rows.size()));
    slot.frame.reset();
    slot.frame.emplace(slot.workspace);
    const Index stream = share_of(slot).size();
    slot.pass = PassBuffers(exec, slot.workspace, spec_, slot.tokens, stream);
    slot.dx = slot.workspace.template take<float>(exec, "gradient of the stream", stream, spec_.hidden_size);
    slot.raw = {};
    if (first() && spec_.embedding_norm)
      slot.raw = slot.workspace.template take<float>(exec, "raw embedding", stream, spec_.hidden_size);
    slot.saved.assign(parts_.blocks.size(), {});
  }

  void forward(const Exec& exec, int number) override {
    const auto region = Kokkos::Profiling::ScopedRegion("grist::train::forward");
    run_blocks(exec, at(number), true);
    Slot<X>& slot = at(number);
    if (last())
      loss_ += head<X>(head_context(exec, slot), as_const(slot.pass.x), row_list(slot, 0), &gradients_, slot.dx);
  }

  void evaluate(const Exec& exec, int number) override {
    const auto region = Kokkos::Profiling::ScopedRegion("grist::train::evaluate");
    run_blocks(exec, at(number), false);
    Slot<X>& slot = at(number);
    if (last()) loss_ += head<X>(head_context(exec, slot), as_const(slot.pass.x), row_list(slot, 0), nullptr, {});
  }

  void balance(const RouterLoss& loss) override { router_loss_ = loss; }
  void route(const Exec& exec, int number) override {
    const auto region = Kokkos::Profiling::ScopedRegion("grist::train::route");
    run_blocks(exec, at(number), false);
  }

  void backward(const Exec& exec, int number, const std::function<void(Index)>& done) override {
    const auto region = Kokkos::Profiling::ScopedRegion("grist::train::backward");
    Slot<X>& slot = at(number);
    products_.serve(0);
    for (std::size_t i = parts_.blocks.size(); i-- > 0;) {
      const Block& block = parts_.blocks[i];
      const auto& gradients = gradients_.layers[static_cast<std::size_t>(block.number)];
      if (options_.recompute == Recompute::block) {
        const Workspace::Scope scope(again_);
        const auto x = again_.template take<float>(exec, "stream again", share_of(slot).size(), spec_.hidden_size);
        Kokkos::deep_copy(exec, x, slot.saved[i].x);
        SavedBlock<X> saved;
        decoder_block<X>(context(exec, slot, again_), block, x, &saved);
        decoder_block_backward(context(exec, slot, again_), block, saved, gradients, slot.dx);
      } else {
        decoder_block_backward(context(exec, slot, slot.workspace), block, slot.saved[i], gradients, slot.dx);
      }
      if (done) done(block.number);
    }
    if (first())
      embed_backward<X>(embed_context(exec, slot), weights_, {row_list(slot, 1), row_list(slot, 2)}, as_const(slot.raw),
                        scratch_, gradients_, slot.dx);
  }

  double take_loss() override { return std::exchange(loss_, 0.0); }

private:
  void check(const MicroBatch& batch) const {
    const auto tokens = std::ssize(batch.ids);
    if (std::ssize(batch.targets) != tokens)
      throw ShapeError("stage: {} targets for {} tokens", batch.targets.size(), tokens);
    if (batch.begins.empty() || batch.begins.front() != 0 || batch.begins.back() >= tokens ||
        !std::ranges::is_sorted(batch.begins, std::less_equal()))
      throw ShapeError("stage: {} beginnings of sequences do not ascend from 0 to a token of {}", batch.begins.size(),
                       tokens);
    for (const int target : batch.targets)
      if (target < -1 || target >= spec_.vocab_size)
        throw InputError("target {} is out of range, the vocabulary has {}", target, spec_.vocab_size);
    for (std::size_t i = 0; i < batch.begins.size() && spec_.learned_positions > 0; ++i) {
      const Index end = i + 1 < batch.begins.size() ? batch.begins[i + 1] : tokens, length = end - batch.begins[i];
      if (length > spec_.learned_positions)
        throw InputError("a sequence has {} tokens, the model has {} positions", length, spec_.learned_positions);
    }
  }

  [[nodiscard]] Slot<X>& at(int slot) const { return *slots_.at(static_cast<std::size_t>(slot)); }
  [[nodiscard]] const Shard& shard() const { return parts_.shards[static_cast<std::size_t>(grid_.tp().rank())]; }
  /// Targets, order by id, order by position.
  [[nodiscard]] View1<const int> row_list(const Slot<X>& slot, Index list) const {
    return View1<const int>(slot.rows.data() + list * slot.tokens, slot.tokens);
  }
  [[nodiscard]] TokenShares shares(const Slot<X>& slot) const {
    return shares_of(slot.tokens, grid_.tp().size(), options_);
  }
  /// Of the residual stream.
  [[nodiscard]] Range share_of(const Slot<X>& slot) const {
    return shares(slot).split() ? shares(slot).of(grid_.tp().rank()) : Range{0, slot.tokens};
  }
  [[nodiscard]] EmbedContext embed_context(const Exec& exec, const Slot<X>& slot) {
    return {exec, grid_.tp(), spec_, shard().vocabulary, slot.batch, shares(slot), &scratch_};
  }
  [[nodiscard]] BlockContext context(const Exec& exec, Slot<X>& slot, Workspace& kept) {
    return {exec,
            grid_.tp(),
            products_,
            kept,
            scratch_,
            slot.batch,
            nullptr,
            slot.cos_sin,
            partials_,
            options_.recompute == Recompute::selective,
            {.sums = {}, .all = router_loss_.all, .factor = router_loss_.factor},
            shares(slot)};
  }
  /// Of a forward pass, which counts what its routers choose.
  [[nodiscard]] BlockContext counting_context(const Exec& exec, Slot<X>& slot, Workspace& kept) {
    BlockContext made = context(exec, slot, kept);
    if (router_loss_.sums.size() != 0)
      made.balance.sums = View2<float>(router_sums_.data(), 2, router_sums_.size() / 2);
    return made;
  }

  void run_blocks(const Exec& exec, Slot<X>& slot, bool keep) {
    products_.serve(0);
    if (first()) embed<X>(embed_context(exec, slot), weights_, slot.pass, slot.raw);
    slot.cos_sin = positions_.cos_sin(exec, slot.batch, slot.pass);
    const bool counts = router_loss_.sums.size() != 0;
    if (counts) Kokkos::deep_copy(exec, router_sums_.view(), 0.0F);
    for (std::size_t i = 0; i < parts_.blocks.size(); ++i) {
      const Block& block = parts_.blocks[i];
      if (keep && options_.recompute != Recompute::block) {
        decoder_block<X>(counting_context(exec, slot, slot.workspace), block, slot.pass.x, &slot.saved[i]);
        continue;
      }
      if (keep) {
        slot.saved[i].x =
            slot.workspace.template take<float>(exec, "block's input", share_of(slot).size(), spec_.hidden_size);
        Kokkos::deep_copy(exec, slot.saved[i].x, slot.pass.x);
      }
      decoder_block<X>(counting_context(exec, slot, scratch_), block, slot.pass.x);
    }
    if (counts) add_to(exec, as_const(router_sums_.view()), router_loss_.sums);
  }

  [[nodiscard]] HeadContext head_context(const Exec& exec, const Slot<X>& slot) {
    return {exec, grid_.tp(), products_, scratch_, spec_, weights_, shard().vocabulary, shares(slot),
            options_.limits.logit_rows};
  }

  const ModelSpec& spec_;
  const ProcessGrid& grid_;
  Products& products_;
  const ModelTensors<Weight>& weights_;
  const ModelTensors<View3<float>>& gradients_;
  StageOptions options_;
  ModelParts parts_;
  PositionTables positions_;
  Index partials_;
  Workspace scratch_;  // of a pass
  Workspace again_;    // of a block that is computed again
  RouterLoss router_loss_;
  Buffer<float> router_sums_;  // of a forward pass
  std::vector<std::unique_ptr<Slot<X>>> slots_;
  double loss_ = 0;
};

}  // namespace

Routers routers_of(const ModelSpec& spec) {
  Routers routers;
  for (const LayerSpec& layer : spec.layers) {
    if (layer.mlp.experts == 0) continue;
    const Routers own{layer.mlp.experts, layer.mlp.experts_per_token};
    if (routers.experts != 0 && own != routers)
      throw UsageError(
          "the routers' loss is of all layers together, and they choose {} of {} experts here, {} of {} there",
          routers.per_token, routers.experts, own.per_token, own.experts);
    routers = own;
  }
  return routers;
}

std::unique_ptr<Stage> make_stage(const ModelSpec& spec, const std::vector<Shard>& shards, Range layers,
                                  const ProcessGrid& grid, Products& products, const ModelTensors<Weight>& weights,
                                  const ModelTensors<View3<float>>& gradients, const StageOptions& options) {
  if (options.type == DType::f32)
    return std::make_unique<TrainStage<float>>(spec, shards, layers, grid, products, weights, gradients, options);
  if (options.type != DType::bf16)
    throw UsageError("models are trained in f32 or bf16, not in {}", name_of(options.type));
  return std::make_unique<TrainStage<bf16>>(spec, shards, layers, grid, products, weights, gradients, options);
}

std::uint64_t stage_bytes(const ModelSpec& spec, const std::vector<Shard>& shards, Range layers, int tp_rank,
                          const StageOptions& options) {
  const auto parts = parts_of(spec, shards, layers, tp_rank);
  const auto slots = static_cast<std::size_t>(options.limits.slots);
  const auto bytes = [&]<class X>(X) {
    return slots * (kept_bytes<X>(spec, parts, tp_rank, options) + batch_bytes(parts, options.limits)) +
           scratch_bytes<X>(spec, parts, options) + again_bytes<X>(spec, parts, tp_rank, options);
  };
  return options.type == DType::f32 ? bytes(float()) : bytes(bf16());
}

}  // namespace grist::train
