"""tests/data/train/gradients: gradients of whole tiny models by transformers' autograd.

    ./run --peers python3 tests/reference/model_gradients.py [NAME ...]

NAME.json: {sequences: [{ids, targets (-1: masked)}], loss (sum over the targets that count), bf16_error, tensors:
[{name, elements, stride, norm, largest}]}; NAME.f32: of each tensor in turn the elements 0, stride, 2 stride, ... of
its gradient, little-endian float32. Names and shapes are those of the model's files. bf16_error: how far torch's
gradients in bfloat16 are from these, relative to their length, over all elements of the .f32 file.
"""
import math
import sys
import tempfile

import torch
from safetensors.torch import load_file
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from common import DATA, Floats, write_json
from tiny_golden import RouterGap, load

MODELS = ("llama2", "llama31", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "mixtral", "qwen3_moe", "qwen2_moe",
          "bloom", "gpt2", "falcon", "falcon_40b", "stablelm", "stablelm_parallel", "olmo2")
LENGTHS = (19, 11)
SAMPLES = 384  # of a tensor; smaller ones are whole
MASKED = 0.2
FIRST_SEEDS = {"mixtral": 9, "qwen3_moe": 119, "qwen2_moe": 11}  # where the search ends, which takes a while
MAX_BF16_ERROR = 0.06  # more means that experts are chosen otherwise
MIN_ROUTER_GAP = 0.05  # wider than rounding to bfloat16 moves logits of the router


def make_sequences(vocab_size, seed):
    rng = torch.Generator().manual_seed(2000 + seed)
    sequences = []
    for length in LENGTHS:
        ids = torch.randint(0, vocab_size, (length,), generator=rng)
        targets = torch.randint(0, vocab_size, (length,), generator=rng)
        targets[torch.rand(length, generator=rng) < MASKED] = -1
        sequences.append({"ids": ids.tolist(), "targets": targets.tolist()})
    return sequences


def gradients(folder, sequences, dtype=torch.float32):
    """(loss, {name in files: gradient}, smallest gap of a router)"""
    model = load(folder, dtype)
    router = RouterGap(model)
    loss = 0.0
    for s in sequences:
        logits = model(torch.tensor([s["ids"]]), use_cache=False).logits[0].float()
        one = torch.nn.functional.cross_entropy(logits, torch.tensor(s["targets"]), ignore_index=-1, reduction="sum")
        one.backward()
        loss += float(one.detach())
    for parameter in model.parameters():
        assert parameter.grad is not None
        parameter.data = parameter.grad.to(dtype)
    # Saved like weights, they come under the names and in the shapes of files.
    with tempfile.TemporaryDirectory() as saved:
        model.save_pretrained(saved)
        tensors = load_file(saved + "/model.safetensors")
    return loss, {name: tensor.float() for name, tensor in tensors.items()}, router.smallest


def stride_of(tensor):
    """Prime to the columns, so that the samples go through all of them."""
    stride = math.ceil(tensor.numel() / SAMPLES)
    while math.gcd(stride, tensor.shape[-1]) > 1:
        stride += 1
    return stride


def flat_sample(gradient):
    return gradient.flatten()[::stride_of(gradient)]


def distance(low, exact):
    """Of all samples together, relative to their length."""
    a, b = (torch.cat([flat_sample(t[name]).double() for name in exact]) for t in (low, exact))
    return float((a - b).norm() / b.norm())


def write_model(name):
    folder = DATA / "tiny" / name
    vocab_size = load(folder).config.vocab_size
    for seed in range(FIRST_SEEDS.get(name, 0), 1000):
        sequences = make_sequences(vocab_size, seed)
        loss, exact, gap = gradients(folder, sequences)
        error = distance(gradients(folder, sequences, torch.bfloat16)[1], exact)
        if gap > MIN_ROUTER_GAP and error < MAX_BF16_ERROR:
            break
    else:
        raise SystemExit(f"{name}: no seed keeps the router from ties")
    floats, tensors = Floats(), []
    for tensor, gradient in sorted(exact.items()):
        floats.add(flat_sample(gradient))
        tensors.append({"name": tensor, "elements": gradient.numel(), "stride": stride_of(gradient),
                        "norm": float(gradient.double().norm()), "largest": float(gradient.abs().max())})
    target = DATA / "train" / "gradients"
    write_json(target / f"{name}.json", {"sequences": sequences, "loss": loss, "bf16_error": round(error, 5),
                                         "tensors": tensors})
    floats.write(target / f"{name}.f32")
    print(f"{name}: seed {seed}, {len(tensors)} tensors, loss {loss:.4f}, bf16 error {error:.4f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    disable_progress_bar()
    set_verbosity_error()
    for name in sys.argv[1:] or MODELS:
        write_model(name)
