"""ik_llama.cpp: a folder of its programs is given by --ik-llama, or they are on PATH under llama.cpp's names."""
from llama_cpp import measure, prepare  # noqa: F401  the same programs

NAME = "ik_llama.cpp"
PACKAGES = []
WEIGHTS = {"bf16": "BF16", "q8_0": "Q8_0", "q4_0": "Q4_0"}
