"""Metadata of GGUF files as llama.cpp's converter writes them from a config.json, and what several families share."""
import gguf
import numpy
from tokenizers import pre_tokenizers

BF16 = {name: "BF16" for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")}


def sizes(writer, config):
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    if "rms_norm_eps" in config:
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    else:
        writer.add_layer_norm_eps(config.get("layer_norm_eps", config.get("layer_norm_epsilon")))


def head_length(writer, config):
    if config.get("head_dim"):
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])


def rope(writer, config):
    """The table of all layers, or of those with full attention."""
    table = config["rope_parameters"]
    table = table.get("full_attention", table)
    writer.add_rope_freq_base(table["rope_theta"])
    if table["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(table["rope_type"]))
        writer.add_rope_scaling_factor(table["factor"])
    if table["rope_type"] == "yarn":
        writer.add_rope_scaling_orig_ctx_len(table["original_max_position_embeddings"])


def standard(writer, config):
    """Of most families."""
    sizes(writer, config)
    head_length(writer, config)
    rope(writer, config)
    experts = config.get("num_local_experts", config.get("num_experts"))
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config["num_experts_per_tok"])


def interleave_heads(weight, heads):
    """GGUF rotates neighbours (2i, 2i+1), Hugging Face (i, i + head_dim/2): the rows of q and k change places."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def merge_experts(tensors):
    """Experts of a layer as one tensor [expert, out, in] under the name that they have without their number."""
    merged, parts = {}, {}
    for name, values in tensors.items():
        before, _, after = name.partition(".experts.")
        if after:
            number, rest = after.split(".", 1)
            parts.setdefault(f"{before}.experts.{rest}", {})[int(number)] = values
        else:
            merged[name] = values
    return merged | {name: numpy.stack([experts[n] for n in range(len(experts))]) for name, experts in parts.items()}


def add_tokenizer(writer, kind, config):
    """A vocabulary of bytes and little more, enough for a program that wants one: the models are fed with ids."""
    vocab_size, bos, eos = config["vocab_size"], config["bos_token_id"], config["eos_token_id"]
    control, normal, byte = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL, gguf.TokenType.BYTE
    if kind == "words":  # whole words, so that a program that shows text has something to show for every token
        tokens, types = [f"t{i}" for i in range(vocab_size)], [normal] * vocab_size
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_merges(["t 0"])
    elif kind in ("llama", "gemma"):
        special = ["<unk>", "<s>", "</s>"] if kind == "llama" else ["<pad>", "<eos>", "<bos>", "<unk>"]
        tokens = special + [f"<0x{b:02X}>" for b in range(256)] + list("▁et")
        types = [gguf.TokenType.UNKNOWN if t == "<unk>" else control for t in special] + [byte] * 256 + [normal] * 3
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_scores([-1000.0 if t != normal else -1.0 for t in types[:vocab_size]])
        writer.add_unk_token_id(special.index("<unk>"))
        writer.add_add_space_prefix(kind == "llama")
        writer.add_add_bos_token(True)
    else:
        tokens = sorted(pre_tokenizers.ByteLevel.alphabet()) + ["<|endoftext|>", "<|im_end|>", "th"]
        types = [normal] * 256 + [control] * 2 + [normal]
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(kind)
        writer.add_token_merges(["t h"])
    assert len(tokens[:vocab_size]) == vocab_size
    writer.add_token_list(tokens[:vocab_size])
    writer.add_token_types(types[:vocab_size])
    if bos is not None:
        writer.add_bos_token_id(bos)
    if eos is not None:
        writer.add_eos_token_id(eos)
