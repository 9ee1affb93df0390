#include <grist/model/model.hpp>

#include <grist/backends/graph.hpp>
#include <grist/backends/threads.hpp>
#include <grist/core/errors.hpp>
#include <grist/core/staging.hpp>
#include <grist/layers/cross_entropy.hpp>
#include <grist/layers/linear.hpp>
#include <grist/layers/scale.hpp>
#include <grist/model/decoder_block.hpp>
#include <grist/model/embed.hpp>
#include <grist/model/model_buffers.hpp>
#include <grist/model/model_parts.hpp>
#include <grist/model/parameters.hpp>
#include <grist/model/position_tables.hpp>

#include <algorithm>
#include <cmath>
#include <optional>

namespace grist {
namespace {

/// picked [rows, hidden] = x [rows(i), hidden].
void pick_rows(const Exec& exec, View2<const float> x, View1<const int> rows, View2<float> picked) {
  const Index hidden = x.extent(1);
  using Team = Kokkos::TeamPolicy<Exec>;
  Kokkos::parallel_for(
      "grist::model::pick_rows", Team(exec, static_cast<int>(picked.extent(0)), Kokkos::AUTO),
      KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index row = team.league_rank();
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, hidden), [&](Index i) { picked(row, i) = x(rows(row), i); });
      });
}

void number_rows(const Exec& exec, View1<int> rows) {
  Kokkos::parallel_for("grist::model::number_rows", Indices<Exec>(exec, 0, rows.extent(0)),
                       KOKKOS_LAMBDA(Index i) { rows(i) = static_cast<int>(i); });
}

template <class X>
class Decoder final : public Model {
public:
  Decoder(const ModelFiles& files, const ProcessGrid& grid, const ModelOptions& options, ModelParts parts)
      : Model(files.spec, grid, options.limits, files.tokens.eos),
        kv_type_(options.numbers.kv_type),
        parts_(std::move(parts)),
        products_(options.products),
        graph_(options.replay && grid.tp().size() == 1 ? make_graph() : nullptr),
        parameters_(files.weights, tensor_table(spec_, files.names), files.names.base, parts_.layers, shard(),
                    options.numbers, options.progress),
        partials_(partials_of(parts_, options.limits)),
        workspace_(workspace_bytes(spec_, parts_, grid.tp().rank(), dtype_of<X>, options.limits)),
        batch_(attention_limits(options.limits), spec_.vocab_size, parts_.pools),
        positions_(spec_, parts_.blocks) {
    give_weights();
  }

  [[nodiscard]] bool first_stage() const override { return parts_.layers.begin == 0; }
  [[nodiscard]] bool last_stage() const override { return parts_.layers.end == spec_.layer_count(); }
  [[nodiscard]] Range vocabulary() const override { return shard().vocabulary; }
  [[nodiscard]] bool same_bits_for_same_beginning() const override {
    const auto depends_on_length = [](const RopeTable& table) { return table.long_after > 0; };
    return products_.batch_invariant() && std::ranges::none_of(spec_.ropes, depends_on_length) &&
           std::ranges::all_of(attention_providers(), &AttentionProvider::batch_invariant);
  }
  [[nodiscard]] std::unique_ptr<PagedKv> make_kv(Index tokens) const override {
    return std::make_unique<PagedKv>(kv_type_, parts_.kv, parts_.layers,
                                     KvLimits{tokens, limits_.batch_sequences, limits_.batch_tokens});
  }

  void finish_loading() override {
    Kokkos::fence("grist::model: nothing reads the weights");
    parameters_.interleave_all();
    give_weights();
  }

