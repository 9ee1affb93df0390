#include <grist/model/model.hpp>

#include <grist/backends/graph.hpp>
#include <grist/core/errors.hpp>
#include <grist/core/staging.hpp>
#include <grist/layers/cross_entropy.hpp>
#include <grist/layers/embedding.hpp>
#include <grist/layers/linear.hpp>
#include <grist/layers/rms_norm.hpp>
#include <grist/layers/rope.hpp>
#include <grist/model/decoder_block.hpp>

#include <algorithm>
#include <cmath>

namespace grist {
namespace {

/// picked [rows, hidden] = x [rows(i), hidden].
void pick_rows(const Exec& exec, View2<const float> x, View1<const int> rows, View2<float> picked) {
  const Index hidden = x.extent(1);
  Kokkos::parallel_for(
      "grist::model::pick_rows", Indices<Exec>(exec, 0, picked.size()),
      KOKKOS_LAMBDA(Index i) { picked(i / hidden, i % hidden) = x(rows(i / hidden), i % hidden); });
}

void number_rows(const Exec& exec, View1<int> rows) {
  Kokkos::parallel_for("grist::model::number_rows", Indices<Exec>(exec, 0, rows.extent(0)),
                       KOKKOS_LAMBDA(Index i) { rows(i) = static_cast<int>(i); });
}

template <class T>
class Decoder final : public Model {
public:
  Decoder(const ModelFiles& files, const ProcessGrid& grid, const ModelOptions& options)
      : Model(files.spec, grid, options.limits),
        layers_(stages_of(spec_, grid.layout().pp)[static_cast<std::size_t>(grid.pp().rank())]),
        shard_(shard_of(spec_, grid.layout().tp, grid.tp().rank())),
        gemm_(make_gemm(options.gemm)),
        graph_(options.replay ? make_graph() : nullptr),
        parameters_(files, rows_of_stage(spec_, layers_), shard_, grid.tp().rank() == 0, options.progress),
        cache_(static_cast<int>(layers_.size()), static_cast<int>(shard_.kv_heads.size()), limits_.cache_tokens,
               spec_.head_dim),
        workspace_(memory_plan(spec_, grid.layout(), grid.pp().rank(), grid.tp().rank(), dtype_of<T>, limits_).workspace),
        batch_(limits_.batch_tokens, limits_.batch_sequences, limits_.cache_tokens, heads() / kv_heads()),
        inverse_frequencies_("inverse_frequencies", spec_.head_dim / 2) {
    for (Index layer = layers_.begin; layer < layers_.end; ++layer) blocks_.emplace_back(parameters_, layer);
    Kokkos::deep_copy(inverse_frequencies_.view(),
                      Kokkos::View<const float*, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>(
                          spec_.inverse_frequencies.data(), spec_.inverse_frequencies.size()));
    head_ = parameters_.matrix(parameters_.matrix("head").size() != 0 ? "head" : "embedding");
  }

  std::span<const float> forward(const Exec& exec, std::span<const BatchItem> items, bool logits) override {
    const Workspace::Scope scope(workspace_);
    const auto x = run_blocks(exec, items);
    if (!last_stage() || !logits) return {};
    return gathered_logits(exec, x, batch_.last_rows(), batch_.sequences());
  }

  std::vector<float> all_logits(const Exec& exec, const BatchItem& item) override {
    const Workspace::Scope scope(workspace_);
    const auto x = run_blocks(exec, {&item, 1});
    std::vector<float> all;
    if (!last_stage()) return all;
    for_row_pieces(exec, [&](View1<const int> rows) {
      const auto piece = gathered_logits(exec, x, rows, 0);
      all.insert(all.end(), piece.begin(), piece.end());
    });
    return all;
  }

