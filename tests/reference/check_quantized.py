"""The perplexity of one window of a text in llama.cpp, for GGUF files that `grist convert --quantize` wrote.

    ./run --peers python3 tests/reference/check_quantized.py TEXT TOKENS FILE.gguf...

Compare with `grist perplexity --model FILE.gguf --file TEXT --context TOKENS --windows 1`: the first TOKENS tokens, all
but the first are scored. llama.cpp rounds activations to 8 bits where weights are in blocks, grist does not.
"""
import math
import pathlib
import sys

from check_llama_cpp import ask, start


def mean_nll(text, tokens):
    ids = ask("/tokenize", {"content": text, "add_special": False})["tokens"][:tokens]
    vocabulary = ask("/v1/models")["data"][0]["meta"]["n_vocab"]
    total = 0.0
    for t in range(1, len(ids)):
        answer = ask("/completion", {"prompt": ids[:t], "n_predict": 1, "temperature": 0, "n_probs": vocabulary,
                                     "cache_prompt": True})
        best = answer["completion_probabilities"][0]["top_logprobs"]
        total -= next(one["logprob"] for one in best if one["id"] == ids[t])
    return total / (len(ids) - 1)


if __name__ == "__main__":
    text = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")
    for path in sys.argv[3:]:
        server = start(path)
        try:
            nll = mean_nll(text, int(sys.argv[2]))
            print(f"{path}: llama.cpp's perplexity {math.exp(nll):.5f} | mean nll {nll:.7f}", flush=True)
        finally:
            server.kill()
            server.wait()
