"""Random weights of the tiny models, wide enough that attention is far from uniform and logits spread over several
units. Norm weights are not 1 and biases not 0, so that a program that leaves one out fails."""
import math

import torch
from transformers import AutoModelForCausalLM

# times 1 / sqrt(columns): the standard deviation
WIDTHS = {"o_proj": 1.3, "down_proj": 1.3, "c_proj": 1.3, "dense": 1.3,
          "dense_4h_to_h": 1.3, "fc2": 1.3, "c_attn": 1.3, "query_key_value": 1.3, "lm_head": 3.0, "gate": 2.0}
EMBEDDINGS = ("embed_tokens", "word_embeddings", "wte", "wpe")
FINAL_NORMS = ("model.norm.weight", "ln_f.weight")
# with tied embeddings these keep a token from following itself for ever
TIED = dict(embedding=0.12, final_norm=2.5, embedding_norm=0.4)
REPEATS = dict(variety=3)  # of tiny_golden.good: even so it does often


def random_weight(name, shape, rng, grid=False, norm=1, final_norm=1, embedding_norm=1, embedding=0.35, scores=1.3):
    """norm, final_norm, embedding_norm: what norms' weights lie around; embedding: the width of embeddings; scores: of
    what makes q and k."""
    noise = torch.randn(shape, generator=rng)
    if name.endswith("bias"):
        return (0.3 * noise).to(torch.bfloat16).float() if grid else 0.3 * noise
    if len(shape) == 1:  # all vectors but biases are norms
        middle = final_norm if name.endswith(FINAL_NORMS) else embedding_norm if "embeddings" in name else norm
        return (middle + 0.3 * noise).to(torch.bfloat16).float()
    module = name.removesuffix(".weight").split(".")[-1]
    inputs = shape[0] if module.startswith("c_") else shape[-1]  # GPT-2's weights are [in, out]
    if module in EMBEDDINGS:
        std = embedding * inputs ** 0.5 / inputs ** 0.5
    elif module in ("q_proj", "k_proj"):
        std = scores / inputs ** 0.5
    else:
        std = WIDTHS.get(module, 1.0) / inputs ** 0.5
    if not grid:
        return std * noise
    mantissa, exponent = math.frexp(std / 3)
    step = math.ldexp(round(mantissa * 16), exponent - 4)  # four bits, so that step * {-8..7} is exact in bf16 and f16
    return step * (noise * 3).round().clamp(-8, 7)


def save_random(folder, spec, seed):
    grid = spec.get("grid", False)
    model = AutoModelForCausalLM.from_config(spec["config"], dtype=spec["dtype"])
    rng = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        weight = random_weight(name, parameter.shape, rng, grid, **spec.get("widths", {}))
        parameter.data = weight.to(spec["dtype"])
        assert not grid or torch.equal(parameter.data.float(), weight)
    model.save_pretrained(folder)
