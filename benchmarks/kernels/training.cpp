// What training takes beside products and attention: gradients of layers, and the optimizers. Bytes are those of
// activations and of the flat arrays.
#include "kernel.hpp"

#include <grist/layers/activation.hpp>
#include <grist/layers/cross_entropy.hpp>
#include <grist/layers/embedding.hpp>
#include <grist/layers/experts.hpp>
#include <grist/layers/norm.hpp>
#include <grist/layers/norm_over_heads.hpp>
#include <grist/layers/scale.hpp>
#include <grist/train/optimizer.hpp>

namespace grist::benchmarks {
namespace {

constexpr Index n = 512;  // tokens

Kernel rms_norm_backward() {
  const auto x = varied<float>(n * hidden), w = varied<float>(hidden);
  const auto dy = varied<bf16>(n * hidden);
  const auto dx = constants(n * hidden, 0.0F), dw = constants(hidden, 0.0F);
  const Buffer<float> scratch("scratch", layers::norm_backward_scratch(n, hidden));
  return {moving_work(n * hidden, 14), [=](const Exec& exec) {
            layers::rms_norm_backward(exec, as_const(x.view(n, hidden)), as_const(w.view()), eps,
                                      as_const(dy.view(n, hidden)), scratch.view(), dx.view(n, hidden), dw.view());
          }};
}

Kernel layer_norm_backward() {
  const auto x = varied<float>(n * hidden), w = varied<float>(hidden);
  const auto dy = varied<bf16>(n * hidden);
  const auto dx = constants(n * hidden, 0.0F), dw = constants(hidden, 0.0F), db = constants(hidden, 0.0F);
  const Buffer<float> scratch("scratch", layers::norm_backward_scratch(n, hidden));
  return {moving_work(n * hidden, 14), [=](const Exec& exec) {
            layers::layer_norm_backward(exec, as_const(x.view(n, hidden)), as_const(w.view()), eps,
                                        as_const(dy.view(n, hidden)), scratch.view(), dx.view(n, hidden), dw.view(),
                                        db.view());
          }};
}

/// In place: what stands there is scaled in turn, but w keeps it from growing.
Kernel rms_norm_heads_backward() {
  const Index dim = attention_config.head_dim;
  const auto x = varied<bf16>(n * q_width), dx = varied<bf16>(n * q_width);
  const auto w = constants(dim, 0.25F), dw = constants(dim, 0.0F);
  const Buffer<float> scratch("scratch", layers::norm_backward_scratch(n * attention_config.heads, dim));
  return {moving_work(n * q_width, 6), [=](const Exec& exec) {
            layers::rms_norm_heads_backward(exec, as_const(x.view(n, q_width)), 0, attention_config.heads,
                                            as_const(w.view()), eps, scratch.view(), dx.view(n, q_width), dw.view());
          }};
}

Kernel rms_norm_over_heads_backward() {
  const Index dim = attention_config.head_dim, heads = attention_config.heads;
  const auto x = varied<bf16>(n * q_width), dx = varied<bf16>(n * q_width);
  const auto squares = constants(n * heads, 5.0F);
  const auto w = constants(q_width, 0.25F), dw = constants(q_width, 0.0F);
  const Buffer<float> along("along", n * heads), scratch("scratch", layers::norm_backward_scratch(n, q_width));
  return {moving_work(n * q_width, 10), [=](const Exec& exec) {
            const auto of = as_const(x.view(n, q_width));
            const auto sums = along.view(n, heads);
            layers::head_sums(exec, of, as_const(dx.view(n, q_width)), 0, dim, as_const(w.view()), sums);
            layers::rms_norm_over_heads_backward(exec, of, as_const(squares.view(n, heads)), as_const(sums), 1.0F, 0,
                                                 dim, as_const(w.view()), eps, scratch.view(), dx.view(n, q_width),
                                                 dw.view());
          }};
}

Kernel activation_backward() {
  const auto x = varied<bf16>(n * intermediate), dy = varied<bf16>(n * intermediate);
  const Buffer<bf16> dx("dx", n * intermediate);
  return {moving_work(n * intermediate, 6), [=](const Exec& exec) {
            layers::activation_backward(exec, layers::Activation::gelu, as_const(x.view(n, intermediate)),
                                        as_const(dy.view(n, intermediate)), dx.view(n, intermediate));
          }};
}

Kernel gated_activation_backward() {
  const auto x = varied<bf16>(2 * n * intermediate), dy = varied<bf16>(n * intermediate);
  const Buffer<bf16> dx("dx", 2 * n * intermediate);
  return {moving_work(n * intermediate, 10), [=](const Exec& exec) {
            layers::gated_activation_backward(exec, layers::Activation::silu, as_const(x.view(n, 2 * intermediate)),
                                              as_const(dy.view(n, intermediate)), dx.view(n, 2 * intermediate));
          }};
}

Kernel soft_cap_backward() {
  const auto y = varied<float>(n * vocabulary);
  const auto dy = constants(n * vocabulary, bf16(1.0F));
  return {moving_work(n * vocabulary, 8), [=](const Exec& exec) {
            layers::soft_cap_backward(exec, 30.0F, as_const(y.view(n, vocabulary)), dy.view(n, vocabulary));
          }};
}

/// All of a row of dw are read and written, for tokens that are all different.
Kernel embedding_backward() {
  const auto ids = made<int>(n, [](Index t) { return 7 * t; }), order = made<int>(n, [](Index t) { return t; });
  const auto dx = varied<float>(n * hidden);
  const auto dw = constants(vocabulary * hidden, 0.0F);
  return {moving_work(n * hidden, 12), [=](const Exec& exec) {
            layers::embedding_backward(exec, as_const(ids.view()), as_const(order.view()),
                                       as_const(dx.view(n, hidden)), 0, dw.view(vocabulary, hidden));
          }};
}

Kernel cross_entropy_backward() {
  const auto logits = varied<float>(n * vocabulary);
  const auto targets = made<int>(n, [](Index t) { return t; });
  const auto highest = constants(n, 0.5F), scale = constants(n, 1.0F);
  const auto sums = constants(n, 1e4);
  const Buffer<bf16> dlogits("dlogits", n * vocabulary);
  return {moving_work(n * vocabulary, 6), [=](const Exec& exec) {
            layers::cross_entropy_backward(exec, as_const(logits.view(n, vocabulary)), as_const(targets.view()), 0,
                                           as_const(highest.view()), as_const(sums.view()), as_const(scale.view()),
                                           dlogits.view(n, vocabulary));
          }};
}

Kernel choose_experts_backward() {
  const auto logits = varied<float>(n * experts), weights = varied<float>(n * chosen),
             dweights = varied<float>(n * chosen);
  const auto choices = made<int>(n * chosen, [](Index slot) { return slot % experts; });
  const Buffer<float> dlogits("dlogits", n * experts);
  return {moving_work(n, 8.0 * experts + 12.0 * chosen), [=](const Exec& exec) {
            layers::choose_experts_backward(exec, as_const(logits.view(n, experts)), true,
                                            as_const(choices.view(n, chosen)), as_const(weights.view(n, chosen)),
                                            as_const(dweights.view(n, chosen)), dlogits.view(n, experts));
          }};
}

Kernel dispatch_backward() {
  const auto drows = varied<bf16>(n * chosen * hidden);
  const auto row_of = made<int>(n * chosen, [](Index slot) { return slot; });
  const Buffer<float> dx("dx", n * hidden);
  return {moving_work(n * hidden, 4 + 2.0 * chosen), [=](const Exec& exec) {
            layers::dispatch_backward(exec, as_const(drows.view(n * chosen, hidden)),
                                      as_const(row_of.view(n, chosen)), dx.view(n, hidden));
          }};
}

Kernel combine_backward() {
  const auto rows = varied<float>(n * chosen * hidden), weights = varied<float>(n * chosen),
             dy = varied<float>(n * hidden);
  const auto row_of = made<int>(n * chosen, [](Index slot) { return slot; });
  const Buffer<bf16> drows("drows", n * chosen * hidden);
  const Buffer<float> dweights("dweights", n * chosen);
  return {moving_work(n * hidden, 4 + 6.0 * chosen), [=](const Exec& exec) {
            layers::combine_backward(exec, as_const(rows.view(n * chosen, hidden)), as_const(row_of.view(n, chosen)),
                                     as_const(weights.view(n, chosen)), as_const(dy.view(n, hidden)),
                                     drows.view(n * chosen, hidden), dweights.view(n, chosen));
          }};
}

Kernel add_shared_backward() {
  const auto shared = varied<float>(n * hidden), gate = varied<float>(n), dy = varied<float>(n * hidden);
  const Buffer<bf16> dshared("dshared", n * hidden);
  const Buffer<float> dgate("dgate", n);
  return {moving_work(n * hidden, 10), [=](const Exec& exec) {
            layers::add_shared_backward(exec, as_const(shared.view(n, hidden)), as_const(gate.view()),
                                        as_const(dy.view(n, hidden)), dshared.view(n, hidden), dgate.view());
          }};
}

Kernel load_balancing_backward() {
  const auto logits = varied<float>(n * experts), sums = constants(2 * experts, 64.0F),
             dlogits = constants(n * experts, 0.0F);
  return {moving_work(n * experts, 12), [=](const Exec& exec) {
            layers::load_balancing_backward(exec, as_const(logits.view(n, experts)), {},
                                            as_const(sums.view(2, experts)), chosen, 0.01F, dlogits.view(n, experts));
          }};
}

/// The flat arrays of 16 M weights.
struct Arrays {
  static constexpr Index size = 1 << 24;
  Buffer<float> w = varied<float>(size), g = varied<float>(size), m = constants(size, 0.1F),
                v = constants(size, 0.1F);
  Buffer<bf16> copy{"copy", size};
  Buffer<double> scratch{"scratch", train::norm_scratch(size)}, norms{"norms", 2};

