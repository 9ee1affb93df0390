"""Gradients of the dense layers by PyTorch's autograd in double precision: tests/data/layers/NAME_backward.json.

Inputs are multiples of 1/32 below 4, which every storage type holds exactly."""
import torch
import torch.nn.functional as F

from common import DATA, write_json

torch.manual_seed(7)


def numbers(*shape):
    return (torch.randn(*shape, dtype=torch.float64) * 32).round().clamp(-127, 127) / 32


def leaf(*shape):
    return numbers(*shape).requires_grad_()


def short(value):
    if not isinstance(value, torch.Tensor):
        return value
    if not value.is_floating_point():
        return value.flatten().tolist()
    return [float(f"{x:.8g}") for x in value.detach().flatten().tolist()]


def write(name, cases):
    write_json(DATA / "layers" / f"{name}_backward.json", [{k: short(v) for k, v in case.items()} for case in cases])


def rms_norm(x, w, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * w


def norms():
    for tokens, hidden in (1, 131), (37, 5), (17, 1), (2, 33):
        for kind in "rms", "layer", "layer without bias":
            x, w, b, dy = leaf(tokens, hidden), leaf(hidden), leaf(hidden), numbers(tokens, hidden)
            y = rms_norm(x, w, 1e-5) if kind == "rms" else \
                F.layer_norm(x, [hidden], w, None if kind != "layer" else b, 1e-5)
            y.backward(dy)
            case = dict(kind=kind, tokens=tokens, hidden=hidden, x=x, w=w, dy=dy, dx=x.grad, dw=w.grad)
            yield case | ({"db": b.grad} if kind == "layer" else {})


def heads():
    """The norm of `heads` heads from column `first` on; dy of the other columns comes through."""
    for tokens, first, count, size, more in (1, 0, 1, 5, 0), (19, 3, 2, 5, 4), (5, 8, 3, 17, 1):
        x, w, dy = leaf(tokens, first + count * size + more), leaf(size), numbers(tokens, first + count * size + more)
        last = first + count * size
        normed = rms_norm(x[:, first:last].reshape(tokens, count, size), w, 1e-5).reshape(tokens, -1)
        torch.cat([x[:, :first], normed, x[:, last:]], 1).backward(dy)
        yield dict(tokens=tokens, first=first, heads=count, size=size, x=x, w=w, dy=dy, dx=x.grad, dw=w.grad)


def linears():
    for tokens, columns, rows in (1, 131, 3), (37, 13, 11), (2, 1, 1), (20, 32, 16):
        x, w, b, dy = leaf(tokens, columns), leaf(rows, columns), leaf(rows), numbers(tokens, rows)
        F.linear(x, w, b).backward(dy)
        yield dict(tokens=tokens, columns=columns, rows=rows, x=x, w=w, dy=dy, dx=x.grad, dw=w.grad, db=b.grad)


ACTIVATIONS = {"silu": F.silu, "gelu": F.gelu, "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
               "relu": F.relu, "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x)}


def activations():
    for name, f in ACTIVATIONS.items():
        for tokens, width in (1, 37), (5, 13):
            x, gate_up, dy = leaf(tokens, width), leaf(tokens, 2 * width), numbers(tokens, width)
            f(x).backward(dy)
            (f(gate_up[:, :width]) * gate_up[:, width:]).backward(dy)
            yield dict(kind=name, tokens=tokens, width=width, x=x, gate_up=gate_up, dy=dy, dx=x.grad,
                       d_gate_up=gate_up.grad)


def ropes():
    tokens, heads, more = 5, 3, 2
    for head_dim, rotary_dim in (2, 2), (7, 4), (16, 16):
        half, width = rotary_dim // 2, heads * head_dim + more
        cos_sin, x, dy = numbers(tokens, rotary_dim), leaf(tokens, width), numbers(tokens, width)
        h = x[:, :heads * head_dim].reshape(tokens, heads, head_dim)
        cos, sin, rest = cos_sin[:, None, :half], cos_sin[:, None, half:], h[..., rotary_dim:]
        a, b = h[..., :half], h[..., half:rotary_dim]
        rotated = torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
        y = torch.cat([torch.cat([rotated, rest], -1).reshape(tokens, -1), x[:, heads * head_dim:]], 1)
        y.backward(dy)
        yield dict(tokens=tokens, heads=heads, head_dim=head_dim, rotary_dim=rotary_dim,
                   cos_sin=cos_sin, dy=dy, dx=x.grad)


def cross_entropies():
    for tokens, vocabulary in (1, 7), (9, 131):
        for soft_cap in 0.0, 2.5:
            logits, scale = leaf(tokens, vocabulary), numbers(tokens).abs() + 0.25
            targets = torch.randint(vocabulary, [tokens])
            targets[1::3] = -1
            y = soft_cap * torch.tanh(logits / soft_cap) if soft_cap else logits
            nll = F.cross_entropy(y, targets, ignore_index=-1, reduction="none")
            (nll * scale).sum().backward()
            yield dict(tokens=tokens, vocabulary=vocabulary, soft_cap=soft_cap, logits=logits, scale=scale,
                       targets=targets, nll=nll, dlogits=logits.grad)


def embeddings():
    for tokens, vocabulary, hidden in (1, 3, 131), (37, 11, 5):
        ids, w, dx = torch.randint(vocabulary, [tokens]), leaf(vocabulary, hidden), numbers(tokens, hidden)
        F.embedding(ids, w).backward(dx)
        yield dict(tokens=tokens, vocabulary=vocabulary, hidden=hidden, ids=ids, dx=dx, dw=w.grad)


if __name__ == "__main__":
    for name, cases in dict(norm=norms, norm_heads=heads, linear=linears, activation=activations, rope=ropes,
                            cross_entropy=cross_entropies, embedding=embeddings).items():
        write(name, cases())
