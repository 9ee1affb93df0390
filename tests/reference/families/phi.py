"""Phi: LayerNorm, RoPE on a part of each head, attention and MLP in parallel behind one norm, biases everywhere, of the
logits too."""
import re

import numpy
import torch
from transformers import PhiConfig

import gguf_settings as settings
from families.stablelm import TYPES, WHOLE_HEAD, old_form

COMMON = dict(vocab_size=131, num_hidden_layers=2, num_attention_heads=6, intermediate_size=63,
              max_position_embeddings=256, bos_token_id=0, eos_token_id=3)
WITHOUT = [dict(zero=rf"{name}\.bias") for name in ("q_proj", "v_proj", "dense", "fc1", "fc2", "input_layernorm")] + [
    dict(zero=r"final_layernorm\.bias", at_least=0.02), dict(zero=r"lm_head\.bias", at_least=0.02),
    dict(rope_parameters=WHOLE_HEAD)]


def defaults_left_out(config):
    """Half of a head turns and each head has its KV head where nothing is said."""
    old = old_form(config)
    for key in ("partial_rotary_factor", "num_key_value_heads", "hidden_act"):
        del old[key]
    return old


MODELS = {
    "phi": dict(
        config=PhiConfig(**COMMON, hidden_size=48), dtype=torch.bfloat16, lengths=(5, 21), old=defaults_left_out,
        seed=23, without=WITHOUT),
    # as phi-2, four tenths of a head turn
    "phi_grouped": dict(
        config=PhiConfig(**COMMON, hidden_size=60, num_key_value_heads=3,
                         rope_parameters=WHOLE_HEAD | dict(partial_rotary_factor=0.4)),
        dtype=torch.bfloat16, lengths=(5, 21), old=old_form, seed=3, without=WITHOUT),
}


def gguf_keys(writer, config):
    settings.sizes(writer, config)
    factor = config["rope_parameters"]["partial_rotary_factor"]
    writer.add_rope_dimension_count(int(factor * config["hidden_size"]) // config["num_attention_heads"])


def fused():
    """q, k and v in one tensor, as the first files of Phi-2 have them."""
    parts = {}

    def weights(name, values, config):
        found = re.fullmatch(r"model\.layers\.(\d+)\.self_attn\.([qkv])_proj(\..*)", name)
        if not found:
            yield name, values
            return
        layer, part, suffix = found.groups()
        three = parts.setdefault((layer, suffix), {})
        three[part] = values
        if len(three) == 3:
            yield f"transformer.h.{layer}.mixer.Wqkv{suffix}", numpy.concatenate([three[p] for p in "qkv"])

    return weights


GGUF = {
    "phi": dict(arch="phi2", tokenizer="words", settings=gguf_keys, types=TYPES),
    "phi_grouped": dict(arch="phi2", tokenizer="words", settings=gguf_keys, weights=fused(),
                        types=TYPES | dict(attn_qkv="BF16")),
}
