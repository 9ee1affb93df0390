"""tests/data/gguf: small GGUF files.

types.gguf has one tensor of each storage type; types.f32 what they are as float32 (places in types.json).
llama2.gguf, llama31.gguf are the models of tests/data/tiny in mixed storage types. Their weights are multiples of a
step per tensor that every one of these types holds exactly, so the logits are those of tiny/*/golden.json.
"""
import json

import gguf
import numpy
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize, quantize
from safetensors.torch import load_file
from tokenizers import Tokenizer

import small_tokenizers
from common import DATA, Floats, write_json
from gguf_settings import interleave_heads
from hard_strings import HARD_STRINGS

FOLDER = DATA / "gguf"


# ---- one tensor of each type

def half_bytes(values):
    return numpy.asarray(values, "<f2").reshape(-1, 1).view(numpy.uint8)


# where the half-precision scales of a block lie, in bytes
SCALES = {
    Type.Q4_K: (0, 2), Type.Q6_K: (208,), Type.Q5_0: (0,), Type.Q5_1: (0, 2), Type.Q2_K: (80, 82), Type.Q3_K: (108,),
    Type.Q5_K: (0, 2), Type.IQ4_NL: (0,), Type.IQ4_XS: (0,)}


def random_blocks(kind, blocks, rng):
    """Valid blocks of a type: random bytes with sensible scales."""
    data = rng.integers(0, 256, (blocks, gguf.GGML_QUANT_SIZES[kind][1]), dtype=numpy.uint8)
    for place in SCALES[kind]:
        data[:, place:place + 2] = half_bytes(rng.uniform(1e-3, 2e-2, blocks))
    return data


