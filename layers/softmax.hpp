// Softmax of rows at a temperature: y_i = e^(x_i / temperature) / sum_j e^(x_j / temperature), for sampling.
//   x [rows, vocabulary], in place
//   forward : reads and writes x
//   parallel: rows are whole on each rank: nothing to sum
// Enqueues on exec; no fence, no allocation. The sums are in a fixed order.
#pragma once

#include <grist/core/view.hpp>

namespace grist::layers {

void softmax(const Exec& exec, float temperature, View2<float> x);

}  // namespace grist::layers
