"""Trains a tiny model with grist and holds the folders that it writes against transformers: the same log probabilities.

    ./run --peers python3 tests/reference/check_trained.py GRIST

GRIST is the program, as build/openmp/bin/grist. Each folder, of `--save-hf`, and of `grist convert` whole and in shards
with an index, is loaded by AutoModelForCausalLM. Of many texts the mean log probability of their tokens agrees to 1e-5.
"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import torch
import transformers

from common import DATA

MODELS = ("llama2", "qwen2", "mixtral", "gpt2", "bloom")
TOKENIZER = DATA / "tiny" / "llama2"


def grist(*words):
    done = subprocess.run([sys.argv[1], *map(str, words)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"grist {' '.join(map(str, words))}: exit code {done.returncode}: {done.stderr}")
    return done.stdout


def log_probability(folder, ids, model):
    """Mean over all tokens but the first, by transformers."""
    with torch.no_grad():
        scores = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return scores[:-1].gather(1, torch.tensor(ids[1:])[:, None]).mean().item()


def main():
    text = (DATA / "text" / "sample.txt").read_text()
    texts = [text[at:at + 3 + at % 40] for at in range(0, 900, 225)]
    worst = 0.0
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        for number, part in enumerate(texts):
            (work / f"{number}.txt").write_text(part)
        for name in MODELS:
            config = json.loads((DATA / "tiny" / name / "config.json").read_text())
            config["vocab_size"] = 288  # that of the tokenizer
            here = work / name
            here.mkdir()
            (here / "config.json").write_text(json.dumps(config))
            grist("train", "--config", here / "config.json", "--tokenizer", TOKENIZER, "--data",
                  DATA / "text" / "sample.txt", "--sequence", 32, "--batch", 4, "--steps", 10, "--lr", "3e-3",
                  "--checkpoint", here / "run", "--save-hf", here / "saved")
            checkpoint = here / "run" / "step_000000010.h5"
            grist("convert", checkpoint, here / "whole", "--tokenizer", TOKENIZER)
            grist("convert", checkpoint, here / "sharded", "--tokenizer", TOKENIZER, "--max-shard-size", "40KB")
            assert len(list((here / "sharded").glob("model-*.safetensors"))) > 1
            assert (here / "sharded" / "model.safetensors.index.json").exists()
            untrained = transformers.AutoModelForCausalLM.from_config(
                transformers.AutoConfig.from_pretrained(here / "saved"), experts_implementation="eager")
            for folder in ("saved", "whole", "sharded"):
                model, said = transformers.AutoModelForCausalLM.from_pretrained(
                    here / folder, dtype=torch.float32, output_loading_info=True, experts_implementation="eager")
                left = {key: value for key, value in said.items() if value and key != "error_msgs"}
                assert not left, f"{name}, {folder}: {left}"
                model.eval()
                for number in range(len(texts)):
                    given = ("--model", here / folder, "--file", work / f"{number}.txt")
                    ids = json.loads(grist("tokenize", *given, "--no-special", "--json"))
                    printed = grist("perplexity", *given, "--dtype", "f32", "--context", 48)
                    found = -float(re.search(r"mean nll ([\d.]+)", printed).group(1))
                    expected = log_probability(here / folder, ids, model)
                    worst = max(worst, abs(found - expected))
                    assert abs(found - expected) < 1e-5, f"{name}, {folder}: {found}, expected {expected}"
            different = log_probability(here / folder, ids, untrained.eval())
            assert abs(different - expected) > 1e-2, f"{name}: nothing was trained"
            print(f"{name}: {len(texts)} texts, three folders, largest difference so far {worst:.1e}", flush=True)


main()
