// What a family calls its tensors in files, and how they lie there.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace grist {

/// Names of tensors in one file format, without ".weight" and ".bias". In layer names {} is the layer's number, in
/// names of experts' tensors a second {} the expert's. An empty name: the format has no such tensor. The defaults are
/// LLaMA's.
struct TensorNames {
  std::string base = "model.";  // before all names but `head`; files of the bare decoder leave it out
  std::string layer = "layers.{}.";

  std::string embedding = "embed_tokens";
  std::string positions;
  std::string embedding_norm;
  std::string final_norm = "norm";
  std::string head = "lm_head";

  std::string attention_norm = "input_layernorm";
  std::string q = "self_attn.q_proj", k = "self_attn.k_proj", v = "self_attn.v_proj";
  std::string qkv;  // the three in one tensor
  std::string q_norm = "self_attn.q_norm", k_norm = "self_attn.k_norm";
  std::string o = "self_attn.o_proj";
  std::string attention_post_norm = "post_attention_layernorm";
  std::string mlp_norm = "post_attention_layernorm";
  std::string parallel_attention_norm, parallel_mlp_norm;  // the two where attention and MLP are parallel and share
                                                           // none; empty: as above
  std::string gate = "mlp.gate_proj", up = "mlp.up_proj", down = "mlp.down_proj";
  std::string gate_up;  // the two in one tensor
  std::string mlp_post_norm = "post_feedforward_layernorm";

  std::string router = "mlp.gate";
  std::string other_router;  // its name in files that hold all experts in one tensor, where it differs
  std::string expert_gate = "mlp.experts.{}.gate_proj", expert_up = "mlp.experts.{}.up_proj",
              expert_down = "mlp.experts.{}.down_proj";                 // a tensor for each expert
  std::string experts_gate, experts_up, experts_gate_up, experts_down;  // all experts in one tensor
  std::string shared_gate = "mlp.shared_expert.gate_proj", shared_up = "mlp.shared_expert.up_proj",
              shared_down = "mlp.shared_expert.down_proj", shared_expert_gate = "mlp.shared_expert_gate";

  enum class Fused { in_turn, by_group };  // all of q, then k, then v; or the three of each KV group in turn
  Fused fused = Fused::in_turn;
  bool transposed = false;     // matrices of layers are stored [in, out]
  bool norms_plus_one = false;  // norms are stored as w, and 1 + w is meant
  bool rope_pairs = false;     // rows of q and k lie as adjacent pairs of a rotation, not as halves of a head
  std::string experts_suffix;  // after the name of a tensor that holds all experts
};

/// "blk.{}.ffn_gate.{}" -> "blk.3.ffn_gate.{}"; a name without {} as it is.
std::string with_number(std::string name, std::int64_t number);

/// The names that llama.cpp gives to all families.
TensorNames gguf_names();

}  // namespace grist
