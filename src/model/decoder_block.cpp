#include <grist/model/decoder_block.hpp>

#include <grist/layers/activation.hpp>
#include <grist/layers/attention.hpp>
#include <grist/layers/experts.hpp>
#include <grist/layers/hadamard.hpp>
#include <grist/layers/linear.hpp>
#include <grist/layers/norm.hpp>
#include <grist/layers/norm_over_heads.hpp>
#include <grist/layers/residual.hpp>
#include <grist/layers/rope.hpp>

#include <algorithm>

namespace grist {

namespace {

/// Of the MLP.
Index rows_for(const Block& block, const PassSizes& s) {
  return s.tokens * std::max(1, block.spec.mlp.experts_per_token);
}

}  // namespace

template <class X>
AttentionBuffers<X>::AttentionBuffers(const Exec& exec, const BufferSpace& space, const Block& block,
                                      const PassSizes& s)
    : normed(space.again.take<X>(exec, "normed", s.stream(), s.hidden)),
      // Where q and k have norms, what comes before these is kept.
      qkv((block.spec.attention.qk_norm == QkNorm::none ? space.kept : space.again)
              .take<X>(exec, "qkv", s.tokens,
                       block.attention.head_dim * (block.attention.heads + 2 * block.attention.kv_heads))),
      attended(space.kept.take<X>(exec, "attended", s.tokens,
                                  Index{block.attention.heads} * block.attention.head_dim)),
      o(exec, space.kept, block.o, s.tp_rank, s.tokens) {
  if (block.spec.attention.qk_norm != QkNorm::all) return;
  q_squares = {exec, space.kept, s.tokens, block.heads, s.tp_rank};
  k_squares = {exec, space.kept, s.tokens, block.kv_heads, s.tp_rank};
}

template <class X>
MlpBuffers<X>::MlpBuffers(const Exec& exec, const BufferSpace& space, const Block& block, const PassSizes& s)
    : normed(space.again.take<X>(exec, "normed", block.spec.mlp.experts > 0 ? rows_for(block, s) : s.stream(),
                                 s.hidden)),
      gate_up(space.kept.take<X>(exec, "gate_up", rows_for(block, s),
                                 (block.spec.mlp.gated ? 2 : 1) * block.shard.intermediate.size())),
      activated(space.again.take<X>(exec, "activated", rows_for(block, s), block.shard.intermediate.size())),
      down(exec, space.kept, block.down, s.tp_rank, rows_for(block, s)) {}

ExpertBuffers::ExpertBuffers(const Exec& exec, Workspace& workspace, const MlpSpec& mlp, Index hidden, Index tokens)
    : logits(workspace.take<float>(exec, "router's logits", tokens, mlp.experts)),
      choices(workspace.take<int>(exec, "choices", tokens, mlp.experts_per_token)),
      weights(workspace.take<float>(exec, "weights", tokens, mlp.experts_per_token)),
      offsets(workspace.take<int>(exec, "offsets", mlp.experts + 1)),
      token_of(workspace.take<int>(exec, "token of row", tokens * mlp.experts_per_token)),
      row_of(workspace.take<int>(exec, "row of slot", tokens, mlp.experts_per_token)),
      rows(workspace.take<float>(exec, "experts' outputs", tokens * mlp.experts_per_token, hidden)) {}

template <class X>
SharedExpertBuffers<X>::SharedExpertBuffers(const Exec& exec, const BufferSpace& space, const Block& block,
                                            const PassSizes& s)
    : gate(space.kept.take<float>(exec, "shared expert's gate", s.tokens, block.spec.mlp.shared_gate ? 1 : 0)),
      gate_up(space.kept.take<X>(exec, "shared gate_up", s.tokens, 2 * block.shard.shared_intermediate.size())),
      activated(space.again.take<X>(exec, "shared activated", s.tokens, block.shard.shared_intermediate.size())),
      down(exec, space.kept, block.shared_down, s.tp_rank, s.tokens),
      output(space.kept.take<float>(exec, "shared expert's output", s.stream(), s.hidden)) {}

template <class Y>
void norm(const Exec& exec, const NormSpec& spec, View2<const float> x, const Weight& w, const Weight& b, View2<Y> y) {
  if (spec.kind == NormSpec::Kind::rms)
    layers::rms_norm(exec, x, vector_of(w), spec.eps, y);
  else
    layers::layer_norm(exec, x, vector_of(w), vector_of(b), spec.eps, y);
}

template <class T>
View2<const T> gathered(const BlockContext& c, View2<const T> share) {
  if (!c.shares.split()) return share;
  const auto all = c.scratch.take<T>(c.exec, "rows of all ranks", c.shares.tokens, static_cast<Index>(share.extent(1)));
  gather_tokens(c.exec, c.tp, c.shares, share, all);
  return as_const(all);
}

template <class X>
void pre_norm(const Exec& exec, const LayerSpec& spec, View2<const float> x, const Weight& w, const Weight& b,
              View2<X> y) {
  if (spec.pre_norm)
    norm(exec, spec.norm, x, w, b, y);
  else
    layers::no_norm(exec, x, y);
}

namespace {

/// Of q and k, of each head or over the heads of all ranks.
template <class X>
void qk_norm(const BlockContext& c, const Block& block, const AttentionBuffers<X>& b) {
  const auto& [exec, w, spec, heads] = std::tie(c.exec, block.weights, block.spec.attention, block.attention);
  const Index q_width = Index{heads.heads} * heads.head_dim;
  const float eps = block.spec.norm.eps;
  if (spec.qk_norm == QkNorm::head) {
    layers::rms_norm_heads(exec, 0, heads.heads, vector_of(w.q_norm), eps, b.qkv);
    layers::rms_norm_heads(exec, q_width, heads.kv_heads, vector_of(w.k_norm), eps, b.qkv);
  }
  if (spec.qk_norm != QkNorm::all) return;
  const auto over_heads = [&](const HeadSums& squares, Index first_column, const Weight& weight) {
    layers::head_sums(exec, as_const(b.qkv), as_const(b.qkv), first_column, heads.head_dim, {}, squares.mine);
    squares.gather(exec, c.tp);
    layers::rms_norm_over_heads(exec, as_const(squares.all), first_column, heads.head_dim, vector_of(weight), eps,
                                b.qkv);
  };
  over_heads(b.q_squares, 0, w.q_norm);
  over_heads(b.k_squares, q_width, w.k_norm);
}

}  // namespace

template <class X>
void turn_heads(const BlockContext& c, const Block& block, const AttentionBuffers<X>& b) {
  const auto& [spec, heads] = std::tie(block.spec.attention, block.attention);
  qk_norm(c, block, b);
  if (spec.position == Position::rope)
    layers::rope(c.exec, c.cos_sin[static_cast<std::size_t>(spec.rope)], heads.heads + heads.kv_heads, heads.head_dim,
                 b.qkv);
}

template <class X>
void activate(const Exec& exec, const MlpSpec& mlp, View2<const X> gate_up, View2<X> activated) {
  if (mlp.gated)
    layers::gated_activation(exec, mlp.activation, gate_up, activated);
  else
    layers::activation(exec, mlp.activation, gate_up, activated);
}

namespace {

/// Buffers are given back at the end of a scope, unless a backward pass will read them.
std::optional<Workspace::Scope> scope_of(Workspace& workspace, bool keep) {
  if (keep) return std::nullopt;
  return std::optional<Workspace::Scope>(std::in_place, workspace);
}

BufferSpace space_of(const BlockContext& c) { return {c.workspace, c.selective ? c.scratch : c.workspace}; }

PassSizes sizes_of(const BlockContext& c, View2<const float> x) {
  return {.hidden = static_cast<Index>(x.extent(1)),
          .tokens = c.shares.split() ? c.shares.tokens : static_cast<Index>(x.extent(0)),
          .shares = c.shares,
          .tp_rank = c.tp.rank()};
}

/// row_parallel of the stream: y is this rank's share of it.
template <class X, class Multiply>
void row_parallel(const BlockContext& c, const RowParallelPlan& plan, const RowParallelBuffers<X>& buffers,
                  View2<const X> x, Multiply&& multiply, View2<float> y) {
  if (!c.shares.split()) return grist::row_parallel(c.exec, c.tp, plan, buffers, x, multiply, y);
  const Workspace::Scope scope(c.scratch);
  const auto parts = c.scratch.take<float>(c.exec, "parts of sums", x.extent(0), y.extent(1));
  multiply(x, parts);
  reduce_tokens(c.exec, c.tp, c.shares, as_const(parts), y);
}

/// A copy in the workspace.
template <class T>
View2<T> copy_of(const BlockContext& c, std::string_view name, View2<T> x) {
  const auto copy = c.workspace.take<T>(c.exec, name, x.extent(0), x.extent(1));
  Kokkos::deep_copy(c.exec, copy, x);
  return copy;
}

/// delta = attention of this block's heads.
template <class X>
void attention_half(const BlockContext& c, const Block& block, View2<const float> x, View2<float> delta,
                    SavedBlock<X>* saved) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::attention_half");
  const Workspace::Scope again(c.scratch);
  const auto scope = scope_of(c.workspace, saved != nullptr);
  const auto& [exec, w, spec, heads] = std::tie(c.exec, block.weights, block.spec.attention, block.attention);
  const AttentionBuffers<X> b(exec, space_of(c), block, sizes_of(c, x));
  View2<float> lse;
  if (saved != nullptr) {
    saved->attention.emplace(b);
    saved->lse = lse = c.workspace.take<float>(exec, "log-sum-exp", heads.heads, b.qkv.extent(0));
  }
  pre_norm(exec, block.spec, x, w.attention_norm, w.attention_norm_bias, b.normed);
  layers::linear(exec, c.products, gathered(c, as_const(b.normed)), w.qkv, vector_of(w.qkv_bias), b.qkv);
  if (saved != nullptr && spec.qk_norm != QkNorm::none) saved->raw_qkv = copy_of(c, "raw qkv", b.qkv);
  turn_heads(c, block, b);
  KvPages kv;
  if (c.kv != nullptr) {
    if (c.kv->type() == KvType::int8)  // a few large channels of keys would leave the others few bits
      layers::hadamard(exec, heads.heads + heads.kv_heads, heads.head_dim, b.qkv);
    c.kv->append(exec, block.number, as_const(b.qkv), c.batch);
    kv = c.kv->view(block.number, c.batch);
  } else {
    kv = layers::packed_kv(heads, as_const(b.qkv), c.batch.query_begin());
  }
  {
    const Workspace::Scope scratch(c.scratch);
    const auto partials = c.scratch.take<float>(exec, "attention's partial results", c.partials);
    layers::attention(exec, heads, as_const(b.qkv), kv, c.batch.packed(block.pool), partials, b.attended, lse);
  }
  row_parallel(c, block.o, b.o, as_const(b.attended),
               [&](View2<const X> in, View2<float> out) { layers::linear(exec, c.products, in, w.o, {}, out); }, delta);
  if (!w.o_bias.empty()) layers::add_bias(exec, vector_of(w.o_bias), delta);
  if (saved != nullptr && block.spec.post_norm) saved->attention_output = copy_of(c, "attention's output", delta);
  if (block.spec.post_norm)
    norm(exec, block.spec.norm, as_const(delta), w.attention_post_norm, w.attention_post_norm_bias, delta);
}

/// delta = the MLP of normed.
template <class X>
void dense_mlp(const BlockContext& c, const Block& block, const MlpBuffers<X>& b, View2<float> delta) {
  const auto& w = block.weights;
  layers::linear(c.exec, c.products, gathered(c, as_const(b.normed)), w.gate_up, vector_of(w.gate_up_bias), b.gate_up);
  activate(c.exec, block.spec.mlp, as_const(b.gate_up), b.activated);
  row_parallel(
      c, block.down, b.down, as_const(b.activated),
      [&](View2<const X> in, View2<float> out) { layers::linear(c.exec, c.products, in, w.down, {}, out); }, delta);
  if (!w.down_bias.empty()) layers::add_bias(c.exec, vector_of(w.down_bias), delta);
}

/// delta = the chosen experts' outputs, weighted. Experts are split over tp whole, or each inside (LayerShard).
template <class X>
void expert_mlp(const BlockContext& c, const Block& block, const MlpBuffers<X>& b, View2<const X> normed,
                View2<float> delta, SavedBlock<X>* saved) {
  const auto& [exec, w, shard, mlp] = std::tie(c.exec, block.weights, block.shard, block.spec.mlp);
  const auto scope = scope_of(c.workspace, saved != nullptr);
  const ExpertBuffers e(exec, c.workspace, mlp, static_cast<Index>(normed.extent(1)),
                        static_cast<Index>(normed.extent(0)));
  if (saved != nullptr) saved->experts.emplace(e);
  layers::linear(exec, c.products, normed, w.router, {}, e.logits);
  layers::choose_experts(exec, as_const(e.logits), mlp.renormalize, e.choices, e.weights);
  if (c.balance.sums.size() != 0) {
    const Workspace::Scope scratch(c.scratch);
    const auto partial = c.scratch.take<float>(
        exec, "sums of choices", layers::load_balancing_scratch(static_cast<Index>(normed.extent(0)), mlp.experts));
    layers::load_balancing_sums(exec, as_const(e.logits), as_const(e.choices), {}, partial, c.balance.sums);
  }
  layers::sort_by_expert(exec, as_const(e.choices), e.offsets, e.token_of, e.row_of);
  layers::dispatch(exec, normed, as_const(e.token_of), b.normed);
  const View1<const int> offsets(e.offsets.data() + shard.experts.begin, shard.experts.size() + 1);
  c.products.grouped(exec, as_const(b.normed), offsets, w.gate_up, b.gate_up, as_const(e.token_of));
  activate(exec, mlp, as_const(b.gate_up), b.activated);
  const auto down = [&](View2<const X> in, View2<float> out) {
    c.products.grouped(exec, in, offsets, w.down, out, as_const(e.token_of));
  };
  if (shard.experts.size() == mlp.experts) {
    grist::row_parallel(exec, c.tp, block.down, b.down, as_const(b.activated), down, e.rows);
  } else {
    Kokkos::deep_copy(exec, flat(e.rows), 0.0F);  // each row is made by one rank
    down(as_const(b.activated), e.rows);
    c.tp.all_reduce(exec, flat(e.rows));
  }
  layers::combine(exec, as_const(e.rows), as_const(share_of(c, e.row_of)), as_const(share_of(c, e.weights)), delta);
}

/// delta += the expert that every token takes.
template <class X>
void shared_expert(const BlockContext& c, const Block& block, View2<const X> normed, View2<float> delta,
                   SavedBlock<X>* saved) {
  const auto& [exec, w, mlp] = std::tie(c.exec, block.weights, block.spec.mlp);
  const auto scope = scope_of(c.workspace, saved != nullptr);
  const SharedExpertBuffers<X> b(exec, space_of(c), block, sizes_of(c, as_const(delta)));
  if (saved != nullptr) saved->shared.emplace(b);
  layers::linear(exec, c.products, normed, w.shared_gate_up, {}, b.gate_up);
  layers::gated_activation(exec, mlp.activation, as_const(b.gate_up), b.activated);
  row_parallel(
      c, block.shared_down, b.down, as_const(b.activated),
      [&](View2<const X> in, View2<float> out) { layers::linear(exec, c.products, in, w.shared_down, {}, out); },
      b.output);
  if (mlp.shared_gate) layers::linear(exec, c.products, normed, w.shared_gate, {}, b.gate);
  layers::add_shared(exec, as_const(b.output), as_const(flat(share_of(c, b.gate))), delta);
}

/// delta = mlp(norm(x)).
template <class X>
void mlp_half(const BlockContext& c, const Block& block, View2<const float> x, View2<float> delta,
              SavedBlock<X>* saved) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::mlp_half");
  const Workspace::Scope again(c.scratch);
  const auto scope = scope_of(c.workspace, saved != nullptr);
  const auto& [exec, w, spec] = std::tie(c.exec, block.weights, block.spec);
  const Weight& weight = spec.shared_norm ? w.attention_norm : w.mlp_norm;
  const Weight& bias = spec.shared_norm ? w.attention_norm_bias : w.mlp_norm_bias;
  const BufferSpace space = space_of(c);
  const PassSizes sizes = sizes_of(c, x);
  if (spec.mlp.experts == 0) {
    const MlpBuffers<X> b(exec, space, block, sizes);
    if (saved != nullptr) saved->mlp.emplace(b);
    pre_norm(exec, spec, x, weight, bias, b.normed);
    dense_mlp(c, block, b, delta);
  } else {
    const auto normed = space.again.take<X>(exec, "normed", sizes.stream(), sizes.hidden);
    const MlpBuffers<X> b(exec, space, block, sizes);
    if (saved != nullptr) saved->mlp_normed = normed, saved->mlp.emplace(b);
    pre_norm(exec, spec, x, weight, bias, normed);
    const auto all = gathered(c, as_const(normed));
    expert_mlp(c, block, b, all, delta, saved);
    if (spec.mlp.shared_intermediate > 0) shared_expert(c, block, all, delta, saved);
  }
  if (saved != nullptr && spec.post_norm) saved->mlp_output = copy_of(c, "the MLP's output", delta);
  if (spec.post_norm) norm(exec, spec.norm, as_const(delta), w.mlp_post_norm, w.mlp_post_norm_bias, delta);
}

}  // namespace

