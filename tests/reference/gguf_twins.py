"""tests/data/gguf/NAME.gguf for models of tests/data/tiny: the same weights under llama.cpp's names and in its order.

    ./run --peers python3 tests/reference/gguf_twins.py [--check --to FOLDER] [NAME ...]

A family says in its table GGUF: arch, settings (the keys), weights (what a tensor becomes), types (by name in GGUF; all
else is F32). Every type holds its tensor exactly, so that logits are those of tiny/NAME/golden.json.
"""
import argparse
import json
import pathlib

import gguf
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize
from safetensors.torch import load_file

import gguf_settings
from common import DATA
from families import all_families
from gguf_files import exact_blocks, finish

ARCHITECTURES = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
CHECKED = {"types": {}, "tokenizer": "words"}


def write_twin(name, path, arch, tokenizer, types, settings=gguf_settings.standard, weights=None):
    source = DATA / "tiny" / name
    config = json.loads((source / "config.json").read_text())
    layers = config.get("num_hidden_layers", config.get("n_layer"))
    names = gguf.get_tensor_name_map(ARCHITECTURES[arch], layers)
    writer = gguf.GGUFWriter(path, arch)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(f"tiny {name}")
    settings(writer, config)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    gguf_settings.add_tokenizer(writer, tokenizer, config)
    tensors = {n: t.float().numpy() for n, t in load_file(source / "model.safetensors").items()}
    for old, values in gguf_settings.merge_experts(tensors).items():
        for old, values in weights(old, values, config) if weights else [(old, values)]:
            new = names.get_name(old, try_suffixes=(".weight", ".bias"))
            assert new, old
            kind = Type[types.get(new.split(".")[-2], "F32")] if new.endswith(".weight") else Type.F32
            kind = Type.F32 if values.ndim == 1 else kind
            data = exact_blocks(values, kind)
            assert (dequantize(data, kind) == values).all(), (name, new)
            writer.add_tensor(new, data, raw_dtype=kind)
    finish(writer)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=pathlib.Path, default=DATA / "gguf")
    parser.add_argument("--check", action="store_true", help="for check_llama_cpp.py: F32, a word for each token")
    parser.add_argument("names", nargs="*", metavar="NAME", help="these alone; default: all")
    options = parser.parse_args()
    for family in all_families():
        for name, twin in getattr(family, "GGUF", {}).items():
            if options.names and name not in options.names:
                continue
            write_twin(name, options.to / f"{name}.gguf", **twin | (CHECKED if options.check else {}))
            print(name)
