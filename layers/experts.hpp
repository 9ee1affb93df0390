// A mixture of experts (Shazeer et al. 2017): which experts a token goes to, and how their outputs come together.
//   p = softmax(logits);  the k largest p are the token's weights, lower numbers first among equals;
//   renormalized: weights / their sum;   y_t = sum over its slots s of weights(t, s) expert_{choices(t, s)}(x_t)
//   logits [tokens, experts]    choices, weights [tokens, k]
//   Rows of expert e are offsets(e) ... offsets(e + 1), offsets [experts + 1], in the order of tokens:
//   token_of [tokens * k]: the token of a row    row_of [tokens, k]: the row of a token's slot
//   dispatch reads x [tokens, hidden]           writes rows [tokens * k, hidden]
//   combine  reads rows, row_of, weights        writes y [tokens, hidden]
//   shared expert, which every token takes (Dai et al. 2024): y += sigmoid(gate_t) shared_t; without a gate y +=
//   shared_t add_shared reads shared [tokens, hidden], gate [tokens] or empty    adds into y parallel: choices are the
//   same on all ranks of tp; experts that other ranks have leave zeros in rows
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

}  // namespace grist::layers
