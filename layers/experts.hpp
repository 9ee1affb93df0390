// A mixture of experts (Shazeer et al. 2017): which experts a token goes to, and how their outputs come together.
//   p = softmax(logits);  the k largest p are the token's weights, lower numbers first among equals;
//   renormalized: weights / their sum;   y_t = sum over its slots s of weights(t, s) expert_{choices(t, s)}(x_t)
//   logits [tokens, experts]    choices, weights [tokens, k]
//   Rows of expert e are offsets(e) ... offsets(e + 1), offsets [experts + 1], in the order of tokens:
//   token_of [tokens * k]: the token of a row    row_of [tokens, k]: the row of a token's slot
//   dispatch reads x [tokens, hidden]           writes rows [tokens * k, hidden]
//   combine  reads rows, row_of, weights        writes y [tokens, hidden]
//   shared expert, which every token takes (Dai et al. 2024): y += sigmoid(gate_t) shared_t, or shared_t without a gate
//   add_shared reads shared [tokens, hidden], gate [tokens] or empty    adds into y
//   backward, choices being fixed:
//   choose_experts: dlogits_j = p_j (dw_j - sum over slots of w dw), dw = 0 of what is not chosen; renormalized: of the
//             chosen alone, weights in the place of p    reads logits, choices, weights, dweights    writes dlogits
//   dispatch: dx_t = the sum over its slots, in order, of drows    reads drows, row_of    writes dx
//   combine : drows = weights dy_t,  dweights = dy_t . rows    reads rows, row_of, weights, dy   writes drows, dweights
//   add_shared: dshared = sigmoid(gate) dy,  dgate = sigmoid'(gate) dy . shared    writes dshared, dgate
//   load-balancing loss (Fedus et al. 2021, as transformers' load_balancing_loss_func): experts sum over e of f_e P_e;
//   of N tokens that count, f_e = choices of e / N, P_e = the mean of p_e. Both are sums over all layers, micro-batches
//   and ranks before the loss and its gradient are made of them:  dlogits_j += experts / N p_j (f_j - sum of f_e p_e)
//   parallel: choices are the same on all ranks of tp; experts that other ranks have leave zeros in rows
//   sum over tp: dx of dispatch and dweights, where experts are split; the load-balancing sums never (over dp they are)
// Throws ShapeError. Enqueues on exec; no fence, no allocation.
#pragma once

#include <grist/core/view.hpp>

namespace grist::layers {

void choose_experts(const Exec& exec, View2<const float> logits, bool renormalize, View2<int> choices,
                    View2<float> weights);

void sort_by_expert(const Exec& exec, View2<const int> choices, View1<int> offsets, View1<int> token_of,
                    View2<int> row_of);

template <class X>
void dispatch(const Exec& exec, View2<const X> x, View1<const int> token_of, View2<X> rows);

void combine(const Exec& exec, View2<const float> rows, View2<const int> row_of, View2<const float> weights,
             View2<float> y);

void add_shared(const Exec& exec, View2<const float> shared, View1<const float> gate, View2<float> y);

/// dlogits [tokens, experts] from dweights [tokens, k], both of `weights` as choose_experts made them.
void choose_experts_backward(const Exec& exec, View2<const float> logits, bool renormalize, View2<const int> choices,
                             View2<const float> weights, View2<const float> dweights, View2<float> dlogits);

/// dx [tokens, hidden] from drows [tokens * k, hidden]. (X, Y) = (float, float), (bf16, bf16), (bf16, float).
template <class X, class Y>
void dispatch_backward(const Exec& exec, View2<const X> drows, View2<const int> row_of, View2<Y> dx);

/// drows [tokens * k, hidden], rounded to the activations' type, and dweights [tokens, k] from dy [tokens, hidden].
template <class X>
void combine_backward(const Exec& exec, View2<const float> rows, View2<const int> row_of, View2<const float> weights,
                      View2<const float> dy, View2<X> drows, View2<float> dweights);

/// dshared [tokens, hidden], rounded to the activations' type, and dgate [tokens] from dy [tokens, hidden]; gate and
/// dgate may be empty. The gradient of add_shared's y is dy.
template <class X>
void add_shared_backward(const Exec& exec, View2<const float> shared, View1<const float> gate, View2<const float> dy,
                         View2<X> dshared, View1<float> dgate);

/// Floats of scratch that load_balancing_sums takes.
Index load_balancing_scratch(Index tokens, Index experts);

/// sums [2, experts] += the choices of each expert, and the sum of its p, of the tokens that count: those whose entry
/// of counted [tokens] is not 0, or all where it is empty. The order depends on the tokens alone.
void load_balancing_sums(const Exec& exec, View2<const float> logits, View2<const int> choices,
                         View1<const int> counted, View1<float> scratch, View2<float> sums);

/// The loss of sums [2, experts] in host memory, where each token chose k experts; 0 where no token counts.
double load_balancing_loss(const float* sums, Index experts, Index k);

/// dlogits [tokens, experts] += factor times the loss's gradient, `sums` being those of all tokens. The gradient goes
/// through p alone: choices have none.
void load_balancing_backward(const Exec& exec, View2<const float> logits, View1<const int> counted,
                             View2<const float> sums, Index k, float factor, View2<float> dlogits);

}  // namespace grist::layers
