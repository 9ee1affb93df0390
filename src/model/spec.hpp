// What an architecture is: a list of layers, and no name of a family. Everything that the decoder needs to know.
#pragma once

#include <grist/core/view.hpp>
#include <grist/layers/activation.hpp>

#include <string>
#include <vector>

namespace grist {

struct NormSpec {
  enum class Kind { rms, layer };  // 1 + w is folded into w when weights are loaded
  Kind kind = Kind::rms;
  float eps = 1e-5F;
  bool bias = false;
};

/// How a query learns of positions; learned ones are added to the embedding.
enum class Position { none, rope, alibi };

/// RMSNorm of queries and keys before they are turned: of each head, or of all heads of a token together.
enum class QkNorm { none, head, all };

struct AttentionSpec {
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  float scale = 1;    // of q k^T
  float softcap = 0;  // scores become softcap * tanh(score / softcap); 0: as they are
  int window = 0;     // keys that a query sees; 0: all
  bool causal = true;
  Position position = Position::rope;
  int rope = 0;  // index into ModelSpec::ropes
  QkNorm qk_norm = QkNorm::none;
  bool q_bias = false, k_bias = false, v_bias = false, o_bias = false;

  [[nodiscard]] Index q_width() const { return Index{heads} * head_dim; }
  [[nodiscard]] Index kv_width() const { return Index{kv_heads} * head_dim; }
};

struct MlpSpec {
  Index intermediate_size = 0;  // of each expert
  layers::Activation activation = layers::Activation::silu;
  bool gated = true;    // activation(gate x) * up x, else activation(up x)
  bool up_bias = false;  // of gate and up
  bool down_bias = false;
  int experts = 0;  // 0: one MLP without a router
  int experts_per_token = 0;
  bool renormalize = true;       // the weights of the chosen experts sum to 1
  Index shared_intermediate = 0;  // of an expert that every token takes; 0: none
  bool shared_gate = false;       // its output is scaled by sigmoid(w x)
};

/// attention and MLP, each between a norm before it and one after it; both may be absent.
struct LayerSpec {
  AttentionSpec attention;
  MlpSpec mlp;
  NormSpec norm;
  bool pre_norm = true;
  bool post_norm = false;
  bool parallel = false;     // attention and MLP both start from the block's input
  bool shared_norm = false;  // of parallel ones: one norm serves both
};

/// Rotary embedding (Su et al. 2021): pair i of a head turns by position * inverse_frequencies[i].
struct RopeTable {
  std::vector<float> inverse_frequencies;  // [rotary_dim / 2], scaling folded in; the rest of a head does not turn
  float scale = 1;                         // of cosine and sine: the attention factor of yarn and longrope
  // In sequences of more than `long_after` tokens (0: never) other frequencies serve:
  int long_after = 0;
  std::vector<float> long_frequencies;  // longrope's, or empty: dynamic NTK with this base and factor
  float theta = 0;
  float factor = 0;

  [[nodiscard]] Index rotary_dim() const { return 2 * static_cast<Index>(inverse_frequencies.size()); }
};

struct ModelSpec {
  Index vocab_size = 0;
  Index hidden_size = 0;
  int max_positions = 0;  // the context that the model was trained for
  std::vector<RopeTable> ropes;
  std::vector<LayerSpec> layers;
  float embedding_scale = 1;
  bool embedding_norm = false;
  Index learned_positions = 0;  // rows of the table of positions; 0: none
  NormSpec final_norm;
  float logit_scale = 1;
  float logit_softcap = 0;
  bool tied_embeddings = false;  // the logits' matrix is the embedding
  bool head_bias = false;
  float initializer_range = 0.02F;
  float router_aux_loss = 0;  // factor of the routers' load-balancing loss in training; 0: none

  [[nodiscard]] Index layer_count() const { return static_cast<Index>(layers.size()); }
  [[nodiscard]] int max_head_dim() const;
};

/// What the kernels ask of the sizes; throws InputError naming `file`.
void check_spec(const ModelSpec& spec, const std::string& file);

/// Elements of all tensors, tied ones once; `active`: of those that one token reads, its experts alone.
Index parameter_count(const ModelSpec& spec, bool active = false);

}  // namespace grist
