"""OLMo 2: norms behind attention and MLP only, and of q and k over all heads together."""
import torch
from transformers import Olmo2Config

from gguf_settings import BF16
from old_configs import rope_at_the_top

MODELS = {
    # 4 layers, since heads are not split: 4 stages
    "olmo2": dict(
        config=Olmo2Config(vocab_size=131, hidden_size=42, intermediate_size=39, num_hidden_layers=4,
                           num_attention_heads=7,
                           num_key_value_heads=7, max_position_embeddings=256, bos_token_id=None, eos_token_id=3,
                           rope_parameters=dict(rope_type="default", rope_theta=5e5)),
        dtype=torch.bfloat16, lengths=(5, 21), old=rope_at_the_top, seed=4,
        without=[dict(zero=r"[qk]_norm", to=1), dict(zero="post_attention_layernorm", to=1),
                 dict(rope_parameters=dict(rope_type="default", rope_theta=1e4))]),
    "olmo2_grouped": dict(
        config=Olmo2Config(vocab_size=131, hidden_size=48, intermediate_size=51, num_hidden_layers=2,
                           num_attention_heads=6,
                           num_key_value_heads=3, max_position_embeddings=256, bos_token_id=None, eos_token_id=3),
        dtype=torch.bfloat16, lengths=(5, 21), seed=3, without=[dict(zero=r"[qk]_norm", to=1)]),
}

GGUF = {"olmo2": dict(arch="olmo2", tokenizer="words", types=dict(token_embd="BF16", output="BF16", **BF16))}
