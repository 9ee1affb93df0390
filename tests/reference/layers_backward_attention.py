"""Gradients of attention by PyTorch's autograd: data/layers/attention_NAME.json.

Inputs are sixteenths, which every storage type holds exactly; gradients are made in double precision.
Run: ./run --peers python3 tests/reference/layers_backward_attention.py
"""
import torch

from common import DATA, write_json

CASES = {
    "one": dict(sequences=[1], heads=1, kv_heads=1, head_dim=1),
    "causal": dict(sequences=[37], heads=4, kv_heads=2, head_dim=5),
    "packed": dict(sequences=[1, 5, 66, 59], heads=2, kv_heads=1, head_dim=3),
    "windowed": dict(sequences=[7, 90], heads=3, kv_heads=3, head_dim=2, window=9),
    "capped": dict(sequences=[37], heads=2, kv_heads=2, head_dim=11, softcap=2.0),
    "alibi": dict(sequences=[20, 17], heads=6, kv_heads=2, head_dim=4, alibi=[0.5, 0.25, 0.125, 1.0, 0.75, 0.0625]),
    "bidirectional": dict(sequences=[30, 7], heads=3, kv_heads=1, head_dim=7, causal=False),
    "all": dict(sequences=[3, 71], heads=4, kv_heads=2, head_dim=3, window=11, softcap=3.0,
                alibi=[0.5, 0.125, 0.25, 0.0625]),
}


def attention(qkv, sequences, heads, kv_heads, head_dim, window=0, softcap=0.0, alibi=None, causal=True):
    """[tokens, heads * head_dim], over the whole score matrix of each sequence."""
    outputs, first = [], 0
    for count in sequences:
        x = qkv[first:first + count].view(count, heads + 2 * kv_heads, head_dim).transpose(0, 1)
        first += count
        q, k, v = x[:heads], x[heads:heads + kv_heads], x[heads + kv_heads:]
        k, v = (t.repeat_interleave(heads // kv_heads, dim=0) for t in (k, v))
        scores = q @ k.transpose(1, 2) / head_dim**0.5
        if softcap:
            scores = softcap * torch.tanh(scores / softcap)
        distance = torch.arange(count)[None, :] - torch.arange(count)[:, None]  # key - query
        if alibi:
            scores = scores + torch.tensor(alibi, dtype=scores.dtype)[:, None, None] * distance
        hidden = torch.zeros(count, count, dtype=torch.bool)
        if causal:
            hidden |= distance > 0
        if window:
            hidden |= distance <= -window
        weights = scores.masked_fill(hidden, float("-inf")).softmax(dim=-1)
        outputs.append((weights @ v).transpose(0, 1).reshape(count, heads * head_dim))
    return torch.cat(outputs)


def numbers(tensor):
    return [float(f"{x:.7g}") for x in tensor.flatten().tolist()]


def main():
    torch.manual_seed(5)
    for name, case in CASES.items():
        heads, kv_heads, head_dim = case["heads"], case["kv_heads"], case["head_dim"]
        tokens = sum(case["sequences"])
        normals = lambda columns: torch.randn(tokens, columns, dtype=torch.float64)
        sixteenths = lambda columns: (normals(columns) * 20).round().clamp(-127, 127) / 16
        qkv = sixteenths((heads + 2 * kv_heads) * head_dim).requires_grad_()
        dout = sixteenths(heads * head_dim)
        attention(qkv, **case).backward(dout)
        write_json(DATA / "layers" / f"attention_{name}.json",
                   {**case, "qkv": numbers(qkv.detach()), "dout": numbers(dout), "dqkv": numbers(qkv.grad)})


main()
