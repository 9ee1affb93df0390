#include <grist/train/head.hpp>

#include <grist/layers/cross_entropy.hpp>
#include <grist/layers/linear.hpp>
#include <grist/layers/norm.hpp>
#include <grist/layers/scale.hpp>
#include <grist/model/tensor_parallel.hpp>

#include <algorithm>
#include <cmath>
#include <tuple>

namespace grist::train {
namespace {

/// The stream at the end of the model, behind its norm.
template <class X>
struct FinalBuffers {
  View2<X> normed;         // of this rank's tokens
  View2<X> all;            // of all tokens
  View2<float> dall;       // its gradient, of this rank's columns of the logits
  View2<float> dnormed;

  FinalBuffers(const Exec& exec, Workspace& workspace, const PassSizes& s)
      : normed(workspace.take<X>(exec, "normed", s.stream(), s.hidden)),
        all(s.shares.split() ? workspace.take<X>(exec, "normed of all ranks", s.tokens, s.hidden) : normed),
        dall(workspace.take<float>(exec, "gradient of normed", s.tokens, s.hidden)),
        dnormed(s.shares.split() ? workspace.take<float>(exec, "its share", s.stream(), s.hidden) : dall) {}
};

/// Rows of logits, some at a time: never all those of a micro-batch at once.
template <class X>
struct LogitBuffers {
  View2<X> dlogits;
  View2<float> logits;
  View1<float> highest, target_logits, scale;
  View1<double> sums;

  LogitBuffers(const Exec& exec, Workspace& workspace, Index columns, Index rows)
      : dlogits(workspace.take<X>(exec, "gradient of logits", rows, columns)),
        logits(workspace.take<float>(exec, "logits", rows, columns)),
        highest(workspace.take<float>(exec, "highest logits", rows)),
        target_logits(workspace.take<float>(exec, "logits of targets", rows)),
        scale(workspace.take<float>(exec, "scale of losses", rows)),
        sums(workspace.take<double>(exec, "sums", rows)) {}
};

/// The sum of losses from what the rows' cross-entropy left.
template <class X>
double loss_of(const LogitBuffers<X>& b, View1<const int> targets) {
  const auto highest = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, b.highest);
  const auto sums = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, b.sums);
  const auto of_target = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, b.target_logits);
  const auto wanted = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, targets);
  double loss = 0;
  for (std::size_t i = 0; i < wanted.size(); ++i)
    if (wanted(i) >= 0) loss += std::log(sums(i)) + double{highest(i)} - double{of_target(i)};
  return loss;
}

/// Gradients of some rows' logits, and what comes back of them: of the stream behind its norm, and of the head.
template <class X>
void rows_backward(const HeadContext& c, const LogitBuffers<X>& b, View2<const X> normed, View1<const int> targets,
                   const ModelTensors<View3<float>>& gradients, View2<float> dnormed) {
  const auto& [exec, spec] = std::tie(c.exec, c.spec);
  Kokkos::deep_copy(exec, b.scale, spec.logit_scale);
  layers::cross_entropy_backward(exec, as_const(b.logits), targets, c.vocabulary.begin, as_const(b.highest),
                                 as_const(b.sums), as_const(b.scale), b.dlogits);
  if (spec.logit_softcap != 0) layers::soft_cap_backward(exec, spec.logit_softcap, as_const(b.logits), b.dlogits);
  if (!c.weights.head_bias.empty()) {
    const Workspace::Scope scope(c.scratch);
    const auto sums = c.scratch.take<float>(
        exec, "sums", layers::bias_backward_scratch(static_cast<Index>(b.dlogits.extent(0)), c.vocabulary.size()));
    layers::bias_backward(exec, as_const(b.dlogits), sums, vector_of(gradients.head_bias));
  }
  layers::linear_backward(exec, c.products, normed, c.weights.head, as_const(b.dlogits), dnormed,
                          matrix_of(gradients.head));
}

