#include <grist/model/decoder_block.hpp>

#include <grist/layers/activation.hpp>
#include <grist/layers/attention.hpp>
#include <grist/layers/experts.hpp>
#include <grist/layers/linear.hpp>
#include <grist/layers/norm.hpp>
#include <grist/layers/norm_over_heads.hpp>
#include <grist/layers/residual.hpp>
#include <grist/layers/rope.hpp>

#include <algorithm>

namespace grist {

View1<float> vector_of(View3<float> gradient) { return View1<float>(gradient.data(), gradient.size()); }

View2<float> matrix_of(View3<float> gradient) {
  return View2<float>(gradient.data(), gradient.extent(0) * gradient.extent(1), gradient.extent(2));
}

void norm_backward(const Exec& exec, Workspace& workspace, const NormSpec& spec, View2<const float> x, const Weight& w,
                   View2<const float> dy, View2<float> dx, View3<float> dw, View3<float> db) {
  const Workspace::Scope scope(workspace);
  const auto sums = workspace.take<float>(
      exec, "sums of a norm",
      layers::norm_backward_scratch(static_cast<Index>(x.extent(0)), static_cast<Index>(x.extent(1))));
  if (spec.kind == NormSpec::Kind::rms)
    layers::rms_norm_backward(exec, x, vector_of(w), spec.eps, dy, sums, dx, vector_of(dw));
  else
    layers::layer_norm_backward(exec, x, vector_of(w), spec.eps, dy, sums, dx, vector_of(dw), vector_of(db));
}

namespace {

template <class T>
View2<T> take_like(const BlockContext& c, std::string_view name, View2<T> like) {
  return c.scratch.take<T>(c.exec, name, like.extent(0), like.extent(1));
}

/// The buffers of a forward pass, with those computed again that it did not keep.
template <class X>
AttentionBuffers<X> attention_again(const BlockContext& c, const Block& block, const SavedBlock<X>& saved) {
  AttentionBuffers<X> b = *saved.attention;
  if (!c.selective) return b;
  const auto& w = block.weights;
  b.normed = take_like(c, "normed again", b.normed);
  pre_norm(c.exec, block.spec, as_const(saved.x), w.attention_norm, w.attention_norm_bias, b.normed);
  if (block.spec.attention.qk_norm == QkNorm::none) return b;
  b.qkv = take_like(c, "qkv again", b.qkv);
  Kokkos::deep_copy(c.exec, b.qkv, saved.raw_qkv);
  turn_heads(c, block, b);
  return b;
}

template <class Y>
void bias_backward(const BlockContext& c, View2<const Y> dy, View3<float> db) {
  if (db.size() == 0) return;
  const Workspace::Scope scope(c.scratch);
  const auto sums = c.scratch.take<float>(
      c.exec, "sums of a bias",
      layers::bias_backward_scratch(static_cast<Index>(dy.extent(0)), static_cast<Index>(dy.extent(1))));
  layers::bias_backward(c.exec, dy, sums, vector_of(db));
}

/// The sum over tp of what each rank's columns give [tokens, hidden], of this rank's tokens of the stream.
View2<float> summed(const BlockContext& c, View2<float> parts) {
  if (!c.shares.split()) {
    c.tp.all_reduce(c.exec, flat(parts));
    return parts;
  }
  const auto mine =
      c.scratch.take<float>(c.exec, "share of a gradient", c.shares.of(c.tp.rank()).size(), parts.extent(1));
  reduce_tokens(c.exec, c.tp, c.shares, as_const(parts), mine);
  return mine;
}

/// The gradient of a half's output, behind its norm: dy itself where there is none.
View2<const float> post_norm_backward(const BlockContext& c, const LayerSpec& spec, View2<const float> output,
                                      const Weight& w, View2<const float> dy, View3<float> dw, View3<float> db) {
  if (!spec.post_norm) return dy;
  const auto dx = c.scratch.take<float>(c.exec, "gradient before a norm", dy.extent(0), dy.extent(1));
  Kokkos::deep_copy(c.exec, flat(dx), 0.0F);
  norm_backward(c.exec, c.scratch, spec.norm, output, w, dy, dx, dw, db);
  return as_const(dx);
}

/// dx += the gradient through the norm in front of a half.
void pre_norm_backward(const BlockContext& c, const LayerSpec& spec, View2<const float> x, const Weight& w,
                       View2<const float> dy, View2<float> dx, View3<float> dw, View3<float> db) {
  if (spec.pre_norm)
    norm_backward(c.exec, c.scratch, spec.norm, x, w, dy, dx, dw, db);
  else
    layers::residual(c.exec, dy, dx);
}

/// As the products take it.
template <class X>
View2<const X> rounded(const BlockContext& c, View2<const float> dy) {
  const auto y = c.scratch.take<X>(c.exec, "rounded gradient", dy.extent(0), dy.extent(1));
  layers::no_norm(c.exec, dy, y);
  return as_const(y);
}

/// dqkv of the norms of q and k, in place.
template <class X>
void qk_norm_backward(const BlockContext& c, const Block& block, const AttentionBuffers<X>& saved, View2<const X> raw,
                      const LayerTensors<View3<float>>& g, View2<X> dqkv) {
  const auto& [spec, heads, w] = std::tie(block.spec.attention, block.attention, block.weights);
  const Index tokens = raw.extent(0), q_width = Index{heads.heads} * heads.head_dim;
  const float eps = block.spec.norm.eps;
  const auto sums_for = [&](Index rows, const Weight& norm) {
    return c.scratch.take<float>(c.exec, "sums of a norm", layers::norm_backward_scratch(rows, norm.rows));
  };
  const auto each = [&](Index first_column, int count, const Weight& norm, View3<float> dw) {
    const Workspace::Scope scope(c.scratch);
    layers::rms_norm_heads_backward(c.exec, raw, first_column, count, vector_of(norm), eps,
                                    sums_for(tokens * count, norm), dqkv, vector_of(dw));
  };
  const auto over_all = [&](Index first_column, const std::vector<Range>& ranks, const HeadSums& squares,
                            const Weight& norm, View3<float> dw) {
    const Workspace::Scope scope(c.scratch);
    const HeadSums along(c.exec, c.scratch, tokens, ranks, c.tp.rank(), true);
    const auto holders = std::ranges::count(ranks, ranks[static_cast<std::size_t>(c.tp.rank())]);
    layers::head_sums(c.exec, raw, as_const(dqkv), first_column, heads.head_dim, vector_of(norm), along.mine);
    along.gather(c.exec, c.tp);
    layers::rms_norm_over_heads_backward(c.exec, raw, as_const(squares.all), as_const(along.all),
                                         1.0F / static_cast<float>(holders), first_column, heads.head_dim,
                                         vector_of(norm), eps, sums_for(tokens, norm), dqkv, vector_of(dw));
  };
  if (spec.qk_norm == QkNorm::head) {
    each(0, heads.heads, w.q_norm, g.q_norm);
    each(q_width, heads.kv_heads, w.k_norm, g.k_norm);
  }
  if (spec.qk_norm == QkNorm::all) {
    over_all(0, block.heads, saved.q_squares, w.q_norm, g.q_norm);
    over_all(q_width, block.kv_heads, saved.k_squares, w.k_norm, g.k_norm);
  }
}

/// The bias of q, k and v; one of them that the model lacks stays zero.
template <class X>
void qkv_bias_backward(const BlockContext& c, const Block& block, View2<const X> dqkv, View3<float> db) {
  if (db.size() == 0) return;
  bias_backward(c, dqkv, db);
  const auto& [spec, heads] = std::tie(block.spec.attention, block.attention);
  const Index q = Index{heads.heads} * heads.head_dim, kv = Index{heads.kv_heads} * heads.head_dim;
  if (!spec.q_bias) Kokkos::deep_copy(c.exec, View1<float>(db.data(), q), 0.0F);
  if (!spec.k_bias) Kokkos::deep_copy(c.exec, View1<float>(db.data() + q, kv), 0.0F);
  if (!spec.v_bias) Kokkos::deep_copy(c.exec, View1<float>(db.data() + q + kv, kv), 0.0F);
}

/// dx += the gradient through attention of ddelta, the gradient of its output.
template <class X>
void attention_half_backward(const BlockContext& c, const Block& block, const SavedBlock<X>& saved,
                             const LayerTensors<View3<float>>& g, View2<const float> ddelta, View2<float> dx) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::attention_half::backward");
  const Workspace::Scope scope(c.scratch);
  const auto& [exec, w, spec, heads] = std::tie(c.exec, block.weights, block.spec.attention, block.attention);
  const AttentionBuffers<X> b = attention_again(c, block, saved);
  const Index tokens = b.qkv.extent(0), hidden = dx.extent(1);
  const auto dy = post_norm_backward(c, block.spec, as_const(saved.attention_output), w.attention_post_norm, ddelta,
                                     g.attention_post_norm, g.attention_post_norm_bias);
  bias_backward(c, dy, g.o_bias);
  const auto dattended = c.scratch.take<X>(exec, "gradient of attended", tokens, b.attended.extent(1));
  layers::linear_backward(exec, c.products, as_const(b.attended), w.o, gathered(c, rounded<X>(c, dy)), dattended,
                          matrix_of(g.o));
  const auto dqkv = c.scratch.take<X>(exec, "gradient of qkv", tokens, b.qkv.extent(1));
  {
    const Workspace::Scope scratch(c.scratch);
    const auto partials = c.scratch.take<float>(
        exec, "attention's gradients", attention_backward_scratch(heads, {tokens, c.batch.sequences(), tokens}));
    layers::attention_backward(exec, heads, as_const(b.qkv), as_const(b.attended), as_const(saved.lse),
                               as_const(dattended), c.batch.query_begin(), partials, dqkv);
  }
  if (spec.position == Position::rope)
    layers::rope_backward(exec, c.cos_sin[static_cast<std::size_t>(spec.rope)],
                          heads.heads + heads.kv_heads, heads.head_dim, dqkv);
  qk_norm_backward(c, block, b, as_const(saved.raw_qkv), g, dqkv);
  qkv_bias_backward(c, block, as_const(dqkv), g.qkv_bias);
  const auto dnormed = c.scratch.take<float>(exec, "gradient of normed", tokens, hidden);
  layers::linear_backward(exec, c.products, gathered(c, as_const(b.normed)), w.qkv, as_const(dqkv), dnormed,
                          matrix_of(g.qkv));
  pre_norm_backward(c, block.spec, as_const(saved.x), w.attention_norm, as_const(summed(c, dnormed)), dx,
                    g.attention_norm, g.attention_norm_bias);
}

template <class X>
void activation_backward(const Exec& exec, const MlpSpec& mlp, View2<const X> gate_up, View2<const X> dy,
                         View2<X> d_gate_up) {
  if (mlp.gated)
    layers::gated_activation_backward(exec, mlp.activation, gate_up, dy, d_gate_up);
  else
    layers::activation_backward(exec, mlp.activation, gate_up, dy, d_gate_up);
}

/// dnormed = the part of the gradient that this rank's columns give.
template <class X>
void dense_mlp_backward(const BlockContext& c, const Block& block, const SavedBlock<X>& saved, View2<const X> normed,
                        const LayerTensors<View3<float>>& g, View2<const float> dy, View2<float> dnormed) {
  const auto& [exec, w] = std::tie(c.exec, block.weights);
  const Workspace::Scope scope(c.scratch);
  MlpBuffers<X> b = *saved.mlp;
  const Index tokens = b.gate_up.extent(0);
  if (c.selective) {
    b.activated = take_like(c, "activated again", b.activated);
    activate(exec, block.spec.mlp, as_const(b.gate_up), b.activated);
  }
  bias_backward(c, dy, g.down_bias);
  const auto dactivated = c.scratch.take<X>(exec, "gradient of activated", tokens, b.activated.extent(1));
  layers::linear_backward(exec, c.products, as_const(b.activated), w.down, gathered(c, rounded<X>(c, dy)), dactivated,
                          matrix_of(g.down));
  const auto d_gate_up = c.scratch.take<X>(exec, "gradient of gate_up", tokens, b.gate_up.extent(1));
  activation_backward(exec, block.spec.mlp, as_const(b.gate_up), as_const(dactivated), d_gate_up);
  bias_backward(c, as_const(d_gate_up), g.gate_up_bias);
  layers::linear_backward(exec, c.products, normed, w.gate_up, as_const(d_gate_up), dnormed, matrix_of(g.gate_up));
}

/// dnormed = the part of this rank's experts, dwhole = what every rank has whole: the router's; from dy of all tokens.
template <class X>
void expert_mlp_backward(const BlockContext& c, const Block& block, const SavedBlock<X>& saved, View2<const X> normed,
                         const LayerTensors<View3<float>>& g, View2<const float> dy, View2<float> dnormed,
                         View2<float> dwhole) {
  const auto& [exec, w, shard, mlp] = std::tie(c.exec, block.weights, block.shard, block.spec.mlp);
  const Workspace::Scope scope(c.scratch);
  MlpBuffers<X> b = *saved.mlp;
  const ExpertBuffers& e = *saved.experts;
  if (c.selective) {
    b.normed = take_like(c, "normed again", b.normed);
    b.activated = take_like(c, "activated again", b.activated);
    layers::dispatch(exec, normed, as_const(e.token_of), b.normed);
    activate(exec, mlp, as_const(b.gate_up), b.activated);
  }
  const Index tokens = dy.extent(0), hidden = dy.extent(1), rows = b.normed.extent(0), slots = e.choices.extent(1);
  const View1<const int> offsets(e.offsets.data() + shard.experts.begin, shard.experts.size() + 1);
  const auto drows = c.scratch.take<X>(exec, "gradient of experts' outputs", rows, hidden);
  const auto dweights = c.scratch.take<float>(exec, "gradient of experts' weights", tokens, slots);
  layers::combine_backward(exec, as_const(e.rows), as_const(e.row_of), as_const(e.weights), dy, drows, dweights);
  const auto dactivated = c.scratch.take<X>(exec, "gradient of activated", rows, b.activated.extent(1));
  c.products.grouped_backward(exec, as_const(drows), offsets, w.down, dactivated);
  c.products.grouped_weights_backward(exec, as_const(drows), as_const(b.activated), offsets, g.down);
  const auto d_gate_up = c.scratch.take<X>(exec, "gradient of gate_up", rows, b.gate_up.extent(1));
  activation_backward(exec, mlp, as_const(b.gate_up), as_const(dactivated), d_gate_up);
  const auto dinputs = c.scratch.take<X>(exec, "gradient of experts' inputs", rows, hidden);
  Kokkos::deep_copy(exec, flat(dinputs), X(0.0F));  // rows of experts that other ranks have
  c.products.grouped_backward(exec, as_const(d_gate_up), offsets, w.gate_up, dinputs);
  c.products.grouped_weights_backward(exec, as_const(d_gate_up), as_const(b.normed), offsets, g.gate_up);
  layers::dispatch_backward(exec, as_const(dinputs), as_const(e.row_of), dnormed);
  const auto dlogits = c.scratch.take<float>(exec, "gradient of the router's logits", tokens, mlp.experts);
  layers::choose_experts_backward(exec, as_const(e.logits), mlp.renormalize, as_const(e.choices), as_const(e.weights),
                                  as_const(dweights), dlogits);
  if (c.balance.all.size() != 0)
    layers::load_balancing_backward(exec, as_const(e.logits), {}, c.balance.all, slots, c.balance.factor, dlogits);
  layers::linear_backward(exec, c.products, normed, w.router, rounded<X>(c, as_const(dlogits)), dwhole,
                          matrix_of(g.router));
}

/// dnormed += the part of this rank's columns of the shared expert, dwhole += its gate's; from dy of the stream.
template <class X>
void shared_expert_backward(const BlockContext& c, const Block& block, const SavedBlock<X>& saved,
                            View2<const X> normed, const LayerTensors<View3<float>>& g, View2<const float> dy,
                            View2<float> dnormed, View2<float> dwhole) {
  const auto& [exec, w, mlp] = std::tie(c.exec, block.weights, block.spec.mlp);
  const Workspace::Scope scope(c.scratch);
  SharedExpertBuffers<X> b = *saved.shared;
  if (c.selective) {
    b.activated = take_like(c, "shared activated again", b.activated);
    layers::gated_activation(exec, mlp.activation, as_const(b.gate_up), b.activated);
  }
  const Index tokens = b.gate_up.extent(0), hidden = dy.extent(1);
  const auto doutput = c.scratch.take<X>(exec, "gradient of the shared expert", dy.extent(0), hidden);
  const auto dgate = c.scratch.take<float>(exec, "gradient of its gate", dy.extent(0), b.gate.extent(1));
  layers::add_shared_backward(exec, as_const(b.output), as_const(flat(share_of(c, b.gate))), dy, doutput, flat(dgate));
  const auto dactivated = c.scratch.take<X>(exec, "gradient of activated", tokens, b.activated.extent(1));
  layers::linear_backward(exec, c.products, as_const(b.activated), w.shared_down, gathered(c, as_const(doutput)),
                          dactivated, matrix_of(g.shared_down));
  const auto d_gate_up = c.scratch.take<X>(exec, "gradient of gate_up", tokens, b.gate_up.extent(1));
  layers::gated_activation_backward(exec, mlp.activation, as_const(b.gate_up), as_const(dactivated), d_gate_up);
  const auto part = c.scratch.take<float>(exec, "part of a gradient", tokens, hidden);
  layers::linear_backward(exec, c.products, normed, w.shared_gate_up, as_const(d_gate_up), part,
                          matrix_of(g.shared_gate_up));
  layers::residual(exec, as_const(part), dnormed);
  if (!mlp.shared_gate) return;
  layers::linear_backward(exec, c.products, normed, w.shared_gate, gathered(c, rounded<X>(c, as_const(dgate))), part,
                          matrix_of(g.shared_gate));
  layers::residual(exec, as_const(part), dwhole);
}

/// x + norm(attention's output): computed again where both are kept (keeps_mlp_input).
template <class X>
View2<const float> mlp_input(const BlockContext& c, const Block& block, const SavedBlock<X>& saved) {
  if (keeps_mlp_input(block.spec, c.selective)) return as_const(saved.mlp_x);
  if (block.spec.parallel) return as_const(saved.x);
  const auto& w = block.weights;
  const auto x = take_like(c, "the MLP's input again", saved.x);
  const auto delta = take_like(c, "attention's output again", saved.x);
  norm(c.exec, block.spec.norm, as_const(saved.attention_output), w.attention_post_norm, w.attention_post_norm_bias,
       delta);
  Kokkos::deep_copy(c.exec, x, saved.x);
  layers::residual(c.exec, as_const(delta), x);
  return as_const(x);
}

/// dx += the gradient through the MLP of ddelta, the gradient of its output.
template <class X>
void mlp_half_backward(const BlockContext& c, const Block& block, const SavedBlock<X>& saved,
                       const LayerTensors<View3<float>>& g, View2<const float> ddelta, View2<float> dx) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::mlp_half::backward");
  const Workspace::Scope scope(c.scratch);
  const auto& [exec, w, spec] = std::tie(c.exec, block.weights, block.spec);
  const Index stream = dx.extent(0), hidden = dx.extent(1), tokens = c.shares.split() ? c.shares.tokens : stream;
  const bool shared = spec.shared_norm;
  const Weight &weight = shared ? w.attention_norm : w.mlp_norm,
               &bias = shared ? w.attention_norm_bias : w.mlp_norm_bias;
  const auto x = mlp_input(c, block, saved);
  auto normed = spec.mlp.experts == 0 ? saved.mlp->normed : saved.mlp_normed;
  if (c.selective) {
    normed = c.scratch.take<X>(exec, "normed again", stream, hidden);
    pre_norm(exec, spec, x, weight, bias, normed);
  }
  const auto all = gathered(c, as_const(normed));
  const auto dy = post_norm_backward(c, spec, as_const(saved.mlp_output), w.mlp_post_norm, ddelta, g.mlp_post_norm,
                                     g.mlp_post_norm_bias);
  const auto parts = c.scratch.take<float>(exec, "parts of the gradient of normed", tokens, hidden);
  View2<float> dnormed;
  if (spec.mlp.experts == 0) {
    dense_mlp_backward(c, block, saved, all, g, dy, parts);
    dnormed = summed(c, parts);
  } else {
    const auto dwhole = c.scratch.take<float>(exec, "gradient that is whole", tokens, hidden);
    expert_mlp_backward(c, block, saved, all, g, gathered(c, dy), parts, dwhole);
    if (spec.mlp.shared_intermediate > 0) shared_expert_backward(c, block, saved, all, g, dy, parts, dwhole);
    dnormed = summed(c, parts);
    layers::residual(exec, as_const(share_of(c, dwhole)), dnormed);
  }
  pre_norm_backward(c, spec, x, weight, as_const(dnormed), dx, shared ? g.attention_norm : g.mlp_norm,
                    shared ? g.attention_norm_bias : g.mlp_norm_bias);
}

}  // namespace

