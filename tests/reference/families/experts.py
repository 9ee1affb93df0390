"""Mixtral, Qwen2-MoE and Qwen3-MoE: routers with and without renormalization, dense layers among expert layers,
a shared expert."""
import torch
from transformers import MixtralConfig, Qwen2MoeConfig, Qwen3MoeConfig

import gguf_settings as settings
from gguf_settings import BF16
from old_configs import rope_at_the_top, without_layer_types

COMMON = dict(hidden_size=30, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=3, head_dim=10,
              max_position_embeddings=256)
MIXTRAL = COMMON | dict(vocab_size=259, intermediate_size=32, num_experts_per_tok=2, rms_norm_eps=1e-5,
                        bos_token_id=1, eos_token_id=2)
QWEN3_MOE = COMMON | dict(vocab_size=259, intermediate_size=51, moe_intermediate_size=27, num_experts=7,
                          num_experts_per_tok=3, norm_topk_prob=True, bos_token_id=256, eos_token_id=257)
QWEN2_MOE = dict(vocab_size=131, hidden_size=36, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=3,
                 max_position_embeddings=256, intermediate_size=39, moe_intermediate_size=21, num_experts=5,
                 num_experts_per_tok=2, shared_expert_intermediate_size=33, mlp_only_layers=[0], eos_token_id=3)
SMALL_QWEN3_MOE = QWEN3_MOE | dict(vocab_size=131, bos_token_id=None, eos_token_id=3)

MODELS = {
    "mixtral": dict(
        config=MixtralConfig(**MIXTRAL, num_local_experts=5), dtype=torch.bfloat16, grid=True, old=rope_at_the_top,
        lengths=(5, 13), without=[dict(num_experts_per_tok=1)], fused=True, seed=4),
    "mixtral_4": dict(
        config=MixtralConfig(**MIXTRAL | dict(vocab_size=131, intermediate_size=27), num_local_experts=4),
        dtype=torch.bfloat16, old=rope_at_the_top, lengths=(5, 13), without=[dict(num_experts_per_tok=1)], seed=18),
    "qwen3_moe": dict(
        config=Qwen3MoeConfig(**QWEN3_MOE), dtype=torch.bfloat16, old=rope_at_the_top, lengths=(5, 13), fused=True,
        without=[dict(norm_topk_prob=False, at_least=0.03), dict(num_experts_per_tok=2, at_least=0.03)], seed=103),
    # weights of the chosen experts that do not sum to 1; the second of three layers is dense by its name ...
    "qwen3_moe_mixed": dict(
        config=Qwen3MoeConfig(**SMALL_QWEN3_MOE | dict(num_hidden_layers=3, norm_topk_prob=False),
                              mlp_only_layers=[1]),
        dtype=torch.bfloat16, old=rope_at_the_top, lengths=(5, 13),
        without=[dict(norm_topk_prob=True, at_least=0.02)], seed=136),
    # ... the first of two by the step
    "qwen3_moe_step": dict(
        config=Qwen3MoeConfig(**SMALL_QWEN3_MOE | dict(norm_topk_prob=False), decoder_sparse_step=2),
        dtype=torch.bfloat16, old=rope_at_the_top, lengths=(5, 13),
        without=[dict(norm_topk_prob=True, at_least=0.02)], seed=27),
    # a shared expert of another width than the others; the first of three layers dense
    "qwen2_moe": dict(
        config=Qwen2MoeConfig(**QWEN2_MOE), dtype=torch.bfloat16, old=without_layer_types, lengths=(5, 13), seed=234,
        without=[dict(zero=r"shared_expert\.down_proj"), dict(zero="shared_expert_gate"), dict(zero=r"k_proj\.bias"),
                 dict(norm_topk_prob=True, at_least=0.02)]),
    # what llama.cpp can say: experts in every layer
    "qwen2_moe_all": dict(
        config=Qwen2MoeConfig(**QWEN2_MOE | dict(vocab_size=259, num_hidden_layers=2, mlp_only_layers=[],
                                                 bos_token_id=256, eos_token_id=257)),
        dtype=torch.bfloat16, lengths=(5, 13), seed=247,
        without=[dict(zero=r"shared_expert\.down_proj"), dict(zero="shared_expert_gate"), dict(zero=r"k_proj\.bias"),
                 dict(norm_topk_prob=True, at_least=0.02)]),
}

def gguf_mixtral(name, values, config):
    """The rows of q and k as the llama architecture has them; merged experts under the name that gguf-py knows."""
    if name.endswith(("q_proj.weight", "k_proj.weight")):
        heads = config["num_attention_heads" if "q_proj" in name else "num_key_value_heads"]
        values = settings.interleave_heads(values, heads)
    if ".experts." in name:
        name = name.replace("model.", "").replace("block_sparse_moe", "feed_forward")
    yield name, values


def gguf_llama_settings(writer, config):
    settings.standard(writer, config)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_rope_dimension_count(config["head_dim"])


def gguf_qwen3_moe_settings(writer, config):
    settings.standard(writer, config)
    writer.add_expert_feed_forward_length(config["moe_intermediate_size"])


def gguf_qwen2_moe_settings(writer, config):
    gguf_qwen3_moe_settings(writer, config)
    writer.add_expert_shared_feed_forward_length(config["shared_expert_intermediate_size"])


GGUF = {
    "mixtral": dict(arch="llama", tokenizer="llama", weights=gguf_mixtral, settings=gguf_llama_settings, types=dict(
        token_embd="BF16", output="F16", attn_q="F16", attn_k="BF16", ffn_gate_exps="BF16", ffn_up_exps="F16",
        ffn_down_exps="Q8_0")),
    "qwen3_moe": dict(arch="qwen3moe", tokenizer="qwen2", settings=gguf_qwen3_moe_settings, types=dict(
        token_embd="BF16", output="BF16", **BF16, ffn_gate_exps="BF16", ffn_up_exps="BF16", ffn_down_exps="BF16")),
    "qwen2_moe_all": dict(arch="qwen2moe", tokenizer="qwen2", settings=gguf_qwen2_moe_settings, types=dict(
        token_embd="BF16", output="BF16", **BF16, ffn_gate_exps="BF16", ffn_up_exps="BF16", ffn_down_exps="BF16",
        ffn_gate_shexp="F16", ffn_up_shexp="BF16", ffn_down_shexp="BF16")),
}
