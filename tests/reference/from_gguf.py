"""Model and tokenizer that transformers reads from a GGUF file."""
import importlib.metadata
import pathlib

import gguf
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

# transformers asks for the version of a Python distribution; some systems' package of gguf carries none that it finds
if not hasattr(gguf, "__version__"):
    gguf.__version__ = importlib.metadata.version("gguf")


def load_model(path):
    path = pathlib.Path(path)
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


def load_tokenizer(path):
    path = pathlib.Path(path)
    return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
