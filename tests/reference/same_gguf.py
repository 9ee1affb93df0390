"""Whether two GGUF files hold the same keys and tensors, byte for byte; tells what differs.

    ./run grist convert --quantize q4_0 MODEL.gguf --out ours.gguf
    ./run --peers llama-quantize --allow-requantize MODEL.gguf theirs.gguf Q4_0
    ./run --peers python3 tests/reference/same_gguf.py ours.gguf theirs.gguf
"""
import sys

import gguf


def main(ours, theirs):
    tensors = [{t.name: t for t in file.tensors} for file in (ours, theirs)]
    keys = [{k: f.contents() for k, f in file.fields.items() if not k.startswith("GGUF.")} for file in (ours, theirs)]
    wrong = [f"{name} is in one file only" for a, b in (tensors, keys) for name in sorted(set(a) ^ set(b))]
    wrong += [f"{k}: {keys[0][k]} and {keys[1][k]}" for k in set(keys[0]) & set(keys[1]) if keys[0][k] != keys[1][k]]
    for name in tensors[0].keys() & tensors[1].keys():
        a, b = (side[name] for side in tensors)
        if a.tensor_type != b.tensor_type:
            wrong.append(f"{name}: {a.tensor_type.name} and {b.tensor_type.name}")
        elif a.data.tobytes() != b.data.tobytes():
            wrong.append(f"{name}: other bytes of {a.tensor_type.name}")
    print("\n".join(wrong) or f"the same {len(tensors[0])} tensors and {len(keys[0])} keys")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main(*map(gguf.GGUFReader, sys.argv[1:]))
