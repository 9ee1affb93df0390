#include <grist/model/tensor_names.hpp>

namespace grist {

std::string with_number(std::string name, std::int64_t number) {
  if (const auto at = name.find("{}"); at != std::string::npos) name.replace(at, 2, std::to_string(number));
  return name;
}

TensorNames gguf_names() {
  return {.base = "",
          .layer = "blk.{}.",
          .embedding = "token_embd",
          .positions = "position_embd",
          .embedding_norm = "token_embd_norm",
          .final_norm = "output_norm",
          .head = "output",
          .attention_norm = "attn_norm",
          .q = "attn_q",
          .k = "attn_k",
          .v = "attn_v",
          .qkv = "attn_qkv",
          .q_norm = "attn_q_norm",
          .k_norm = "attn_k_norm",
          .o = "attn_output",
          .attention_post_norm = "post_attention_norm",
          .mlp_norm = "ffn_norm",
          .gate = "ffn_gate",
          .up = "ffn_up",
          .down = "ffn_down",
          .mlp_post_norm = "post_ffw_norm",
          .router = "ffn_gate_inp",
          .expert_gate = "ffn_gate.{}",
          .expert_up = "ffn_up.{}",
          .expert_down = "ffn_down.{}",
          .experts_gate = "ffn_gate_exps",
          .experts_up = "ffn_up_exps",
          .experts_gate_up = "ffn_gate_up_exps",
          .experts_down = "ffn_down_exps",
          .shared_gate = "ffn_gate_shexp",
          .shared_up = "ffn_up_shexp",
          .shared_down = "ffn_down_shexp",
          .shared_expert_gate = "ffn_gate_inp_shexp",
          .experts_suffix = ".weight"};
}

}  // namespace grist