  View2<float> run(const Exec& exec, PagedKv* kv, const Inputs& inputs) override {
    const auto region = Kokkos::Profiling::ScopedRegion("grist::model::run");
    if (ran_ && parameters_.waiting()) {
      exec.fence("grist::model: nothing reads the weights");
      parameters_.interleave_some();
      give_weights();
    }
    ran_ = true;
    frame_.reset();
    frame_.emplace(workspace_);
    batch_.assign(exec, inputs.items);
    const Index tokens = batch_.tokens();
    check_shapes(inputs);
    pass_ = PassBuffers(exec, workspace_, spec_, tokens);
    products_.serve(batch_.few());
    if (!first_stage()) grid_.pp().recv(exec, flat(pass_.x), grid_.pp().rank() - 1);
    const auto enqueue = [&] { run_stage(exec, kv, inputs); };
    const bool same_every_time = batch_.few() == tokens && inputs.embeddings.size() == 0 && inputs.hidden.empty();
    if (graph_ == nullptr || !same_every_time) {
      enqueue();
    } else {
      auto key = batch_.launches();
      key.push_back(kv == nullptr ? 0 : kv->number());
      graph_->run(exec, key, enqueue);
    }
    if (!last_stage()) grid_.pp().send(exec, as_const(flat(pass_.x)), grid_.pp().rank() + 1);
    return pass_.x;
  }

  View2<float> logits(const Exec& exec) override {
    if (!last_stage()) return {};
    products_.serve(static_cast<Index>(batch_.last_rows().size()));  // as decoding, whatever a sequence brought
    return local_logits(exec, batch_.last_rows()).logits;
  }

  View2<float> logits(const Exec& exec, View1<const int> rows) override {
    if (!last_stage()) return {};
    products_.serve(0);
    return local_logits(exec, rows).logits;
  }

  std::vector<float> score(const Exec& exec, PagedKv* kv, const BatchItem& item,
                           std::span<const int> targets) override {
    if (targets.size() != item.ids.size())
      throw ShapeError("model: {} targets for {} tokens", targets.size(), item.ids.size());
    for (const int id : targets)
      if (id < 0 || id >= spec_.vocab_size)
        throw InputError("target {} is out of range, the vocabulary has {}", id, spec_.vocab_size);
    run(exec, kv, {.items = {&item, 1}});
    std::vector<float> nll(targets.size());
    if (last_stage()) {
      const Buffer<int> numbers("row numbers", std::ssize(targets)), ids("targets", std::ssize(targets));
      number_rows(exec, numbers.view());
      Kokkos::deep_copy(ids.view(), Kokkos::View<const int*, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>(
                                        targets.data(), targets.size()));
      for (Index first = 0; first < std::ssize(targets); first += limits_.logit_rows) {
        const Index count = std::min(limits_.logit_rows, static_cast<Index>(std::ssize(targets)) - first);
        score_rows(exec, View1<const int>(numbers.data() + first, count), View1<const int>(ids.data() + first, count),
                   nll.data() + first);
      }
    }
    grid_.pp().broadcast(nll.data(), static_cast<Index>(nll.size()), grid_.layout().pp - 1);
    return nll;
  }

private:
  [[nodiscard]] const Shard& shard() const { return parts_.shards[static_cast<std::size_t>(grid_.tp().rank())]; }
  [[nodiscard]] const ModelTensors<Weight>& weights() const { return parameters_.tensors(); }

  void give_weights() {
    for (Block& block : parts_.blocks) block.weights = weights().layers[static_cast<std::size_t>(block.number)];
  }

  /// On every rank, so that none waits for one that threw; what a rank does not write may be empty there.
  void check_shapes(const Inputs& inputs) const {
    const auto check = [&](const char* what, auto x) {
      if (static_cast<Index>(x.extent(0)) != batch_.tokens() || static_cast<Index>(x.extent(1)) != spec_.hidden_size)
        throw ShapeError("model: {} [{}, {}] for {} tokens of {}", what, x.extent(0), x.extent(1), batch_.tokens(),
                         spec_.hidden_size);
    };
    if (inputs.embeddings.size() != 0) check("embeddings", inputs.embeddings);
    for (const auto& hidden : inputs.hidden) {
      if (hidden.layer < 0 || hidden.layer >= spec_.layer_count())
        throw ShapeError("model: a hidden state after layer {}, there are {}", hidden.layer, spec_.layer_count());
      const bool here = parts_.layers.begin <= hidden.layer && hidden.layer < parts_.layers.end;
      if (here || hidden.out.size() != 0) check("a hidden state", hidden.out);
    }
  }

