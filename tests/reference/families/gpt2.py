"""GPT-2: transposed weights, learned positions, LayerNorm, no gate."""
import torch
from transformers import GPT2Config

from old_configs import no_rope
from tiny_weights import REPEATS, TIED

COMMON = dict(n_layer=2, n_head=5, n_embd=50, n_positions=48)
BIASES = [dict(zero=r"c_attn\.bias"), dict(zero=r"c_proj\.bias"), dict(zero=r"c_fc\.bias"), dict(zero=r"ln_1\.bias")]


def old_form(config):
    return no_rope(config) | {
        "n_ctx": config["n_positions"],
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}}}


MODELS = {
    "gpt2": dict(
        widths=TIED, good=REPEATS,
        config=GPT2Config(**COMMON, vocab_size=259, bos_token_id=256, eos_token_id=257),
        dtype=torch.bfloat16, lengths=(5, 21), old=old_form, hub=True, without=BIASES + [dict(zero="wpe")], seed=1),
    "gpt2_inner": dict(
        widths=TIED, good=REPEATS,
        config=GPT2Config(**COMMON | dict(n_embd=30), vocab_size=131, n_inner=75, bos_token_id=3, eos_token_id=3),
        dtype=torch.float32, old=old_form, without=BIASES[:1], seed=1),
}

def gguf_weights(name, values, config):
    """[out, in] again."""
    yield name, values.T if name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight")) else values


def gguf_keys(writer, config):
    writer.add_block_count(config["n_layer"])
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_feed_forward_length(4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])


GGUF = {"gpt2": dict(arch="gpt2", tokenizer="gpt-2", weights=gguf_weights, settings=gguf_keys, types=dict(
    token_embd="BF16", attn_qkv="BF16", attn_output="BF16", ffn_up="BF16", ffn_down="BF16"))}