  std::vector<float> score(const Exec& exec, const BatchItem& item, std::span<const int> targets) override {
    const Workspace::Scope scope(workspace_);
    const auto x = run_blocks(exec, {&item, 1});
    std::vector<float> nll(item.ids.size());
    if (last_stage()) {
      std::size_t done = 0;
      for_row_pieces(exec, [&](View1<const int> rows) {
        const auto piece = row_scores(exec, x, rows, targets.subspan(done, rows.size()));
        std::ranges::copy(piece, nll.begin() + static_cast<std::ptrdiff_t>(done));
        done += piece.size();
      });
    }
    grid_.pp().broadcast(nll.data(), static_cast<Index>(nll.size()), grid_.layout().pp - 1);
    return nll;
  }

private:
  [[nodiscard]] bool first_stage() const { return layers_.begin == 0; }
  [[nodiscard]] bool last_stage() const { return layers_.end == spec_.layers; }
  [[nodiscard]] int heads() const { return static_cast<int>(shard_.heads.size()); }
  [[nodiscard]] int kv_heads() const { return static_cast<int>(shard_.kv_heads.size()); }

  enum class Part : Index { blocks, logits };

  /// Enqueues a part of a forward pass: where all sequences decode and no other rank takes part, as a graph.
  template <class F>
  void replayed(const Exec& exec, Part part, F&& enqueue) {
    most_tiles_ = std::max(most_tiles_, batch_.tiles());
    if (graph_ == nullptr || batch_.few() != batch_.tokens() || grid_.tp().size() > 1) return enqueue();
    // With more tiles than ever before attention's scratch has moved: what was recorded until then is not replayed again.
    graph_->run(exec, {static_cast<Index>(part), batch_.tokens(), batch_.sequences(), batch_.tiles(), most_tiles_}, enqueue);
  }

  /// Embeds or receives, runs this stage's blocks, sends on; returns x [tokens, hidden] behind the last of them.
  View2<float> run_blocks(const Exec& exec, std::span<const BatchItem> items) {
    const auto region = Kokkos::Profiling::ScopedRegion("grist::model::forward");
    batch_.assign(exec, items);
    const auto x = workspace_.take<float>(exec, "x", batch_.tokens(), spec_.hidden_size);
    const auto turns = workspace_.take<float>(exec, "turns", batch_.tokens(), spec_.head_dim);
    if (!first_stage()) grid_.pp().recv(exec, flat(x), grid_.pp().rank() - 1);
    replayed(exec, Part::blocks, [&] {
      if (first_stage()) {
        layers::embedding(exec, batch_.ids(), parameters_.matrix("embedding"), shard_.vocabulary.begin, x);
        grid_.tp().all_reduce(exec, flat(x));
      }
      layers::rope_turns(exec, batch_.positions(), as_const(inverse_frequencies_.view()), turns);
      const BlockContext context{exec, grid_.tp(), *gemm_, workspace_, batch_, turns,
                                 {heads(), kv_heads(), spec_.head_dim, 1.0F / std::sqrt(static_cast<float>(spec_.head_dim)),
                                  spec_.sliding_window},
                                 spec_.rms_norm_eps};
      for (std::size_t i = 0; i < blocks_.size(); ++i) decoder_block(context, blocks_[i], cache_, static_cast<int>(i), x);
    });
    if (!last_stage()) grid_.pp().send(exec, as_const(flat(x)), grid_.pp().rank() + 1);
    return x;
  }

  /// This rank's columns of the logits of some rows of x: [rows, columns], in `logits`.
  void local_logits(const Exec& exec, View2<float> x, View1<const int> rows, Index few, View2<float> logits) {
    const Index count = rows.size(), hidden = spec_.hidden_size;
    const Workspace::Scope scope(workspace_);
    const auto picked = workspace_.take<float>(exec, "picked", count, hidden);
    const auto normed = workspace_.take<T>(exec, "normed rows", count, hidden);
    pick_rows(exec, as_const(x), rows, picked);
    layers::rms_norm(exec, as_const(picked), parameters_.vector("norm"), spec_.rms_norm_eps, normed);
    layers::linear(exec, *gemm_, as_const(normed), head_, {}, few, logits);
  }

