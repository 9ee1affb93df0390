"""tests/data/train/optimizers.json and learning_rates.json: what torch.optim makes of given gradients, and what the
schedulers of transformers make of a learning rate.  ./run --peers python3 tests/reference/optimizers.py

optimizers: [{name, kind, lr, beta1, beta2, eps, weight_decay, scale, w, gradients: [step][i], steps: [step][i] (w after
each), m, v (after the last; v empty for sgd)}]. Decay is decoupled everywhere; gradients are multiplied by `scale`
first. PyTorch has no LAMB: it is Algorithm 2 of You et al. 2020 in float64, with phi(z) = z.
learning_rates: [{schedule, peak, least, warmup, steps, decay, values: [step 0 .. steps]}]
"""
import math

import torch
from transformers import (get_constant_schedule_with_warmup, get_cosine_with_min_lr_schedule_with_warmup,
                          get_polynomial_decay_schedule_with_warmup, get_wsd_schedule)

from common import DATA, write_json

SIZE, STEPS = 37, 5


def numbers(seed):
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(SIZE, generator=generator)
    gradients = [torch.randn(SIZE, generator=generator) * 10.0**(-k) for k in range(STEPS)]
    return w, gradients


def adamw(case, w, gradients):
    parameter = torch.nn.Parameter(w.clone())
    optimizer = torch.optim.AdamW([parameter], lr=case["lr"], betas=(case["beta1"], case["beta2"]), eps=case["eps"],
                                  weight_decay=case["weight_decay"], foreach=False, fused=False)
    steps = []
    for g in gradients:
        parameter.grad = g * case["scale"]
        optimizer.step()
        steps.append(parameter.detach().clone())
    state = optimizer.state[parameter]
    return steps, state["exp_avg"], state["exp_avg_sq"]


def sgd(case, w, gradients):
    parameter = torch.nn.Parameter(w.clone())
    optimizer = torch.optim.SGD([parameter], lr=case["lr"], momentum=case["beta1"])
    steps = []
    for g in gradients:
        with torch.no_grad():
            parameter.mul_(1 - case["lr"] * case["weight_decay"])  # its own decay is not decoupled
        parameter.grad = g * case["scale"]
        optimizer.step()
        steps.append(parameter.detach().clone())
    momentum = optimizer.state[parameter].get("momentum_buffer")
    return steps, momentum if momentum is not None else gradients[-1] * case["scale"], torch.zeros(0)


def lamb(case, w, gradients):
    w = w.double()
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    steps = []
    for t, g in enumerate(gradients, start=1):
        g = g.double() * case["scale"]
        m = case["beta1"] * m + (1 - case["beta1"]) * g
        v = case["beta2"] * v + (1 - case["beta2"]) * g * g
        r = m / (1 - case["beta1"]**t) / ((v / (1 - case["beta2"]**t)).sqrt() + case["eps"])
        u = r + case["weight_decay"] * w
        trust = (w.norm() / u.norm()).item() if w.norm() > 0 and u.norm() > 0 else 1
        w = w - case["lr"] * trust * u
        steps.append(w.clone())
    return steps, m, v


def optimizer_case(name, kind, seed, zero=False, **settings):
    case = {"name": name, "kind": kind, "lr": 0.01, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.0,
            "scale": 1.0} | settings
    w, gradients = numbers(seed)
    if zero:
        w = torch.zeros_like(w)
    steps, m, v = {"adamw": adamw, "sgd": sgd, "lamb": lamb}[kind](case, w, gradients)
    return case | {"w": w.tolist(), "gradients": [g.tolist() for g in gradients], "steps": [s.tolist() for s in steps],
                   "m": m.tolist(), "v": v.tolist()}


def learning_rate_case(schedule, warmup, steps, least=0.0, decay=0, peak=3e-4):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    ratio = least / peak
    if schedule == "constant":
        scheduler = get_constant_schedule_with_warmup(optimizer, warmup)
    elif schedule == "linear":
        scheduler = get_polynomial_decay_schedule_with_warmup(optimizer, warmup, steps, lr_end=least, power=1.0)
    elif schedule == "cosine":
        scheduler = get_cosine_with_min_lr_schedule_with_warmup(optimizer, warmup, steps, min_lr_rate=ratio)
    else:
        scheduler = get_wsd_schedule(optimizer, warmup, decay, num_training_steps=steps, decay_type="1-sqrt",
                                     min_lr_ratio=ratio)
    values = []
    for _ in range(steps + 1):
        values.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert all(math.isfinite(value) for value in values)
    return {"schedule": schedule, "peak": peak, "least": least, "warmup": warmup, "steps": steps, "decay": decay,
            "values": values}


if __name__ == "__main__":
    write_json(DATA / "train/optimizers.json", [
        optimizer_case("adamw", "adamw", 1),
        optimizer_case("adamw with decay and a scale", "adamw", 2, weight_decay=0.1, scale=0.25, beta2=0.999, lr=3e-3),
        optimizer_case("adamw with a large eps", "adamw", 3, eps=1e-2),
        optimizer_case("sgd without momentum", "sgd", 4, beta1=0.0),
        optimizer_case("sgd with momentum, decay and a scale", "sgd", 5, weight_decay=0.1, scale=3.0),
        optimizer_case("lamb", "lamb", 6),
        optimizer_case("lamb with decay and a scale", "lamb", 7, weight_decay=0.1, scale=0.5),
        optimizer_case("lamb from zero weights", "lamb", 8, zero=True),
    ])
    write_json(DATA / "train/learning_rates.json", [
        learning_rate_case("constant", 7, 20),
        learning_rate_case("constant", 0, 3),
        learning_rate_case("linear", 5, 23, least=1e-5),
        learning_rate_case("linear", 0, 10),
        learning_rate_case("cosine", 5, 23, least=3e-5),
        learning_rate_case("cosine", 0, 11),
        learning_rate_case("wsd", 4, 29, decay=9),
        learning_rate_case("wsd", 0, 20, least=3e-5, decay=6),
    ])
