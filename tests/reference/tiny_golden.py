"""What transformers computes with a tiny model: logits, greedy paths, and whether they make a good test."""
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from common import Floats, write_json

NEW_TOKENS = 12
MIN_GAP = 1e-3  # between the two best logits at every greedy step, as a fraction of the logit range: 10 x the tests'
MAX_BF16_ERROR = 1.2e-2  # of torch in bfloat16 at any position, likewise: well inside what the tests allow
MIN_ROUTER_GAP = 0.02  # between the last expert chosen and the first not chosen, in logits of the router

ABOUT = "random weights; logits by transformers, eager attention, float32 on CPU, weights as stored"
LAYOUT = ("raw little-endian float32; offset counts floats; logits [positions, vocab] of the whole prompt; "
          "greedy_logits [t, vocab] after feeding greedy_ids[t]; bf16_last_logits [vocab] by torch in bfloat16")


def load(folder, dtype=torch.float32, **options):
    eager = dict(attn_implementation="eager", experts_implementation="eager")
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **eager, **options).eval()


def logits(model, ids):
    return model(torch.tensor([list(ids)])).logits[0].float()


def greedy(model, ids, cache_changes_nothing=True):
    """NEW_TOKENS greedy ids, the logits after each of them, and the smallest gap met between the two best logits.
    None if the cache should change something and does not."""
    out = model(torch.tensor([ids]), use_cache=True)
    rows, new_ids = [out.logits[0, -1].float()], []
    for _ in range(NEW_TOKENS):
        new_ids.append(int(rows[-1].argmax()))
        out = model(torch.tensor([new_ids[-1:]]), past_key_values=out.past_key_values, use_cache=True)
        rows.append(out.logits[0, -1].float())
    best = torch.stack(rows).topk(2).values
    uncached = logits(model, ids + new_ids)[-NEW_TOKENS - 1:]
    error = float((uncached - torch.stack(rows)).abs().max() / (uncached.max() - uncached.min()))
    assert error < 1e-4 or not cache_changes_nothing, error
    if not cache_changes_nothing and error < 1e-2:
        return None
    return new_ids, torch.stack(rows[1:]), float((best[:, 0] - best[:, 1]).min())


class RouterGap:
    """Watches the routers of a model: the smallest distance by which an expert was chosen over another."""

    def __init__(self, model):
        self.smallest = float("inf")
        for module in model.modules():
            if module.__class__.__name__.endswith("TopKRouter"):
                module.register_forward_hook(self.see)

    def see(self, module, _, output):
        best = output[0].detach().float().topk(module.top_k + 1, dim=-1).values
        self.smallest = min(self.smallest, float((best[:, -2] - best[:, -1]).min()))


def case(folder, ids, floats, cache_changes_nothing=True):
    """One prompt with fresh models, since dynamic rope remembers the longest text that it has seen."""
    path = greedy(load(folder), ids, cache_changes_nothing)
    if not path:
        return None
    new_ids, new_logits, gap = path
    model, low = load(folder), load(folder, torch.bfloat16)
    router = RouterGap(model)
    all_logits = logits(model, ids)
    spread = float(all_logits.max() - all_logits.min())
    low_logits = logits(low, ids)
    error = (logits(low, ids + new_ids) - logits(model, ids + new_ids)).abs().max() / spread
    value = {"ids": ids, "logits": floats.add(all_logits), "greedy_ids": new_ids,
             "greedy_logits": floats.add(new_logits), "bf16_last_logits": floats.add(low_logits[-1]),
             "logit_range": round(spread, 4), "min_gap": round(gap, 5), "bf16_error": round(float(error), 5)}
    return value | ({"router_gap": round(router.smallest, 5)} if router.smallest < float("inf") else {})


def golden(folder, prompts):
    """The cases of golden.json and the floats they point to."""
    floats = Floats()
    return [case(folder, ids, floats) for ids in prompts], floats


def good(case, eos, variety=NEW_TOKENS // 2 + 1):
    """No near-tie and no end of text on the greedy path, some variety, and bfloat16 near enough to float32."""
    ids = set(case["greedy_ids"])
    return (not ids & set(eos if isinstance(eos, list) else [eos]) and len(ids) >= variety
            and case["min_gap"] > MIN_GAP * case["logit_range"] and case["bf16_error"] < MAX_BF16_ERROR
            and case.get("router_gap", 1) > MIN_ROUTER_GAP)


def write_golden(folder, cases, floats, seed, **more):
    floats.write(folder / "golden.f32")
    write_json(folder / "golden.json", {"about": ABOUT, "seed": seed, "file": "golden.f32", "layout": LAYOUT,
                                        "cases": cases} | more)


def change_without(folder, prompts, zero=None, to=0, **changes):
    """How far the largest logit moves without a feature, as a fraction of the logit range: under another config, or
    with tensors set to a constant."""
    import re
    config = AutoConfig.from_pretrained(folder)
    for key, value in changes.items():
        setattr(config, key, value)
    other = load(folder, config=config)
    touched = [p for name, p in other.named_parameters() if zero and re.search(zero, name)]
    assert bool(touched) == bool(zero), zero
    for parameter in touched:
        parameter.data.fill_(to)
    a, b = (torch.cat([logits(m, ids) for ids in prompts]) for m in (load(folder), other))
    return float((a - b).abs().max() / (a.max() - a.min()))