  [[nodiscard]] train::OptimizerRange range() const { return {w.view(), g.view(), m.view(), v.view(), copy.view()}; }
};
constexpr train::OptimizerConfig optimizer{};
constexpr train::Update update{.step = 10, .learning_rate = 1e-4};

Kernel adamw() {
  const Arrays a;
  return {moving_work(Arrays::size, 30), [=](const Exec& exec) { train::adamw(exec, optimizer, update, a.range()); }};
}
Kernel sgd() {
  const Arrays a;
  return {moving_work(Arrays::size, 22), [=](const Exec& exec) { train::sgd(exec, optimizer, update, a.range()); }};
}
/// Both halves. Direction: 4 bytes of w, 4 of g, 8 of m, 8 of v, 4 of u, 8 for two norms; apply: 4 of u, 8 of w, 2 of
/// the copy.
Kernel lamb() {
  const Arrays a;
  return {moving_work(Arrays::size, 50), [=](const Exec& exec) {
            train::lamb_direction(exec, optimizer, update, a.range(), a.scratch.view(), a.norms.view());
            train::lamb_apply(exec, update, a.range(), as_const(a.norms.view()));
          }};
}
Kernel squared_norm() {
  const Arrays a;
  return {moving_work(Arrays::size, 4), [=](const Exec& exec) {
            train::squared_norm(exec, as_const(a.g.view()), a.scratch.view(), View1<double>(a.norms.data(), 1));
          }};
}

}  // namespace

void add_training() {
  add("rms_norm_backward/512", rms_norm_backward);
  add("layer_norm_backward/512", layer_norm_backward);
  add("rms_norm_heads_backward/512", rms_norm_heads_backward);
  add("rms_norm_over_heads_backward/512", rms_norm_over_heads_backward);
  add("activation_backward/gelu/512", activation_backward);
  add("gated_activation_backward/silu/512", gated_activation_backward);
  add("soft_cap_backward/512", soft_cap_backward);
  add("embedding_backward/512", embedding_backward);
  add("cross_entropy_backward/512", cross_entropy_backward);
  add("choose_experts_backward/512", choose_experts_backward);
  add("dispatch_backward/512", dispatch_backward);
  add("combine_backward/512", combine_backward);
  add("add_shared_backward/512", add_shared_backward);
  add("load_balancing_backward/512", load_balancing_backward);
  add("adamw/16M", adamw);
  add("sgd/16M", sgd);
  add("lamb/16M", lamb);
  add("squared_norm/16M", squared_norm);
}

}  // namespace grist::benchmarks
