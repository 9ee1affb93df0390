"""Gemma 1, 2 and 3: 1 + w norms, scaled embeddings, gelu gates, soft caps, norms on both sides, two rope tables."""
import torch
from transformers import Gemma2Config, Gemma3TextConfig, GemmaConfig

import gguf_settings as settings
from gguf_settings import BF16
from old_configs import rope_at_the_top, without_layer_types
from tiny_weights import REPEATS

WIDTHS = dict(norm=0, final_norm=3, embedding=0.06)  # of 1 + w, and before the embedding is scaled
COMMON = dict(vocab_size=263, hidden_size=42, intermediate_size=75, num_attention_heads=6, num_key_value_heads=3,
              head_dim=10, max_position_embeddings=256, rms_norm_eps=1e-6)
LOCAL = dict(rope_type="default", rope_theta=1e4)
GLOBAL = dict(rope_type="linear", rope_theta=1e6, factor=8.0)
GEMMA2 = COMMON | dict(num_hidden_layers=3, query_pre_attn_scalar=10, sliding_window=6, attn_logit_softcapping=4.0,
                       final_logit_softcapping=9.0)
GEMMA2_WITHOUT = [dict(attn_logit_softcapping=None), dict(final_logit_softcapping=None),
                  dict(layer_types=["full_attention"] * 3), dict(layer_types=["sliding_attention"] * 3),
                  dict(zero="post_attention_layernorm"), dict(zero="post_feedforward_layernorm")]
# full attention in the sixth layer and the seventh sliding again: the pattern that llama.cpp takes for granted
GEMMA3 = COMMON | dict(num_hidden_layers=7, query_pre_attn_scalar=8, head_dim=8, hidden_size=30, intermediate_size=33,
                       sliding_window=7,
                       rope_parameters=dict(sliding_attention=LOCAL, full_attention=GLOBAL))
GEMMA3_WITHOUT = [dict(rope_parameters=dict(sliding_attention=LOCAL, full_attention=LOCAL)),
                  dict(rope_parameters=dict(sliding_attention=GLOBAL, full_attention=GLOBAL)),
                  dict(layer_types=["full_attention"] * 7), dict(layer_types=["sliding_attention"] * 7),
                  dict(zero=r"q_norm"), dict(zero=r"k_norm")]


def old_gemma1(config):
    return rope_at_the_top(config) | {"hidden_activation": "gelu_pytorch_tanh"}


def old_gemma3(config):
    tables = config["rope_parameters"]
    old = rope_at_the_top(config | {"rope_parameters": tables["full_attention"]})
    del old["layer_types"], old["_sliding_window_pattern"]
    return old | {"rope_local_base_freq": tables["sliding_attention"]["rope_theta"], "sliding_window_pattern": 6,
                  "cache_implementation": "hybrid"}


MODELS = {
    "gemma1": dict(
        widths=WIDTHS, good=REPEATS,
        config=GemmaConfig(**COMMON, num_hidden_layers=2), dtype=torch.bfloat16, old=old_gemma1,
        lengths=(5, 21),
        without=[dict(zero="layernorm"), dict(hidden_act="silu", at_least=0.02)], seed=3),
    "gemma2": dict(
        widths=WIDTHS, good=REPEATS,
        config=Gemma2Config(**GEMMA2), dtype=torch.bfloat16, lengths=(5, 21),
        old=without_layer_types, without=GEMMA2_WITHOUT, seed=2),
    # a scale of attention that is not head_dim's, which GGUF has no key for
    "gemma2_scalar": dict(
        widths=WIDTHS, good=REPEATS,
        config=Gemma2Config(**GEMMA2 | dict(query_pre_attn_scalar=23, vocab_size=131)), dtype=torch.bfloat16,
        old=without_layer_types, without=[dict(query_pre_attn_scalar=10)] + GEMMA2_WITHOUT[:4], seed=8),
    "gemma3": dict(
        widths=WIDTHS, good=REPEATS,
        config=Gemma3TextConfig(**GEMMA3), dtype=torch.bfloat16, lengths=(5, 21), old=old_gemma3,
        without=GEMMA3_WITHOUT, seed=144),
    # kinds of layers in no pattern, another scale of attention, and a cap on the logits
    "gemma3_scalar": dict(
        widths=WIDTHS, good=REPEATS,
        config=Gemma3TextConfig(**GEMMA3 | dict(
            query_pre_attn_scalar=23, vocab_size=131, num_hidden_layers=3, final_logit_softcapping=9.0,
            layer_types=["full_attention", "sliding_attention", "full_attention"])),
        dtype=torch.bfloat16, without=[dict(query_pre_attn_scalar=8), dict(final_logit_softcapping=None)], seed=26),
}

def gguf_plus_one(name, values, config):
    """GGUF has the factor itself in a norm, not what lies above 1."""
    yield name, values + 1 if "norm" in name else values


def gguf_gemma1(writer, config):
    """Everything but rope, which always is the plain one with a base of 10000."""
    settings.sizes(writer, config)
    settings.head_length(writer, config)


def gguf_gemma2(writer, config):
    gguf_gemma1(writer, config)
    writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
    writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    writer.add_sliding_window(config["sliding_window"])


def gguf_gemma3(writer, config):
    """No key tells which layers slide: five of six."""
    settings.standard(writer, config)
    writer.add_rope_freq_base_swa(config["rope_parameters"]["sliding_attention"]["rope_theta"])
    writer.add_sliding_window(config["sliding_window"])


GGUF = {
    "gemma1": dict(arch="gemma", tokenizer="gemma", weights=gguf_plus_one, settings=gguf_gemma1, types=dict(
        token_embd="BF16", **BF16)),
    "gemma2": dict(arch="gemma2", tokenizer="gemma", weights=gguf_plus_one, settings=gguf_gemma2, types=dict(
        token_embd="BF16", ffn_gate="BF16", ffn_up="BF16", ffn_down="BF16")),
    "gemma3": dict(arch="gemma3", tokenizer="gemma", weights=gguf_plus_one, settings=gguf_gemma3, types=dict(
        token_embd="BF16", **BF16)),
}
