"""The Hugging Face folder that transformers saves of the real chat model in a GGUF file; smollm2_test reads it where it
is.

    ./run --peers python3 tests/reference/smollm2_folder.py [GGUF [FOLDER]]

It stays out of tests/data: it is half a gigabyte of float32.
"""
import pathlib
import sys

from from_gguf import load_model, load_tokenizer

MODELS = pathlib.Path(__file__).resolve().parent.parent.parent / ".env/models"  # where ./run keeps models


def main(gguf=MODELS / "SmolLM2-135M-Instruct.Q4_1.gguf", folder=MODELS / "SmolLM2-135M-Instruct"):
    load_model(gguf).save_pretrained(folder, max_shard_size="200MB")
    load_tokenizer(gguf).save_pretrained(folder)
    print(folder, *sorted(file.name for file in pathlib.Path(folder).iterdir()))


if __name__ == "__main__":
    main(*sys.argv[1:])
