"""Qwen2, Qwen3: biases of q, k and v alone, norms of each head, windows from some layer on, yarn."""
import torch
from transformers import Qwen2Config, Qwen3Config

from gguf_settings import BF16
from old_configs import without_layer_types
from tiny_weights import REPEATS, TIED

BIG_THETA = dict(rope_type="default", rope_theta=1e6)

# 96 columns in o_proj (6 heads of 16) and in down_proj: whole blocks of 32 for the GGUF twin, in a width of 42
QWEN2 = dict(vocab_size=259, hidden_size=42, intermediate_size=96, num_hidden_layers=2, num_attention_heads=6,
             num_key_value_heads=3, max_position_embeddings=256, rms_norm_eps=1e-6, bos_token_id=256, eos_token_id=257)
QWEN3 = QWEN2 | dict(head_dim=16, tie_word_embeddings=True)

MODELS = {
    # Qwen2 has no head_dim, and 42 / 6 = 7 makes no pairs for rope
    "qwen2": dict(
        config=Qwen2Config(**QWEN2 | dict(hidden_size=48), rope_parameters=BIG_THETA),
        dtype=torch.bfloat16, lengths=(5, 21), grid=True, old=without_layer_types,
        without=[dict(zero=r"q_proj\.bias"), dict(zero=r"k_proj\.bias"), dict(zero=r"v_proj\.bias"),
                 dict(rope_parameters=dict(rope_type="default", rope_theta=1e4))], seed=3),
    # the first layer sees everything, the others the last 6 positions
    "qwen2_window": dict(
        config=Qwen2Config(**QWEN2 | dict(hidden_size=48, vocab_size=131, intermediate_size=51, num_hidden_layers=3,
                                          bos_token_id=None, eos_token_id=3),
                           use_sliding_window=True, sliding_window=6, max_window_layers=1),
        dtype=torch.bfloat16, old=without_layer_types,
        without=[dict(layer_types=["full_attention"] * 3), dict(layer_types=["sliding_attention"] * 3)], seed=25),
    "qwen3": dict(
        widths=TIED, good=REPEATS,
        config=Qwen3Config(**QWEN3, rope_parameters=BIG_THETA),
        dtype=torch.bfloat16, lengths=(5, 21), grid=True, old=without_layer_types,
        without=[dict(zero=r"[qk]_norm", to=1), dict(rope_parameters=dict(rope_type="default", rope_theta=1e4))],
        sharded=True, seed=1),
    "qwen3_yarn": dict(
        widths=TIED, good=REPEATS,
        config=Qwen3Config(**QWEN3 | dict(max_position_embeddings=64),
                           rope_parameters=BIG_THETA | dict(rope_type="yarn", factor=4.0,
                                                            original_max_position_embeddings=16)),
        dtype=torch.bfloat16, lengths=(5, 13, 40), old=without_layer_types,
        without=[dict(rope_parameters=BIG_THETA)], seed=14),
}

GGUF = {
    "qwen2": dict(arch="qwen2", tokenizer="qwen2", types=dict(
        token_embd="F16", output="BF16", attn_q="F16", attn_k="BF16", ffn_gate="F16", ffn_up="BF16", ffn_down="Q4_0")),
    "qwen3": dict(arch="qwen3", tokenizer="qwen2", types=dict(
        token_embd="BF16", attn_q="BF16", attn_k="F16", attn_output="Q8_0", ffn_gate="F16", ffn_down="Q4_1")),
    "qwen3_yarn": dict(arch="qwen3", tokenizer="qwen2", types=dict(token_embd="BF16", **BF16)),
}