template <class X>
void decoder_block(const BlockContext& c, const Block& block, View2<float> x, SavedBlock<X>* saved) {
  const Workspace::Scope scope(c.scratch);
  if (saved != nullptr) saved->x = copy_of(c, "block's input", x);
  const auto attended = c.scratch.take<float>(c.exec, "attention's output", x.extent(0), x.extent(1));
  attention_half<X>(c, block, as_const(x), attended, saved);
  if (!block.spec.parallel) {
    layers::residual(c.exec, as_const(attended), x);
    if (saved != nullptr && keeps_mlp_input(block.spec, c.selective)) saved->mlp_x = copy_of(c, "the MLP's input", x);
    mlp_half<X>(c, block, as_const(x), attended, saved);
    layers::residual(c.exec, as_const(attended), x);
    return;
  }
  const auto activated = c.scratch.take<float>(c.exec, "the MLP's output", x.extent(0), x.extent(1));
  mlp_half<X>(c, block, as_const(x), activated, saved);
  layers::residual(c.exec, as_const(attended), x);
  layers::residual(c.exec, as_const(activated), x);
}

template <class X>
std::size_t block_bytes(const Exec& exec, const Block& block, const PassSizes& s, Index partials) {
  Workspace workspace = Workspace::counting();
  const BufferSpace space{workspace, workspace};
  const MlpSpec& mlp = block.spec.mlp;
  const auto gathers = [&] {
    if (s.shares.split()) workspace.take<X>(exec, "rows of all ranks", s.tokens, s.hidden);
  };
  const auto row_parallel = [&] {
    const Workspace::Scope scope(workspace);
    if (s.shares.split()) workspace.take<float>(exec, "parts of sums", s.tokens, s.hidden);
  };
  for (int i = 0; i < (block.spec.parallel ? 2 : 1); ++i) workspace.take<float>(exec, "output", s.stream(), s.hidden);
  {
    const Workspace::Scope scope(workspace);
    AttentionBuffers<X>(exec, space, block, s);
    gathers();
    row_parallel();
    workspace.take<float>(exec, "attention's partial results", partials);
  }
  const Workspace::Scope scope(workspace);
  gathers();
  row_parallel();
  if (mlp.experts > 0) workspace.take<X>(exec, "normed", s.stream(), s.hidden);
  MlpBuffers<X>(exec, space, block, s);
  if (mlp.experts > 0) {
    const Workspace::Scope experts(workspace);
    ExpertBuffers(exec, workspace, mlp, s.hidden, s.tokens);
    if (s.balanced) workspace.take<float>(exec, "sums", layers::load_balancing_scratch(s.tokens, mlp.experts));
  }
  if (mlp.shared_intermediate > 0) SharedExpertBuffers<X>(exec, space, block, s);
  row_parallel();
  return workspace.peak();
}

