// Embedding: x_t = W[id_t];  dW[r] = sum of dx_t over the tokens t with id_t = r
//   ids [tokens]    w [rows, hidden], stored in any format: the rows first_row ... of the vocabulary
//   x [tokens, hidden]
//   forward : reads ids, w            writes x; zero where another rank holds the row
//   backward: reads ids, order, dx    adds into dw [rows, hidden], a row's tokens in their order
//   parallel: vocabulary-parallel: sum x over tp; dx is whole on each rank, and dw needs no sum
// Ids outside the vocabulary are the caller's to refuse. Throws ShapeError. Enqueues on exec; no fence, no allocation.
#pragma once

#include <grist/core/view.hpp>
#include <grist/core/weight.hpp>

namespace grist::layers {

void embedding(const Exec& exec, View1<const int> ids, const Weight& w, Index first_row, View2<float> x);

/// order [tokens]: the tokens sorted by id, those of one id in ascending order (the caller makes it where the ids are
/// made).
void embedding_backward(const Exec& exec, View1<const int> ids, View1<const int> order, View2<const float> dx,
                        Index first_row, View2<float> dw);

}  // namespace grist::layers
