"""tests/data/tiny: small random models as Hugging Face folders, each with the logits that transformers computes.

Weights are wide enough that attention is far from uniform and that logits spread over several units; each feature of a
model (rope scaling, window, biases) is shown to move its logits, so that a program that ignores it fails the test.
"""
import json
import math
import shutil

import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, MistralConfig
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

import small_tokenizers
from common import DATA, Floats, write_json

PROMPT_LENGTHS = (5, 13, 21)
NEW_TOKENS = 12
MIN_GAP = 2e-3  # between the two best logits at every greedy step, as a fraction of the logit range
MAX_BF16_ERROR = 1.2e-2  # of torch in bfloat16 at any position, likewise: well inside what the tests allow

LLAMA3_ROPE = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0)

# seed: the first one, tried upwards from here, that satisfies good()
MODELS = {
    # 4-bit weights: every tensor is d * {-8..7}, exact in f16 and bf16 and in the blocks of Q4_0, Q4_1 and Q8_0
    "llama2": dict(
        config=LlamaConfig(vocab_size=288, hidden_size=64, intermediate_size=96, num_hidden_layers=3,
                           num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=256,
                           rms_norm_eps=1e-5),
        dtype=torch.float16, grid=True, without=dict(rope_parameters=dict(rope_type="default", rope_theta=1e5)),
        seed=117),
    # wavelengths 6.3, 167, 4443, ...: above 256 / 1 is low frequency, below 256 / 4 is high, 167 lies between
    "llama31": dict(
        config=LlamaConfig(vocab_size=288, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
                           num_attention_heads=8, num_key_value_heads=2, max_position_embeddings=2048,
                           rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=283, eos_token_id=[284, 287],
                           rope_parameters=LLAMA3_ROPE | dict(original_max_position_embeddings=256)),
        dtype=torch.bfloat16, grid=True, without=dict(rope_parameters=dict(rope_type="default", rope_theta=5e5)),
        seed=821),
    "mistral": dict(
        config=MistralConfig(vocab_size=96, hidden_size=48, intermediate_size=80, num_hidden_layers=2,
                             num_attention_heads=4, num_key_value_heads=2, head_dim=16, sliding_window=8,
                             max_position_embeddings=256, rms_norm_eps=1e-5),
        dtype=torch.bfloat16, without=dict(sliding_window=None),
        seed=27),
    "llama_bias": dict(
        config=LlamaConfig(vocab_size=96, hidden_size=48, intermediate_size=64, num_hidden_layers=2,
                           num_attention_heads=6, num_key_value_heads=3, max_position_embeddings=256,
                           attention_bias=True, mlp_bias=True),
        dtype=torch.float32, without=dict(attention_bias=False, mlp_bias=False),
        seed=12),
}


def random_weight(name, shape, grid, rng):
    noise = torch.randn(shape, generator=rng)
    if name.endswith("bias"):
        return 0.3 * noise
    if "norm" in name:
        return (1 + 0.3 * noise).to(torch.bfloat16).float()
    std = {"q_proj": 1.3, "k_proj": 1.3, "o_proj": 1.3, "down_proj": 1.3,
           "embed_tokens": 0.35 * shape[1] ** 0.5, "lm_head": 3.0}
    std = std.get(name.split(".")[-2], 1.0) / shape[1] ** 0.5
    if not grid:
        return std * noise
    mantissa, exponent = math.frexp(std / 3)
    step = math.ldexp(round(mantissa * 16), exponent - 4)  # four bits, so that step * {-8..7} is exact in bf16 and f16
    return step * (noise * 3).round().clamp(-8, 7)


def save_random(folder, config, dtype, seed, grid=False, **_):
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    rng = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        weight = random_weight(name, parameter.shape, grid, rng)
        parameter.data = weight.to(dtype)
        assert not grid or torch.equal(parameter.data.float(), weight)
    model.save_pretrained(folder)


def load(folder, dtype=torch.float32, **options):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager", **options).eval()


def logits(model, ids):
    return model(torch.tensor([list(ids)])).logits[0].float()


def greedy(model, ids):
    """NEW_TOKENS greedy ids, the logits after each of them, and the smallest gap met between the two best logits."""
    out = model(torch.tensor([ids]), use_cache=True)
    rows, new_ids = [out.logits[0, -1].float()], []
    for _ in range(NEW_TOKENS):
        new_ids.append(int(rows[-1].argmax()))
        out = model(torch.tensor([new_ids[-1:]]), past_key_values=out.past_key_values, use_cache=True)
        rows.append(out.logits[0, -1].float())
    best = torch.stack(rows).topk(2).values
    uncached = logits(model, ids + new_ids)[-NEW_TOKENS - 1:]
    assert (uncached - torch.stack(rows)).abs().max() < 1e-4 * float(uncached.max() - uncached.min())
    return new_ids, torch.stack(rows[1:]), float((best[:, 0] - best[:, 1]).min())


