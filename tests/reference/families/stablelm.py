"""StableLM: LayerNorm, RoPE on a part of each head, attention and MLP in parallel or in turn."""
import torch
from transformers import StableLmConfig

import gguf_settings as settings
from gguf_settings import BF16
from old_configs import rope_at_the_top

COMMON = dict(vocab_size=131, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=3, intermediate_size=39,
              max_position_embeddings=256, bos_token_id=0, eos_token_id=3)
WHOLE_HEAD = dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=1.0)
NORM_BIASES = [dict(zero=r"input_layernorm\.bias"), dict(zero=r"model\.norm\.bias", at_least=0.02)]


def old_form(config):
    """partial_rotary_factor beside rope_theta."""
    old = rope_at_the_top(config)
    return old | {"partial_rotary_factor": config["rope_parameters"]["partial_rotary_factor"]}


def default_factor(config):
    """A quarter where nothing is said."""
    old = old_form(config)
    del old["partial_rotary_factor"]
    return old


MODELS = {
    # a quarter of 10 is 2 elements that turn
    "stablelm": dict(
        config=StableLmConfig(**COMMON, hidden_size=60, use_qkv_bias=True), dtype=torch.bfloat16, lengths=(5, 21),
        old=default_factor, seed=2,
        without=NORM_BIASES + [dict(rope_parameters=WHOLE_HEAD), dict(zero=r"q_proj\.bias"), dict(zero=r"v_proj\.bias"),
                               dict(zero=r"post_attention_layernorm\.bias")]),
    "stablelm_parallel": dict(
        config=StableLmConfig(**COMMON, hidden_size=48, use_parallel_residual=True,
                              rope_parameters=WHOLE_HEAD | dict(partial_rotary_factor=0.5)),
        dtype=torch.bfloat16, lengths=(5, 21), old=old_form, seed=11,
        without=NORM_BIASES + [dict(rope_parameters=WHOLE_HEAD)]),
}



def gguf_keys(writer, config):
    settings.sizes(writer, config)
    rope = config["rope_parameters"]
    writer.add_rope_freq_base(rope["rope_theta"])
    head_dim = config["hidden_size"] / config["num_attention_heads"]
    writer.add_rope_dimension_count(int(rope["partial_rotary_factor"] * head_dim))
    writer.add_parallel_residual(config["use_parallel_residual"])


TYPES = dict(token_embd="BF16", output="BF16", **BF16)
GGUF = {name: dict(arch="stablelm", tokenizer="words", settings=gguf_keys, types=TYPES)
        for name in ("stablelm", "stablelm_parallel")}
