"""Gradients of a mixture of experts by PyTorch's autograd, and transformers' load-balancing loss:
data/layers/experts_NAME.json and data/layers/load_balancing_NAME.json.

Run: ./run --peers python3 tests/reference/layers_backward_experts.py
"""
import torch
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from common import DATA, write_json

EXPERTS = {
    "one": dict(tokens=1, experts=1, slots=1, hidden=1, rows=1, renormalize=True, gated=True),
    "top2": dict(tokens=37, experts=8, slots=2, hidden=6, rows=5, renormalize=True, gated=True),
    "top3": dict(tokens=23, experts=5, slots=3, hidden=13, rows=4, renormalize=False, gated=False),
    "all": dict(tokens=9, experts=3, slots=3, hidden=33, rows=3, renormalize=False, gated=True),
}
BALANCING = {
    "one": dict(tokens=1, experts=3, slots=1, layers=1, masked=0),
    "layers": dict(tokens=37, experts=8, slots=2, layers=3, masked=0),
    "masked": dict(tokens=50, experts=5, slots=3, layers=2, masked=11),
}


def sixteenths(*shape):
    return ((torch.randn(*shape, dtype=torch.float64) * 20).round().clamp(-127, 127) / 16).requires_grad_()


def logits(tokens, experts):
    """No two of a token are equal."""
    ranks = torch.stack([torch.randperm(4 * experts)[:experts] for _ in range(tokens)])
    return ((ranks - 2 * experts).double() / 4).requires_grad_()


def numbers(tensor):
    return [float(f"{x:.7g}") for x in tensor.flatten().tolist()]


def experts_case(case):
    """y = the chosen experts' x W^T, weighted, + sigmoid(gate) shared; dy comes back."""
    tokens, experts, hidden, rows = case["tokens"], case["experts"], case["hidden"], case["rows"]
    given = dict(x=sixteenths(tokens, hidden), logits=logits(tokens, experts), w=sixteenths(experts, rows, hidden),
                 shared=sixteenths(tokens, rows))
    if case["gated"]:
        given["gate"] = sixteenths(tokens)
    dy = sixteenths(tokens, rows).detach()
    weights, choices = torch.topk(given["logits"].softmax(dim=-1), case["slots"], dim=-1)
    if case["renormalize"]:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    outputs = torch.einsum("th,tsrh->tsr", given["x"], given["w"][choices])
    y = (weights[:, :, None] * outputs).sum(dim=1)
    y = y + (torch.sigmoid(given["gate"])[:, None] if case["gated"] else 1) * given["shared"]
    y.backward(dy)
    return {**case, **{k: numbers(v.detach()) for k, v in given.items()}, "dy": numbers(dy), "y": numbers(y.detach()),
            "choices": choices.flatten().tolist(), **{"d" + k: numbers(v.grad) for k, v in given.items()}}


def balancing_case(case):
    every = [logits(case["tokens"], case["experts"]) for _ in range(case["layers"])]
    counted = torch.ones(1, case["tokens"], dtype=torch.int64)
    counted[0, torch.randperm(case["tokens"])[:case["masked"]]] = 0
    loss = load_balancing_loss_func(tuple(every), case["experts"], case["slots"],
                                    counted if case["masked"] else None)
    loss.backward()
    return {**case, "counted": counted.flatten().tolist(), "loss": loss.item(),
            "logits": [numbers(x.detach()) for x in every], "dlogits": [numbers(x.grad) for x in every]}


def main():
    torch.manual_seed(6)
    for name, case in EXPERTS.items():
        write_json(DATA / "layers" / f"experts_{name}.json", experts_case(case))
    for name, case in BALANCING.items():
        write_json(DATA / "layers" / f"load_balancing_{name}.json", balancing_case(case))


main()
