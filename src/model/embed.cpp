#include <grist/model/embed.hpp>

#include <grist/layers/embedding.hpp>
#include <grist/layers/norm.hpp>
#include <grist/layers/residual.hpp>
#include <grist/layers/scale.hpp>

namespace grist {
namespace {

/// Rounded to the type of activations, as the reference does.
template <class X>
float scale_of(const ModelSpec& spec) {
  return static_cast<float>(X(spec.embedding_scale));
}

}  // namespace

template <class X>
void embed(const EmbedContext& c, const ModelTensors<Weight>& weights, const PassBuffers& pass, View2<float> raw) {
  if (c.shares.split()) {
    const Workspace::Scope scope(*c.scratch);
    const auto parts = c.scratch->take<float>(c.exec, "rows of this rank", c.shares.tokens, c.spec.hidden_size);
    layers::embedding(c.exec, c.batch.ids(), weights.embedding, c.vocabulary.begin, parts);
    reduce_tokens(c.exec, c.tp, c.shares, as_const(parts), pass.x);
  } else {
    layers::embedding(c.exec, c.batch.ids(), weights.embedding, c.vocabulary.begin, pass.x);
    c.tp.all_reduce(c.exec, flat(pass.x));
  }
  if (c.spec.embedding_scale != 1) layers::scale(c.exec, scale_of<X>(c.spec), pass.x);
  finish_embedding(c, weights, pass, raw);
}

void finish_embedding(const EmbedContext& c, const ModelTensors<Weight>& weights, const PassBuffers& pass,
                      View2<float> raw) {
  if (c.spec.learned_positions > 0) {
    View1<const int> own = c.batch.positions();
    if (c.shares.split()) {
      const Range share = c.shares.of(c.tp.rank());
      own = View1<const int>(own.data() + share.begin, share.size());
    }
    layers::embedding(c.exec, own, weights.positions, 0, pass.positions);
    layers::residual(c.exec, as_const(pass.positions), pass.x);
  }
  if (!c.spec.embedding_norm) return;
  if (raw.size() != 0) Kokkos::deep_copy(c.exec, raw, pass.x);
  norm(c.exec, c.spec.final_norm, as_const(pass.x), weights.embedding_norm, weights.embedding_norm_bias, pass.x);
}

template <class X>
void embed_backward(const EmbedContext& c, const ModelTensors<Weight>& weights, const TokenOrders& orders,
                    View2<const float> raw, Workspace& scratch, const ModelTensors<View3<float>>& gradients,
                    View2<float> dx) {
  const Workspace::Scope scope(scratch);
  View2<float> d = dx;
  if (c.spec.embedding_norm) {
    d = scratch.take<float>(c.exec, "gradient before a norm", dx.extent(0), dx.extent(1));
    Kokkos::deep_copy(c.exec, flat(d), 0.0F);
    norm_backward(c.exec, scratch, c.spec.final_norm, raw, weights.embedding_norm, as_const(dx), d,
                  gradients.embedding_norm, gradients.embedding_norm_bias);
  }
  if (c.shares.split()) {
    const auto all = scratch.take<float>(c.exec, "gradient of all ranks", c.shares.tokens, c.spec.hidden_size);
    gather_tokens(c.exec, c.tp, c.shares, as_const(d), all);
    d = all;
  }
  if (c.spec.learned_positions > 0)
    layers::embedding_backward(c.exec, c.batch.positions(), orders.positions, as_const(d), 0,
                               matrix_of(gradients.positions));
  if (c.spec.embedding_scale != 1) layers::scale(c.exec, scale_of<X>(c.spec), d);
  layers::embedding_backward(c.exec, c.batch.ids(), orders.ids, as_const(d), c.vocabulary.begin,
                             matrix_of(gradients.embedding));
}

std::size_t embed_backward_bytes(const Exec& exec, const ModelSpec& spec, const PassSizes& sizes) {
  Workspace workspace = Workspace::counting();
  if (spec.embedding_norm) {
    workspace.take<float>(exec, "gradient before a norm", sizes.stream(), spec.hidden_size);
    workspace.take<float>(exec, "sums", layers::norm_backward_scratch(sizes.stream(), spec.hidden_size));
  }
  if (sizes.shares.split()) workspace.take<float>(exec, "gradient of all ranks", sizes.tokens, spec.hidden_size);
  return workspace.peak();
}

#define GRIST_INSTANTIATE(X)                                                                                  \
  template void embed<X>(const EmbedContext&, const ModelTensors<Weight>&, const PassBuffers&, View2<float>); \
  template void embed_backward<X>(const EmbedContext&, const ModelTensors<Weight>&, const TokenOrders&,       \
                                  View2<const float>, Workspace&, const ModelTensors<View3<float>>&, View2<float>);
GRIST_INSTANTIATE(float)
GRIST_INSTANTIATE(bf16)
#undef GRIST_INSTANTIATE

}  // namespace grist