def golden(folder, prompts):
    """The cases of golden.json and the floats they point to."""
    model, low = load(folder), load(folder, torch.bfloat16)
    floats, cases = Floats(), []
    for ids in prompts:
        all_logits = logits(model, ids)
        new_ids, new_logits, gap = greedy(model, ids)
        spread = float(all_logits.max() - all_logits.min())
        error = (logits(low, ids + new_ids) - logits(model, ids + new_ids)).abs().max() / spread
        cases.append({
            "ids": ids, "logits": floats.add(all_logits), "greedy_ids": new_ids,
            "greedy_logits": floats.add(new_logits), "bf16_last_logits": floats.add(logits(low, ids)[-1]),
            "logit_range": round(spread, 4), "min_gap": round(gap, 5), "bf16_error": round(float(error), 5)})
    return cases, floats


def good(case, eos):
    """No near-tie and no end of text on the greedy path, some variety, and bfloat16 near enough to float32."""
    ids = set(case["greedy_ids"])
    return (not ids & set(eos if isinstance(eos, list) else [eos]) and len(ids) > NEW_TOKENS // 2
            and case["min_gap"] > MIN_GAP * case["logit_range"] and case["bf16_error"] < MAX_BF16_ERROR)


def write_golden(folder, cases, floats, seed):
    floats.write(folder / "golden.f32")
    write_json(folder / "golden.json", {
        "about": "random weights; logits by transformers, eager attention, float32 on CPU, weights as stored", "seed": seed, "file": "golden.f32",
        "layout": "raw little-endian float32; offset counts floats; logits [positions, vocab] of the whole prompt; "
                  "greedy_logits [t, vocab] after feeding greedy_ids[t]; bf16_last_logits [vocab] by torch in bfloat16",
        "cases": cases})


def make_prompts(config, seed):
    rng = torch.Generator().manual_seed(1000 + seed)
    return [torch.randint(0, config.vocab_size, (n,), generator=rng).tolist() for n in PROMPT_LENGTHS]


def largest_change(model, other, prompts):
    """The largest change of a logit, as a fraction of the logit range."""
    a, b = (torch.cat([logits(m, ids) for ids in prompts]) for m in (model, other))
    return float((a - b).abs().max() / (a.max() - a.min()))


def old_config(config):
    """config.json as transformers 4 wrote it: rope_theta at the top, rope_scaling, torch_dtype."""
    old = {k: v for k, v in config.items() if k not in ("rope_parameters", "dtype", "transformers_version")}
    rope = dict(config["rope_parameters"])
    old["rope_theta"] = rope.pop("rope_theta")
    old["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    return dict(sorted(old.items())) | {"torch_dtype": config["dtype"], "transformers_version": "4.43.0"}


def change_without(folder, prompts, **changes):
    """How far the largest logit moves under a config without the model's feature, as a fraction of the logit range."""
    config = AutoConfig.from_pretrained(folder)
    for key, value in changes.items():
        setattr(config, key, value)
    a, b = (torch.cat([logits(m, ids) for ids in prompts]) for m in (load(folder), load(folder, config=config)))
    return float((a - b).abs().max() / (a.max() - a.min()))


def write_model(name, spec):
    folder = DATA / "tiny" / name
    shutil.rmtree(folder, ignore_errors=True)
    for seed in range(spec["seed"], 10000):
        save_random(folder, **spec | {"seed": seed})
        prompts = make_prompts(spec["config"], seed)
        cases, floats = golden(folder, prompts)
        if all(good(case, spec["config"].eos_token_id) for case in cases):
            break
    else:
        raise SystemExit(f"{name}: no seed gives a good model")
    change = change_without(folder, prompts, **spec["without"])
    assert change > 0.05, (name, change)
    write_golden(folder, cases, floats, seed)
    print(f"{name}: seed {seed}, change without its feature {change:.2f}, gaps",
          [round(c["min_gap"] / c["logit_range"], 4) for c in cases], "bf16", [c["bf16_error"] for c in cases])


def write_old_config(name):
    """config_old.json, shown to give the same model."""
    folder = DATA / "tiny" / name
    config = json.loads((folder / "config.json").read_text())
    (folder / "config_old.json").write_text(json.dumps(old_config(config), indent=2) + "\n")
    old = load(folder, config=LlamaConfig.from_pretrained(folder / "config_old.json"))
    assert torch.equal(logits(old, range(20)), logits(load(folder), range(20)))


def write_shards(name):
    """The same model rounded to bf16, in several files with an index."""
    source, folder = DATA / "tiny" / name, DATA / "tiny" / f"{name}_sharded"
    shutil.rmtree(folder, ignore_errors=True)
    load(source, torch.bfloat16).save_pretrained(folder, max_shard_size="24KB")
    assert len(list(folder.glob("*.safetensors"))) >= 3
    before = json.loads((source / "golden.json").read_text())
    cases, floats = golden(folder, [case["ids"] for case in before["cases"]])
    assert all(case["min_gap"] > MIN_GAP * case["logit_range"] for case in cases)
    write_golden(folder, cases, floats, before["seed"])


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    disable_progress_bar()
    set_verbosity_error()
    for name, spec in MODELS.items():
        write_model(name, spec)
    small_tokenizers.save(DATA / "tiny/llama2", *small_tokenizers.tiny_llama2())
    small_tokenizers.save(DATA / "tiny/llama31", *small_tokenizers.tiny_llama31())
    write_old_config("llama31")
    write_old_config("llama2")
    write_shards("llama_bias")