  /// Logits of some rows with the columns of all tp ranks, in host memory.
  std::span<const float> gathered_logits(const Exec& exec, View2<float> x, View1<const int> rows, Index few) {
    const Index count = rows.size(), columns = shard_.vocabulary.size(), vocabulary = spec_.vocab_size;
    const int parts = grid_.layout().tp;
    const Workspace::Scope scope(workspace_);
    host_logits_.resize(static_cast<std::size_t>(count * vocabulary));
    // Slices may differ in width: every rank sends as much as the widest needs.
    const Index widest = widest_slice();
    const auto mine = workspace_.take<float>(exec, "logits", count * widest);
    const auto all = workspace_.take<float>(exec, "all logits", parts * count * widest);
    const auto enqueue = [&] { local_logits(exec, x, rows, few, View2<float>(mine.data(), count, columns)); };
    if (few == count)
      replayed(exec, Part::logits, enqueue);
    else
      enqueue();
    if (parts > 1) grid_.tp().all_gather(exec, as_const(mine), all);
    const float* const host = staging_.load(exec, as_const(parts > 1 ? all : mine));
    for (int part = 0; part < parts; ++part) {
      const auto range = shard_of(spec_, parts, part).vocabulary;
      for (Index row = 0; row < count; ++row)
        std::copy_n(host + part * count * widest + row * range.size(), range.size(),
                    host_logits_.data() + row * vocabulary + range.begin);
    }
    return host_logits_;
  }

  std::vector<float> row_scores(const Exec& exec, View2<float> x, View1<const int> rows, std::span<const int> targets) {
    const Index count = rows.size();
    const Workspace::Scope scope(workspace_);
    const auto logits = workspace_.take<float>(exec, "logits", count, shard_.vocabulary.size());
    const auto highest = workspace_.take<float>(exec, "highest", count);
    const auto sums = workspace_.take<float>(exec, "sums", count);
    const auto target_logits = workspace_.take<float>(exec, "target logits", count);
    local_logits(exec, x, rows, 0, logits);
    const Buffer<int> ids("targets", count);
    Kokkos::deep_copy(ids.view(), Kokkos::View<const int*, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>(targets.data(), count));
    layers::cross_entropy_highest(exec, as_const(logits), highest);
    grid_.tp().all_reduce(exec, highest, Reduction::max);
    layers::cross_entropy_sums(exec, as_const(logits), as_const(ids.view()), shard_.vocabulary.begin, as_const(highest),
                               sums, target_logits);
    grid_.tp().all_reduce(exec, sums);
    grid_.tp().all_reduce(exec, target_logits);
    exec.fence("grist::model: scores for the host");
    const auto h = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, highest);
    const auto s = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, sums);
    const auto t = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, target_logits);
    std::vector<float> nll(static_cast<std::size_t>(count));
    for (Index i = 0; i < count; ++i) nll[static_cast<std::size_t>(i)] = std::log(s(i)) + h(i) - t(i);
    return nll;
  }

  /// Calls f with all rows of the batch, as many at a time as the plan has room for.
  template <class F>
  void for_row_pieces(const Exec& exec, F&& f) {
    const Buffer<int> numbers("row numbers", batch_.tokens());
    number_rows(exec, numbers.view());
    for (Index first = 0; first < batch_.tokens(); first += limits_.logit_rows) {
      f(View1<const int>(numbers.data() + first, std::min(limits_.logit_rows, batch_.tokens() - first)));
    }
  }

  [[nodiscard]] Index widest_slice() const {
    Index widest = 0;
    for (int part = 0; part < grid_.layout().tp; ++part)
      widest = std::max(widest, shard_of(spec_, grid_.layout().tp, part).vocabulary.size());
    return widest;
  }

  Range layers_;
  TensorShard shard_;
  std::unique_ptr<Gemm> gemm_;
  std::unique_ptr<Graph> graph_;
  Index most_tiles_ = 0;
  Parameters<T> parameters_;
  std::vector<BlockWeights<T>> blocks_;
  View2<const T> head_;
  KvCache<T> cache_;
  Workspace workspace_;
  Batch batch_;
  Buffer<float> inverse_frequencies_;
  Staging staging_;
  std::vector<float> host_logits_;
};

}  // namespace

std::unique_ptr<Model> make_model(const ModelFiles& files, const ProcessGrid& grid, const ModelOptions& options) {
  const auto& layout = grid.layout();
  if (layout.dp * layout.cp * layout.ep != 1)
    throw UsageError("layout {}: a model runs over tp and pp", to_string(layout));
  switch (options.type) {
    case DType::f32: return std::make_unique<Decoder<float>>(files, grid, options);
    case DType::bf16: return std::make_unique<Decoder<bf16>>(files, grid, options);
    case DType::f16: break;
  }
  throw UsageError("models run in f32 or bf16, not in {}", name_of(options.type));
}

}  // namespace grist
