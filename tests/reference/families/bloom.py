"""BLOOM: ALiBi for a number of heads that is no power of two, a norm behind the embedding, fused q, k, v."""
import torch
from transformers import BloomConfig

from old_configs import no_rope
from tiny_weights import REPEATS, TIED


def old_form(config):
    old = no_rope(config) | {
        "n_embed": config["hidden_size"], "num_attention_heads": config["n_head"], "attention_softmax_in_fp32": True,
        "bias_dropout_fusion": True, "masked_softmax_fusion": True, "n_inner": None, "offset_alibi": 100,
        "seq_length": 2048, "skip_bias_add": True, "skip_bias_add_qkv": False, "unk_token_id": 0}
    del old["hidden_size"], old["n_head"]
    return old


MODELS = {
    "bloom": dict(
        widths=TIED, good=REPEATS,
        config=BloomConfig(vocab_size=259, hidden_size=42, n_layer=2, n_head=6, eos_token_id=257, bos_token_id=256),
        dtype=torch.bfloat16, lengths=(5, 21), old=old_form, hub=True,
        without=[dict(zero=r"query_key_value\.bias"), dict(zero=r"dense\.bias"), dict(zero=r"4h_to_h\.bias"),
                 dict(zero=r"word_embeddings_layernorm\.bias"), dict(zero=r"ln_f\.bias", at_least=0.02)], seed=44),
}

def gguf_weights(name, values, config):
    """Of all heads q, then k, then v, where BLOOM has q, k, v of one head after the other."""
    if "query_key_value" in name:
        heads, rows = config["n_head"], values.shape[0]
        values = values.reshape(heads, 3, rows // heads // 3, *values.shape[1:]).swapaxes(0, 1).reshape(values.shape)
    yield name.removeprefix("transformer."), values


def gguf_keys(writer, config):
    writer.add_context_length(2048)
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(4 * config["hidden_size"])
    writer.add_block_count(config["n_layer"])
    writer.add_head_count(config["n_head"])
    writer.add_head_count_kv(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])


GGUF = {"bloom": dict(arch="bloom", tokenizer="bloom", weights=gguf_weights, settings=gguf_keys, types={})}
