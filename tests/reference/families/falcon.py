"""Falcon: fused q, k, v by KV group, attention and MLP in parallel behind one norm or two, or in turn."""
import numpy
import torch
from transformers import FalconConfig

import gguf_settings as settings
from old_configs import no_rope, rope_at_the_top
from tiny_weights import REPEATS, TIED

COMMON = dict(num_hidden_layers=2, vocab_size=131, bos_token_id=2, eos_token_id=3)
GROUPED = COMMON | dict(hidden_size=48, num_attention_heads=6, num_kv_heads=3, new_decoder_architecture=True,
                        ffn_hidden_size=75)
BIASES = [dict(zero=rf"{name}\.bias") for name in ("query_key_value", "dense", "4h_to_h", "h_to_4h")]


def old_7b(config):
    """As the hub has it: what is absent is the default."""
    dropped = ("rope_parameters", "max_position_embeddings", "num_kv_heads", "num_ln_in_parallel_attn", "activation",
               "ffn_hidden_size", "tie_word_embeddings")
    old = {key: value for key, value in no_rope(config).items() if key not in dropped}
    return old | {"apply_residual_connection_post_layernorm": False}


MODELS = {
    # 7B: one KV head for 7, one norm
    "falcon": dict(
        config=FalconConfig(**COMMON, hidden_size=42, num_attention_heads=7), dtype=torch.bfloat16, widths=TIED,
        good=REPEATS, lengths=(5, 21), old=old_7b, without=[dict(zero=r"input_layernorm\.bias")], seed=2),
    # 40B: two norms
    "falcon_40b": dict(
        config=FalconConfig(**GROUPED), dtype=torch.bfloat16, widths=TIED, good=REPEATS, lengths=(5, 21),
        old=rope_at_the_top, seed=2,
        without=[dict(zero=r"ln_attn\.bias"), dict(zero=r"ln_mlp\.bias"), dict(zero=r"ln_f\.bias", at_least=0.02)]),
    # 11B: grouped heads behind one norm, embeddings not tied
    "falcon_11b": dict(
        config=FalconConfig(**GROUPED, num_ln_in_parallel_attn=1, tie_word_embeddings=False,
                            rope_parameters=dict(rope_type="default", rope_theta=5e5)),
        dtype=torch.bfloat16, lengths=(5, 21), old=lambda config: rope_at_the_top(config) | {"ff_factor": 4}, seed=6,
        without=[dict(zero=r"input_layernorm\.bias"), dict(rope_parameters=dict(rope_type="default", rope_theta=1e4))]),
    # attention and MLP in turn, a KV head for each head, all biases that the class knows
    "falcon_in_turn": dict(
        config=FalconConfig(**COMMON, hidden_size=36, num_attention_heads=6, multi_query=False, parallel_attn=False,
                            bias=True, ffn_hidden_size=51),
        dtype=torch.bfloat16, widths=TIED, good=REPEATS, lengths=(5, 21), old=rope_at_the_top, seed=2,
        without=BIASES + [dict(zero=r"input_layernorm\.bias"), dict(zero=r"post_attention_layernorm\.bias")]),
}


def gguf_weights(name, values, config):
    """All of q, then k, then v, where Falcon has the three of each KV group in turn."""
    if "query_key_value" in name:
        heads = config["num_attention_heads"]
        groups = config["num_kv_heads"] if config["new_decoder_architecture"] else 1
        size = config["hidden_size"] // heads
        by_group = values.reshape(groups, heads // groups + 2, size, *values.shape[1:])
        q, k, v = by_group[:, :-2], by_group[:, -2], by_group[:, -1]
        values = numpy.concatenate([part.reshape(-1, *values.shape[1:]) for part in (q, k, v)])
    yield name, values


def gguf_keys(writer, config):
    kv_heads = config["num_kv_heads"] if config["new_decoder_architecture"] else 1
    settings.sizes(writer, config | dict(intermediate_size=config["ffn_hidden_size"], num_key_value_heads=kv_heads))
    settings.rope(writer, config)
    writer.add_tensor_data_layout("jploski")


TYPES = dict(token_embd="BF16", output="BF16", attn_qkv="BF16", attn_output="BF16", ffn_up="BF16", ffn_down="BF16")
GGUF = {name: dict(arch="falcon", tokenizer="words", weights=gguf_weights, settings=gguf_keys, types=TYPES)
        for name in ("falcon", "falcon_40b")}
