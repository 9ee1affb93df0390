// Embedding: x_t = W[id_t].
//   ids [tokens]    w [rows, hidden], stored in any format: the rows first_row ... of the vocabulary    x [tokens,
//   hidden] forward : reads ids, w    writes x; zero where another rank holds the row parallel: vocabulary-parallel:
//   sum x over tp
// Ids outside the vocabulary are the caller's to refuse. Throws ShapeError. Enqueues on exec; no fence, no allocation.
#pragma once

#include <grist/core/view.hpp>
#include <grist/core/weight.hpp>

namespace grist::layers {

void embedding(const Exec& exec, View1<const int> ids, const Weight& w, Index first_row, View2<float> x);

}  // namespace grist::layers