template <class X>
void decoder_block_backward(const BlockContext& c, const Block& block, const SavedBlock<X>& saved,
                            const LayerTensors<View3<float>>& gradients, View2<float> dx) {
  const Workspace::Scope scope(c.scratch);
  // Of halves in turn, a half's output has the gradient of the stream behind it, which each half then adds to.
  const auto ddelta = c.scratch.take<float>(c.exec, "gradient of an output", dx.extent(0), dx.extent(1));
  Kokkos::deep_copy(c.exec, ddelta, dx);
  mlp_half_backward(c, block, saved, gradients, as_const(ddelta), dx);
  if (!block.spec.parallel) Kokkos::deep_copy(c.exec, ddelta, dx);
  attention_half_backward(c, block, saved, gradients, as_const(ddelta), dx);
}

template <class X>
std::size_t backward_bytes(const Exec& exec, const Block& block, const PassSizes& s) {
  const auto& [spec, mlp, heads] = std::tie(block.spec, block.spec.mlp, block.attention);
  const Index tokens = s.tokens, hidden = s.hidden, own = s.stream();
  Workspace w = Workspace::counting();
  const auto stream = [&](int count) { w.take<float>(exec, "stream", own * count, hidden); };
  const auto whole = [&](int count) { w.take<float>(exec, "all tokens", tokens * count, hidden); };
  const auto gathers = [&] {
    if (s.shares.split()) w.take<X>(exec, "rows of all ranks", tokens, hidden);
  };
  const auto norm = [&](Index rows, Index size) {
    const Workspace::Scope scope(w);
    w.take<float>(exec, "sums",
                  std::max(layers::norm_backward_scratch(rows, size), layers::bias_backward_scratch(rows, size)));
  };
  stream(1);
  {
    const Workspace::Scope half(w);
    const Index width = Index{heads.head_dim} * (heads.heads + 2 * heads.kv_heads);
    if (s.selective) w.take<X>(exec, "normed again", own, hidden);
    if (s.selective && spec.attention.qk_norm != QkNorm::none) w.take<X>(exec, "qkv again", tokens, width);
    stream(spec.post_norm ? 1 : 0);
    w.take<X>(exec, "gradients", tokens, Index{heads.head_dim} * heads.heads);
    w.take<X>(exec, "rounded", own, hidden);
    gathers();
    w.take<X>(exec, "gradient of qkv", tokens, width);
    {
      const Workspace::Scope scratch(w);
      w.take<float>(exec, "attention's gradients", attention_backward_scratch(heads, {tokens, s.sequences, tokens}));
    }
    if (spec.attention.qk_norm == QkNorm::head) norm(tokens * heads.heads, heads.head_dim);
    if (spec.attention.qk_norm == QkNorm::all) {
      const Workspace::Scope scope(w);
      for (const auto* ranks : {&block.heads, &block.kv_heads}) HeadSums(exec, w, tokens, *ranks, 0, true);
      norm(tokens, Index{heads.heads} * heads.head_dim);
    }
    whole(1);
    gathers();
    if (s.shares.split()) stream(1);
    norm(own, hidden);
    norm(tokens, width);
  }
  const Index rows = tokens * std::max(1, mlp.experts_per_token), columns = block.shard.intermediate.size(),
              shared = block.shard.shared_intermediate.size(), wide = mlp.gated ? 2 : 1;
  if (!keeps_mlp_input(spec, s.selective) && !spec.parallel) stream(2);
  if (s.selective) w.take<X>(exec, "normed again", own, hidden);
  gathers();
  stream(spec.post_norm ? 1 : 0);
  whole(mlp.experts > 0 ? 2 : 1);
  if (s.shares.split() && mlp.experts > 0) whole(1);
  {
    const Workspace::Scope scope(w);
    if (s.selective) w.take<X>(exec, "activated again", rows, columns);
    if (s.selective && mlp.experts > 0) w.take<X>(exec, "normed again", rows, hidden);
    w.take<X>(exec, "rounded", mlp.experts > 0 ? rows : own, hidden);
    if (mlp.experts == 0) gathers();
    w.take<X>(exec, "gradient of activated", rows, columns);
    w.take<X>(exec, "gradient of gate_up", rows, wide * columns);
    if (mlp.experts > 0) {
      w.take<float>(exec, "gradient of weights", tokens, mlp.experts_per_token);
      w.take<X>(exec, "gradient of inputs", rows, hidden);
      w.take<float>(exec, "gradient of logits", tokens, mlp.experts);
      w.take<X>(exec, "rounded", tokens, mlp.experts);
    }
    norm(tokens, std::max(hidden, wide * columns));
  }
  if (shared > 0) {
    const Workspace::Scope scope(w);
    if (s.selective) w.take<X>(exec, "activated again", tokens, shared);
    whole(1);
    w.take<X>(exec, "gradient of the output", own, hidden);
    gathers();
    w.take<float>(exec, "gradient of the gate", own, 1);
    if (s.shares.split()) w.take<X>(exec, "that of all ranks", tokens, 1);
    w.take<X>(exec, "gradient of activated", tokens, shared);
    w.take<X>(exec, "gradient of gate_up", tokens, 2 * shared);
    w.take<X>(exec, "rounded", tokens, 1);
  }
  if (s.shares.split()) stream(1);
  norm(own, hidden);
  return w.peak();
}

#define GRIST_INSTANTIATE(X)                                                                    \
  template std::size_t backward_bytes<X>(const Exec&, const Block&, const PassSizes&);          \
  template void decoder_block_backward(const BlockContext&, const Block&, const SavedBlock<X>&, \
                                       const LayerTensors<View3<float>>&, View2<float>);
GRIST_INSTANTIATE(float)
GRIST_INSTANTIATE(bf16)
#undef GRIST_INSTANTIATE

}  // namespace grist
