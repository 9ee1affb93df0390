"""Cohere: LayerNorm without biases, attention and MLP in parallel behind one norm, RoPE on neighbours, scaled logits.
"""
import gguf
import torch
from transformers import CohereConfig

import gguf_settings as settings
from gguf_settings import BF16
from old_configs import rope_at_the_top
from tiny_weights import REPEATS, TIED

COMMON = dict(vocab_size=131, num_hidden_layers=2, num_attention_heads=6, intermediate_size=39,
              max_position_embeddings=256, bos_token_id=0, eos_token_id=3)
OTHER_THETA = dict(rope_parameters=dict(rope_type="default", rope_theta=1e4))


def old_command_r(config):
    """As the hub has it, with the context that the model was trained for beside max_position_embeddings."""
    dropped = ("tie_word_embeddings", "logit_scale", "use_qk_norm")
    old = {key: value for key, value in rope_at_the_top(config).items() if key not in dropped}
    return old | {"model_max_length": 512, "pretraining_tp": 1}


MODELS = {
    "cohere": dict(
        config=CohereConfig(**COMMON, hidden_size=48, num_key_value_heads=3), dtype=torch.bfloat16, widths=TIED,
        good=REPEATS, lengths=(5, 21), old=old_command_r, seed=1, without=[dict(logit_scale=1.0), OTHER_THETA]),
    # a KV head for each head, biases of attention, embeddings not tied
    "cohere_bias": dict(
        config=CohereConfig(**COMMON, hidden_size=36, attention_bias=True, tie_word_embeddings=False, logit_scale=0.25,
                            rope_parameters=dict(rope_type="default", rope_theta=8e6)),
        dtype=torch.bfloat16, lengths=(5, 21), old=rope_at_the_top, seed=4,
        without=[dict(zero=rf"{name}_proj\.bias") for name in "qkvo"] + [dict(logit_scale=0.0625), OTHER_THETA]),
}


def gguf_keys(writer, config):
    settings.standard(writer, config)
    writer.add_logit_scale(config["logit_scale"])
    writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)


# llama.cpp knows tied embeddings alone
GGUF = {"cohere": dict(arch="command-r", tokenizer="words", settings=gguf_keys, types=dict(token_embd="BF16", **BF16))}
