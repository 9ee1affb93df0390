"""tests/data/train/losses.json: losses and gradient norms of tiny models in training, by transformers and torch.optim.

    ./run --peers python3 tests/reference/training.py

{name: {steps, batch, sequence, peak, least, warmup, masked, losses, norms (before clipping)}}. Token i of the data is
byte i of tests/data/text/sample.txt, which begins anew at its end, modulo the vocabulary. Sample k is the tokens k S
... k S + S: inputs are the first S, targets the last S; step s takes the samples s B ... s B + B - 1. Where `masked`
is not 0, targets i (counted over all samples) with i (i + 1) / 2 divisible by it take no part in the loss, which is
the mean over the others of the whole batch. Where `router` is not 0, so many times the routers' load-balancing loss of
the whole batch (`router_losses`) is added to what is differentiated. AdamW as grist has it by default: betas 0.9 and
0.95, eps 1e-8, decay 0.1 of matrices alone; gradients clipped to norm 1; cosine with warm-up
(src/train/learning_rate.hpp).
"""
import math

import torch
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from common import DATA, write_json
from tiny_golden import load


def learning_rate(case, step):
    if step < case["warmup"]:
        return case["peak"] * step / case["warmup"]
    progress = (step - case["warmup"]) / (case["steps"] - case["warmup"])
    return case["least"] + (case["peak"] - case["least"]) * (1 + math.cos(math.pi * progress)) / 2


def batch_of(case, step, vocab_size):
    text = (DATA / "text/sample.txt").read_bytes()
    B, S = case["batch"], case["sequence"]
    ids, targets = [], []
    for k in range(step * B, step * B + B):
        tokens = [text[i % len(text)] % vocab_size for i in range(k * S, k * S + S + 1)]
        hidden = [case["masked"] and i * (i + 1) // 2 % case["masked"] == 0 for i in range(k * S, k * S + S)]
        ids.append(tokens[:-1])
        targets.append([-1 if h else t for h, t in zip(hidden, tokens[1:])])
    return torch.tensor(ids), torch.tensor(targets)


def train(name, **case):
    case = {"steps": 10, "batch": 4, "sequence": 32, "peak": 3e-3, "least": 3e-4, "warmup": 3, "masked": 0,
            "router": 0} | case
    model = load(DATA / "tiny" / name)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW([{"params": [p for p in parameters if p.dim() > 1], "weight_decay": 0.1},
                                   {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0}],
                                  betas=(0.9, 0.95), eps=1e-8)
    losses, norms, router_losses = [], [], []
    for step in range(case["steps"]):
        ids, targets = batch_of(case, step, model.config.vocab_size)
        output = model(ids, use_cache=False, **({"output_router_logits": True} if case["router"] else {}))
        logits = output.logits.float()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)
        optimizer.zero_grad()
        if case["router"]:
            (loss + case["router"] * output.aux_loss).backward()
            router_losses.append(float(output.aux_loss.detach()))
        else:
            loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(parameters, 1.0)))
        losses.append(float(loss.detach()))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(case, step + 1)
        optimizer.step()
    print(f"{name}: loss {losses[0]:.4f} to {losses[-1]:.4f}, norms {min(norms):.3f} to {max(norms):.3f}")
    return case | {"losses": losses, "norms": norms} | ({"router_losses": router_losses} if router_losses else {})


if __name__ == "__main__":
    torch.set_num_threads(1)
    disable_progress_bar()
    set_verbosity_error()
    write_json(DATA / "train/losses.json", {
        "llama2": train("llama2", steps=40, warmup=5),
        "gemma2": train("gemma2", masked=3),
        "mixtral": train("mixtral"),
        "mixtral_router": train("mixtral", masked=3, router=0.3),
        "bloom": train("bloom", masked=7),
    })
