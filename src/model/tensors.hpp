// The one list of a model's tensors. T is a row of the tensor table, a weight, a gradient, a moment: `each` walks
// through equally built ones together, so that loading, saving, sharding, zeroing and summing need no names.
#pragma once

#include <utility>
#include <vector>

namespace grist {

template <class T>
struct LayerTensors {
  T attention_norm, attention_norm_bias;
  T qkv, qkv_bias;    // rows of q, of k, of v
  T q_norm, k_norm;
  T o, o_bias;
  T attention_post_norm, attention_post_norm_bias;
  T mlp_norm, mlp_norm_bias;
  T router;
  T gate_up, gate_up_bias;  // rows of gate, of up; up alone where the MLP has no gate
  T down, down_bias;
  T shared_gate_up, shared_down, shared_gate;
  T mlp_post_norm, mlp_post_norm_bias;
};

/// f(a.field, b.field, ...) for every field.
template <class F, class... L>
void each_tensor(F&& f, L&&... l) {
  f(l.attention_norm...), f(l.attention_norm_bias...);
  f(l.qkv...), f(l.qkv_bias...);
  f(l.q_norm...), f(l.k_norm...);
  f(l.o...), f(l.o_bias...);
  f(l.attention_post_norm...), f(l.attention_post_norm_bias...);
  f(l.mlp_norm...), f(l.mlp_norm_bias...);
  f(l.router...);
  f(l.gate_up...), f(l.gate_up_bias...);
  f(l.down...), f(l.down_bias...);
  f(l.shared_gate_up...), f(l.shared_down...), f(l.shared_gate...);
  f(l.mlp_post_norm...), f(l.mlp_post_norm_bias...);
}

template <class T>
struct ModelTensors {
  T embedding, positions;
  T embedding_norm, embedding_norm_bias;
  std::vector<LayerTensors<T>> layers;
  T final_norm, final_norm_bias;
  T head, head_bias;
};

/// The tensors before the first layer, and those after the last one.
template <class F, class... M>
void each_first_tensor(F&& f, M&&... m) {
  f(m.embedding...), f(m.positions...);
  f(m.embedding_norm...), f(m.embedding_norm_bias...);
}
template <class F, class... M>
void each_last_tensor(F&& f, M&&... m) {
  f(m.final_norm...), f(m.final_norm_bias...);
  f(m.head...), f(m.head_bias...);
}

}  // namespace grist