template <class X>
std::size_t saved_bytes(const Exec& exec, const Block& block, const PassSizes& s) {
  Workspace kept = Workspace::counting(), scratch = Workspace::counting();
  const BufferSpace space{kept, s.selective ? scratch : kept};
  const auto stream = [&] { kept.take<float>(exec, "stream", s.stream(), s.hidden); };
  const MlpSpec& mlp = block.spec.mlp;
  stream();
  const AttentionBuffers<X> attention(exec, space, block, s);
  kept.take<float>(exec, "log-sum-exp", block.attention.heads, s.tokens);
  if (block.spec.attention.qk_norm != QkNorm::none)
    kept.take<X>(exec, "raw qkv", s.tokens, static_cast<Index>(attention.qkv.extent(1)));
  if (block.spec.post_norm) stream(), stream();
  if (keeps_mlp_input(block.spec, s.selective)) stream();
  if (mlp.experts > 0) space.again.take<X>(exec, "normed", s.stream(), s.hidden);
  MlpBuffers<X>(exec, space, block, s);
  if (mlp.experts > 0) ExpertBuffers(exec, kept, mlp, s.hidden, s.tokens);
  if (mlp.shared_intermediate > 0) SharedExpertBuffers<X>(exec, space, block, s);
  return kept.peak();
}

#define GRIST_INSTANTIATE(X)                                                                          \
  template void norm(const Exec&, const NormSpec&, View2<const float>, const Weight&, const Weight&, View2<X>); \
  template View2<const X> gathered(const BlockContext&, View2<const X>);                               \
  template void pre_norm(const Exec&, const LayerSpec&, View2<const float>, const Weight&, const Weight&, View2<X>); \
  template void turn_heads(const BlockContext&, const Block&, const AttentionBuffers<X>&);             \
  template void activate(const Exec&, const MlpSpec&, View2<const X>, View2<X>);                       \
  template void decoder_block<X>(const BlockContext&, const Block&, View2<float>, SavedBlock<X>*);     \
  template std::size_t saved_bytes<X>(const Exec&, const Block&, const PassSizes&);                    \
  template std::size_t block_bytes<X>(const Exec&, const Block&, const PassSizes&, Index);
GRIST_INSTANTIATE(float)
GRIST_INSTANTIATE(bf16)
#undef GRIST_INSTANTIATE

}  // namespace grist
