// Embedding: x_t = W[id_t].
//   ids [tokens]    w [rows, hidden], the rows first_row ... of the vocabulary    x [tokens, hidden]
//   forward : reads ids, w    writes x; zero where another rank holds the row
//   parallel: vocabulary-parallel: sum x over tp
// Ids outside the vocabulary are the caller's to refuse. Enqueues on exec; no fence, no allocation.
#pragma once

#include <grist/core/view.hpp>

namespace grist::layers {

template <class T>
void embedding(const Exec& exec, View1<const int> ids, View2<const T> w, Index first_row, View2<float> x);

}  // namespace grist::layers
