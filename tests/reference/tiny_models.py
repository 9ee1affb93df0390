"""tests/data/tiny: small random models as Hugging Face folders, each with the logits that transformers computes.

    ./run --peers python3 tests/reference/tiny_models.py [NAME ...]

Each feature of a model (rope scaling, window, biases, ...) is shown to move its logits, so that a program that ignores
it fails the test. The table of models is in families/.
"""
import json
import shutil
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

import small_tokenizers
from common import DATA, Floats, write_json
from families import all_models
from tiny_golden import case, change_without, golden, good, load, logits, write_golden
from tiny_weights import save_random

PROMPT_LENGTHS = (5, 13, 21)
TOKENIZERS = {"llama2": small_tokenizers.tiny_llama2, "llama31": small_tokenizers.tiny_llama31}
CACHE_ABOUT = (
    "a whole prompt is rotated by the table for its length (dynamic: scaled where that is above "
    "max_position_embeddings; longrope: the long factors above original_max_position_embeddings). In cached decoding "
    "transformers keeps keys as they were rotated, and rotates q and k of a new token by the table for its position "
    "+ 1. The result differs from that of the whole text at once. cached_cases are of that kind, each by a fresh "
    "model; the others do not depend on the cache.")


def make_prompts(config, seed, lengths):
    rng = torch.Generator().manual_seed(1000 + seed)
    return [torch.randint(0, config.vocab_size, (n,), generator=rng).tolist() for n in lengths]


def cases_of(folder, spec, seed):
    """(cases, more of golden.json, floats, prompts) of one seed, or None if they make no good test."""
    lengths, cached = spec.get("lengths", PROMPT_LENGTHS), spec.get("cached", ())
    prompts = make_prompts(spec["config"], seed, lengths + tuple(n for n, _ in cached))
    floats, cases = Floats(), []
    for n, ids in enumerate(prompts):
        one = case(folder, ids, floats, cache_changes_nothing=n < len(lengths))
        if not one or not good(one, spec["config"].eos_token_id, **spec.get("good", {})):
            return None
        cases.append(one)
    late = [{"about": about} | one for (_, about), one in zip(cached, cases[len(lengths):])]
    return cases[:len(lengths)], {"about_cache": CACHE_ABOUT, "cached_cases": late} if late else {}, floats, prompts


def write_model(name, spec):
    folder = DATA / "tiny" / name
    shutil.rmtree(folder, ignore_errors=True)
    for seed in range(spec["seed"], 10000):
        save_random(folder, spec, seed)
        made = cases_of(folder, spec, seed)
        if made:
            break
    else:
        raise SystemExit(f"{name}: no seed gives a good model")
    cases, more, floats, prompts = made
    changes = []
    for without in spec["without"]:
        without = dict(without)
        least = without.pop("at_least", 0.05)
        changes.append(round(change_without(folder, prompts, **without), 2))
        assert changes[-1] > least, (name, without, changes)
    write_golden(folder, cases, floats, seed, **more)
    if name in TOKENIZERS:
        small_tokenizers.save(folder, *TOKENIZERS[name]())
    print(f"{name}: seed {seed}, changes without its features {changes}, gaps",
          [round(c["min_gap"] / c["logit_range"], 4) for c in cases], "bf16", [c["bf16_error"] for c in cases])


def write_old_config(name, old_form):
    """config_old.json, shown to give the same model."""
    folder = DATA / "tiny" / name
    config = json.loads((folder / "config.json").read_text())
    (folder / "config_old.json").write_text(json.dumps(old_form(config), indent=2) + "\n")
    old = load(folder, config=type(AutoConfig.from_pretrained(folder)).from_pretrained(folder / "config_old.json"))
    assert torch.equal(logits(old, range(20)), logits(load(folder), range(20)))


def write_twin(name, suffix, save):
    """A folder with the same model stored in another way, which points to the same golden values."""
    source, folder = DATA / "tiny" / name, DATA / "tiny" / f"{name}_{suffix}"
    shutil.rmtree(folder, ignore_errors=True)
    save(source, folder)
    value = json.loads((source / "golden.json").read_text())
    write_json(folder / "golden.json", value | {"file": f"../{name}/golden.f32"})
    assert torch.equal(logits(load(folder), range(20)), logits(load(source), range(20)))


def save_fused(source, folder):
    """Experts as transformers 5 has them in memory: all of a layer in one tensor, gate above up."""
    load(source, "auto").save_pretrained(folder, save_original_format=False)


def save_bare(source, folder):
    """Names as the first models of the family have them on the hub, without the prefix; GPT-2 with its masks."""
    folder.mkdir(parents=True)
    for name in ("config.json", "generation_config.json"):
        shutil.copy(source / name, folder)
    tensors = {n.removeprefix("transformer."): t for n, t in load_file(source / "model.safetensors").items()}
    config = AutoConfig.from_pretrained(source)
    if config.model_type == "gpt2":
        mask = torch.ones(config.n_positions, config.n_positions).tril()[None, None]
        tensors |= {f"h.{i}.attn.bias": mask.clone() for i in range(config.n_layer)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def write_shards(name, size):
    """The same model rounded to bf16, in several files with an index."""
    source, folder = DATA / "tiny" / name, DATA / "tiny" / f"{name}_sharded"
    shutil.rmtree(folder, ignore_errors=True)
    load(source, torch.bfloat16).save_pretrained(folder, max_shard_size=size)
    assert len(list(folder.glob("*.safetensors"))) >= 3
    before = json.loads((source / "golden.json").read_text())
    cases, floats = golden(folder, [c["ids"] for c in before["cases"]])
    write_golden(folder, cases, floats, before["seed"])
    assert all(good(c, None) for c in cases)


def save_sharded(source, folder):
    load(source, "auto").save_pretrained(folder, max_shard_size="24KB")


def write_all(name, spec):
    write_model(name, spec)
    if "old" in spec:
        write_old_config(name, spec["old"])
    if "fused" in spec:
        write_twin(name, "fused", save_fused)
    if "hub" in spec:
        write_twin(name, "hub", save_bare)
    if "sharded" in spec:
        write_twin(name, "sharded", save_sharded)
    if name == "llama_bias":
        write_shards(name, "24KB")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    disable_progress_bar()
    set_verbosity_error()
    models = all_models()
    for name in sys.argv[1:] or models:
        write_all(name, models[name])