/// The sum of some rows' losses, with their gradients where these are wanted.
template <class X>
double rows_loss(const HeadContext& c, const FinalBuffers<X>& stream, Range rows, View1<const int> targets,
                 const ModelTensors<View3<float>>* gradients) {
  const auto& [exec, spec] = std::tie(c.exec, c.spec);
  const Workspace::Scope scope(c.scratch);
  const auto normed = as_const(rows_of(stream.all, rows));
  const LogitBuffers<X> b(exec, c.scratch, c.vocabulary.size(), rows.size());
  layers::linear(exec, c.products, normed, c.weights.head, vector_of(c.weights.head_bias), b.logits);
  if (spec.logit_scale != 1) layers::scale(exec, spec.logit_scale, b.logits);
  if (spec.logit_softcap != 0) layers::soft_cap(exec, spec.logit_softcap, b.logits);
  layers::cross_entropy_highest(exec, as_const(b.logits), b.highest);
  c.tp.all_reduce(exec, b.highest, Reduction::max);
  layers::cross_entropy_sums(exec, as_const(b.logits), targets, c.vocabulary.begin, as_const(b.highest), b.sums,
                             b.target_logits);
  c.tp.all_reduce(exec, b.sums);
  c.tp.all_reduce(exec, b.target_logits);
  if (gradients != nullptr) rows_backward(c, b, normed, targets, *gradients, rows_of(stream.dall, rows));
  exec.fence("grist::train: losses for the host");
  return loss_of(b, targets);
}

}  // namespace

template <class X>
double head(const HeadContext& c, View2<const float> x, View1<const int> targets,
            const ModelTensors<View3<float>>* gradients, View2<float> dx) {
  const Workspace::Scope scope(c.scratch);
  const auto tokens = static_cast<Index>(targets.size());
  const FinalBuffers<X> b(
      c.exec, c.scratch,
      {.hidden = c.spec.hidden_size, .tokens = tokens, .shares = c.shares, .tp_rank = c.tp.rank()});
  norm(c.exec, c.spec.final_norm, x, c.weights.final_norm, c.weights.final_norm_bias, b.normed);
  if (c.shares.split()) gather_tokens(c.exec, c.tp, c.shares, as_const(b.normed), b.all);
  double loss = 0;
  for (Index begin = 0; begin < tokens; begin += c.logit_rows) {
    const Range rows{begin, std::min(begin + c.logit_rows, tokens)};
    loss += rows_loss(c, b, rows, View1<const int>(targets.data() + begin, rows.size()), gradients);
  }
  if (gradients == nullptr) return loss;
  if (c.shares.split())
    reduce_tokens(c.exec, c.tp, c.shares, as_const(b.dall), b.dnormed);
  else
    c.tp.all_reduce(c.exec, flat(b.dnormed));
  Kokkos::deep_copy(c.exec, dx, 0.0F);
  norm_backward(c.exec, c.scratch, c.spec.final_norm, x, c.weights.final_norm, as_const(b.dnormed), dx,
                gradients->final_norm, gradients->final_norm_bias);
  return loss;
}

template <class X>
std::size_t head_bytes(const Exec& exec, const PassSizes& sizes, Index columns, Index logit_rows) {
  Workspace workspace = Workspace::counting();
  const FinalBuffers<X> stream(exec, workspace, sizes);
  {
    const Workspace::Scope scope(workspace);
    const LogitBuffers<X> logits(exec, workspace, columns, logit_rows);
    workspace.take<float>(exec, "sums", layers::bias_backward_scratch(logit_rows, columns));
  }
  workspace.take<float>(exec, "sums", layers::norm_backward_scratch(sizes.stream(), sizes.hidden));
  return workspace.peak();
}

#define GRIST_INSTANTIATE(X)                                                                                    \
  template double head<X>(const HeadContext&, View2<const float>, View1<const int>,                             \
                          const ModelTensors<View3<float>>*, View2<float>);                                     \
  template std::size_t head_bytes<X>(const Exec&, const PassSizes&, Index, Index);
GRIST_INSTANTIATE(float)
GRIST_INSTANTIATE(bf16)
#undef GRIST_INSTANTIATE

}  // namespace grist::train