  /// Embeds, or takes what the stage before sent, and runs this stage's blocks.
  void run_stage(const Exec& exec, PagedKv* kv, const Inputs& inputs) {
    if (first_stage()) embed(exec, inputs);
    const auto cos_sin = positions_.cos_sin(exec, batch_, pass_);
    const BlockContext context{exec, grid_.tp(), products_, workspace_, workspace_, batch_, kv, cos_sin, partials_};
    for (const Block& block : parts_.blocks) {
      decoder_block<X>(context, block, pass_.x);
      for (const auto& hidden : inputs.hidden)
        if (hidden.layer == block.number) Kokkos::deep_copy(exec, hidden.out, pass_.x);
    }
  }

  void embed(const Exec& exec, const Inputs& inputs) {
    const EmbedContext context{exec, grid_.tp(), spec_, shard().vocabulary, batch_};
    if (inputs.embeddings.size() == 0) return grist::embed<X>(context, weights(), pass_);
    Kokkos::deep_copy(exec, pass_.x, inputs.embeddings);
    finish_embedding(context, weights(), pass_);
  }

  /// This rank's columns of the logits of some rows of x.
  LogitBuffers<X> local_logits(const Exec& exec, View1<const int> rows) {
    const Workspace::Scope scope(workspace_);  // what is taken stays as it is until something else is
    LogitBuffers<X> b(exec, workspace_, spec_, shard(), rows.size());
    pick_rows(exec, as_const(pass_.x), rows, b.picked);
    norm(exec, spec_.final_norm, as_const(b.picked), weights().final_norm, weights().final_norm_bias, b.normed);
    layers::linear(exec, products_, as_const(b.normed), weights().head, vector_of(weights().head_bias), b.logits);
    if (spec_.logit_scale != 1) layers::scale(exec, spec_.logit_scale, b.logits);
    if (spec_.logit_softcap != 0) layers::soft_cap(exec, spec_.logit_softcap, b.logits);
    return b;
  }

  void score_rows(const Exec& exec, View1<const int> rows, View1<const int> targets, float* nll) {
    products_.serve(0);
    const auto b = local_logits(exec, rows);
    layers::cross_entropy_highest(exec, as_const(b.logits), b.highest);
    grid_.tp().all_reduce(exec, b.highest, Reduction::max);
    layers::cross_entropy_sums(exec, as_const(b.logits), targets, shard().vocabulary.begin, as_const(b.highest), b.sums,
                               b.target_logits);
    grid_.tp().all_reduce(exec, b.sums);
    grid_.tp().all_reduce(exec, b.target_logits);
    exec.fence("grist::model: scores for the host");
    const auto h = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, b.highest);
    const auto s = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, b.sums);
    const auto t = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, b.target_logits);
    for (Index i = 0; i < static_cast<Index>(rows.size()); ++i)
      nll[i] = static_cast<float>(std::log(s(i)) + h(i) - t(i));
  }

  KvType kv_type_;
  ModelParts parts_;
  Products products_;
  std::unique_ptr<Graph> graph_;
  Parameters parameters_;
  Index partials_;
  Workspace workspace_;
  Batch batch_;
  PositionTables positions_;
  bool ran_ = false;
  std::optional<Workspace::Scope> frame_;  // of the last pass
  PassBuffers pass_;
};

}  // namespace

std::unique_ptr<Model> make_model(const ModelFiles& files, const ProcessGrid& grid, const ModelOptions& options) {
  const auto& layout = grid.layout();
  if (layout.dp * layout.cp * layout.ep != 1)
    throw UsageError("layout {}: a model runs over tp and pp", to_string(layout));
  check_threads();
  auto parts = parts_of(files, layout, grid.pp().rank(), grid.tp().rank(), options.numbers);
  switch (options.numbers.type) {
    case DType::f32: return std::make_unique<Decoder<float>>(files, grid, options, std::move(parts));
    case DType::bf16: return std::make_unique<Decoder<bf16>>(files, grid, options, std::move(parts));
    case DType::f16: break;
  }
  throw UsageError("models run in f32 or bf16, not in {}", name_of(options.numbers.type));
}

}  // namespace grist
