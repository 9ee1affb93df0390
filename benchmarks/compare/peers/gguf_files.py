"""GGUF files of a LLaMA model's Hugging Face folder, for timing: weights alone, with a tokenizer of names."""
import json
import pathlib

from driver import Failed, config_of, run_program


def gguf_of(job, quantize):
    """The model in the job's type of weights; a GGUF file is taken as it is."""
    model = pathlib.Path(job["model"])
    if model.suffix == ".gguf":
        return model
    folder = pathlib.Path(job["store"])
    folder.mkdir(parents=True, exist_ok=True)
    plain = folder / f"{model.name}-bf16.gguf"
    if not plain.exists():
        write_bf16(model, plain)
    wanted = folder / f"{model.name}-{job['weights']}.gguf"
    if not wanted.exists():
        part = wanted.with_suffix(".part")
        run_program([quantize, plain, part, job["weights"], job["threads"]])
        part.rename(wanted)
    return wanted


def vocabulary_of(path):
    import gguf
    field = gguf.GGUFReader(path).get_field("tokenizer.ggml.tokens")
    return len(field.data)


def tensors_of(folder):
    """Names and bf16 tensors of safetensors files as 16-bit integers."""
    import numpy
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as data:
            size = int.from_bytes(data.read(8), "little")
            header = json.loads(data.read(size))
        for name, tensor in header.items():
            if name == "__metadata__":
                continue
            if tensor["dtype"] != "BF16":
                raise Failed(f"{file}: {name} is {tensor['dtype']}; only BF16 is written as GGUF here")
            yield name, numpy.memmap(file, numpy.int16, "r", 8 + size + tensor["data_offsets"][0],
                                     tuple(tensor["shape"]))


def write_bf16(folder, path):
    import gguf
    import numpy
    config = config_of(folder)
    if config["architectures"] != ["LlamaForCausalLM"]:
        raise Failed(f"{folder}: {config['architectures'][0]}; only LlamaForCausalLM is written as GGUF here")
    heads, layers = config["num_attention_heads"], config["num_hidden_layers"]
    kv_heads = config.get("num_key_value_heads", heads)
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    theta = (config.get("rope_parameters") or config).get("rope_theta", 10000.0)
    writer = gguf.GGUFWriter(path.with_suffix(".part"), "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(layers)
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(theta)
    writer.add_rope_dimension_count(head_dim)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("llama")
    tokens = ["<unk>", "<s>", "</s>"] + [f"\u2581t{i}" for i in range(3, config["vocab_size"])]
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([2, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, layers)
    for name, bits in tensors_of(folder):
        if name == "lm_head.weight" and config.get("tie_word_embeddings"):
            continue
        target = names.get_name(name, try_suffixes=(".weight",))
        if target is None:
            raise Failed(f"{folder}: the tensor {name} is not known")
        for part, count in (("q_proj", heads), ("k_proj", kv_heads)):
            if part in name:   # llama.cpp turns neighbours, transformers the halves of a head
                bits = bits.reshape(count, 2, head_dim // 2, -1).swapaxes(1, 2).reshape(bits.shape)
        if bits.ndim == 1:
            values = (bits.astype(numpy.uint16).astype(numpy.uint32) << 16).view(numpy.float32)
            writer.add_tensor(target, values)
        else:
            raw = numpy.ascontiguousarray(bits).view(numpy.uint8)
            writer.add_tensor(target, raw, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    path.with_suffix(".part").rename(path)