def write_types(rows=3, columns=256):
    rng = numpy.random.default_rng(0)
    writer = gguf.GGUFWriter(FOLDER / "types.gguf", "llama")
    floats, places = Floats(), []
    for kind in (Type.F32, Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0, Type.Q4_1, *SCALES):
        if kind in SCALES:
            data = random_blocks(kind, rows * columns // gguf.GGML_QUANT_SIZES[kind][0], rng).reshape(rows, -1)
            if kind not in (Type.Q4_K, Type.Q6_K):  # the last row's scales are negative
                for place in SCALES[kind]:
                    data[2].reshape(-1, gguf.GGML_QUANT_SIZES[kind][1])[:, place + 1] |= 0x80
        else:
            values = rng.standard_normal((rows, columns)).astype(numpy.float32)
            # signed zeros, the smallest and largest of f16, one that is subnormal in f16; two whole blocks of zeros
            values[0, :8] = [0.0, -0.0, 2**-24, -(2**-14), 65504, -65504, 1e-5, -1.0]
            values[1, :64] = 0
            data = quantize(values, kind)
        name = f"{kind.name.lower()}.weight"
        writer.add_tensor(name, data, raw_dtype=kind)
        places.append({"name": name, "type": kind.name} | floats.add(dequantize(data, kind).reshape(rows, columns)))
    finish(writer)
    floats.write(FOLDER / "types.f32")
    write_json(FOLDER / "types.json", {
        "file": "types.f32", "layout": "raw little-endian float32, offset counts floats; shape as in PyTorch "
        "(GGUF itself lists dimensions the other way round)", "tensors": places})


# ---- whole models

LLAMA2_TYPES = {"token_embd": Type.Q4_1, "output": Type.Q8_0, "attn_q": Type.Q4_0, "attn_k": Type.Q4_1,
                "attn_v": Type.Q4_0, "attn_output": Type.Q4_0, "ffn_gate": Type.Q4_0, "ffn_up": Type.Q4_0,
                "ffn_down": Type.Q4_0}
LLAMA31_TYPES = {"token_embd": Type.BF16, "attn_q": Type.Q8_0, "attn_k": Type.F16, "attn_v": Type.BF16,
                 "attn_output": Type.Q4_1, "ffn_gate": Type.Q4_0, "ffn_up": Type.Q8_0, "ffn_down": Type.Q4_0}
NAMES = {"model.embed_tokens": "token_embd", "lm_head": "output", "model.norm": "output_norm",
         "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
         "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def exact_blocks(values, kind):
    """Blocks that hold values = step * {-8..7} without an error; quantize() would choose scales that do not."""
    if kind not in (Type.Q4_0, Type.Q4_1, Type.Q8_0):
        return quantize(values, kind)
    step = abs(values[values != 0]).min()
    whole = (values / step).round().astype(numpy.int8).reshape(-1, 32)
    parts = [half_bytes(numpy.full(len(whole), step))]
    if kind == Type.Q8_0:
        parts.append(whole.view(numpy.uint8))
    else:
        if kind == Type.Q4_1:
            parts.append(half_bytes(numpy.full(len(whole), -8 * step)))
        codes = (whole + 8).astype(numpy.uint8)
        parts.append(codes[:, :16] | codes[:, 16:] << 4)
    return numpy.concatenate(parts, axis=1).reshape(*values.shape[:-1], -1)


def add_weights(writer, folder, config, types):
    for name, tensor in load_file(folder / "model.safetensors").items():
        values, name = tensor.float().numpy(), name.removesuffix(".weight")
        prefix = ""
        if name.startswith("model.layers."):
            _, _, layer, name = name.split(".", 3)
            prefix = f"blk.{layer}."
        name = NAMES[name]
        if name in ("attn_q", "attn_k"):
            heads = config["num_attention_heads" if name == "attn_q" else "num_key_value_heads"]
            values = interleave_heads(values, heads)
        kind = types.get(name, Type.F32)
        data = exact_blocks(values, kind)
        assert (dequantize(data, kind) == values).all()
        writer.add_tensor(f"{prefix}{name}.weight", data, raw_dtype=kind)


def rope_factors(config):
    """What each frequency of LLaMA-3.1 is divided by, as converters store it."""
    rope, half = config["rope_parameters"], config["head_dim"] // 2
    wavelength = 2 * numpy.pi * rope["rope_theta"] ** (numpy.arange(half) / half)
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    smooth = ((rope["original_max_position_embeddings"] / wavelength - low) / (high - low)).clip(0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(numpy.float32)


def add_settings(writer, name, config):
    writer.add_name(f"tiny {name}")
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def add_tokenizer(writer, folder):
    value = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    added = {token["id"]: token for token in value["added_tokens"]}
    vocab = value["model"]["vocab"] | {token["content"]: i for i, token in added.items()}
    tokens = sorted(vocab, key=vocab.get)
    kind = lambda i: (gguf.TokenType.CONTROL if added[i]["special"] else gguf.TokenType.USER_DEFINED) \
        if i in added else gguf.TokenType.NORMAL
    types = [kind(i) for i in range(len(tokens))]
    if value["model"]["byte_fallback"]:
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        for i, token in enumerate(tokens):
            if token == "<unk>":
                types[i] = gguf.TokenType.UNKNOWN
            elif token.startswith("<0x"):
                types[i] = gguf.TokenType.BYTE
        _, ranked = small_tokenizers.sentencepiece_pieces(len(tokens))
        score = {token: -float(rank) for rank, token in enumerate(ranked)}
        writer.add_token_scores([-1e9 if set(t) == {"▁"} else score.get(t, 0.0) for t in tokens])
        writer.add_add_space_prefix(True)
        writer.add_unk_token_id(vocab["<unk>"])
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("llama-bpe")
        writer.add_token_merges([" ".join(merge) for merge in value["model"]["merges"]])
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_bos_token_id(vocab[config["bos_token"]])
    writer.add_eos_token_id(vocab[config["eos_token"]])
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_chat_template(config["chat_template"])


def write_model(name, types):
    folder = DATA / "tiny" / name
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(FOLDER / f"{name}.gguf", "llama")
    add_settings(writer, name, config)
    add_tokenizer(writer, folder)
    add_weights(writer, folder, config, types)
    if config["rope_parameters"]["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", rope_factors(config))
    finish(writer)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    write_json(FOLDER / f"{name}_vectors.json", [small_tokenizers.vector(tokenizer, t) for t in HARD_STRINGS[::3]])


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_types()
    write_model("llama2", LLAMA2_TYPES)
    write_model("llama31", LLAMA31_TYPES)
