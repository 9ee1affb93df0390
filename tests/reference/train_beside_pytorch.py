"""`grist train` and PyTorch on the same weights and batches, in one run: losses by step, and tokens per second.

    ./run --peers python3 tests/reference/train_beside_pytorch.py losses GRIST TEXT TOKENIZER [STEPS]
    ./run --peers python3 tests/reference/train_beside_pytorch.py finetune GRIST TEXT FOLDER
    ./run --peers python3 tests/reference/train_beside_pytorch.py speed GRIST TEXT TOKENIZER [f32|bf16 [ROUNDS]]

GRIST is the program, TEXT a text of some hundred kilobytes, TOKENIZER a folder with one of at most 512 pieces for
`losses`, of at most 32000 for `speed`; FOLDER a model with its tokenizer. It writes into a temporary folder alone; its
figures stand in docs/performance.md. PyTorch computes where it finds a GPU there; GRIST as it was built.

losses    1 M parameters, 200 steps of 8 x 64 in f32 (each loss within 1e-4 of PyTorch's) and bf16 (the mean of the last
          ten within 1 %: PyTorch computes in bf16 under autocast, with masters in float)
finetune  5 steps of 4 x 128 in f32, each loss within 1e-4
speed     134 M parameters, steps of 4 x 256, each in turn; PyTorch plain and by torch.compile
"""
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import torch
from transformers import AutoModelForCausalLM

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TINY = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 512, "hidden_size": 128,
        "intermediate_size": 344, "num_hidden_layers": 5, "num_attention_heads": 8, "num_key_value_heads": 4,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False,
        "hidden_act": "silu", "dtype": "float32", "bos_token_id": 1, "eos_token_id": 2}
MIDDLE = TINY | {"vocab_size": 32000, "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12,
                 "num_attention_heads": 12, "num_key_value_heads": 12, "max_position_embeddings": 1024}


def learning_rate(step, steps, peak, warmup):
    """Cosine to a tenth of the peak, behind a linear warm-up; `step` counts from 1."""
    if step < warmup:
        return peak * step / warmup
    return peak * (0.1 + 0.9 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2)


class Run:
    """The same steps for both."""

    def __init__(self, grist, model, text, tokenizer, batch, sequence, steps, peak, warmup):
        self.grist, self.model, self.text, self.tokenizer = grist, model, text, tokenizer
        self.batch, self.sequence, self.steps, self.peak, self.warmup = batch, sequence, steps, peak, warmup
        ids = subprocess.run([grist, "tokenize", "--model", tokenizer, "--file", text],
                             check=True, capture_output=True, text=True).stdout
        self.ids = [int(word) for word in ids.replace(",", " ").split()]

    def grist_lines(self, dtype, dp=1, options=()):
        """The metrics of each step, by ranks of which each takes its share of the sequences at once."""
        with tempfile.TemporaryDirectory() as folder:
            metrics = pathlib.Path(folder) / "metrics.jsonl"
            ranks = 2 if dp > 1 or options else 1
            launch = ["mpirun", "-n", str(ranks)] if ranks > 1 else []
            subprocess.run(
                [*launch, self.grist, "train", "--model", self.model, "--tokenizer", self.tokenizer,
                 "--data", self.text, "--order", "sequential",
                 "--batch", str(self.batch), "--micro-batch", str(self.batch // dp),
                 "--sequence", str(self.sequence), "--steps", str(self.steps), "--lr", str(self.peak),
                 "--min-lr", str(self.peak / 10), "--warmup", str(self.warmup), "--schedule", "cosine",
                 "--weight-decay", "0.1", "--beta1", "0.9", "--beta2", "0.95", "--eps", "1e-8", "--clip", "1",
                 "--dtype", dtype, "--metrics", metrics, *options],
                check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads() // ranks)})
            return [json.loads(line) for line in metrics.read_text().splitlines()]

    def batch_of(self, step):
        B, S = self.batch, self.sequence
        windows = [self.ids[k * S:k * S + S + 1] for k in range(step * B, step * B + B)]
        tokens = torch.tensor(windows, device=DEVICE)
        return tokens[:, :-1], tokens[:, 1:].reshape(-1)

    def torch_lines(self, dtype, compiled=False):
        model = AutoModelForCausalLM.from_pretrained(self.model, dtype=torch.float32).to(DEVICE).train()
        parameters = list(model.parameters())
        optimizer = torch.optim.AdamW([{"params": [p for p in parameters if p.dim() > 1], "weight_decay": 0.1},
                                       {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0}],
                                      betas=(0.9, 0.95), eps=1e-8, fused=True)

        def loss_of(ids, targets):
            with torch.autocast(DEVICE, torch.bfloat16, enabled=dtype == "bf16"):
                logits = model(ids, use_cache=False).logits
            return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets)

        forward = torch.compile(loss_of) if compiled else loss_of
        lines = []
        for step in range(self.steps):
            begin = time.perf_counter()
            loss = forward(*self.batch_of(step))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step + 1, self.steps, self.peak, self.warmup)
            optimizer.step()
            if DEVICE == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - begin
            lines.append({"loss": float(loss.detach()), "tokens_per_second": self.batch * self.sequence / seconds})
        return lines


def initialized(grist, folder, config):
    pathlib.Path(folder, "config.json").write_text(json.dumps(config))
    model = pathlib.Path(folder, "model")
    subprocess.run([grist, "init", "--config", f"{folder}/config.json", "--out", model], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return model


def worst(ours, theirs):
    return max(abs(a["loss"] - b["loss"]) / b["loss"] for a, b in zip(ours, theirs, strict=True))


def losses(grist, text, tokenizer, steps=200):
    with tempfile.TemporaryDirectory() as folder:
        run = Run(grist, initialized(grist, folder, TINY), text, tokenizer, 8, 64, int(steps), 3e-3, 10)
        ours, theirs = run.grist_lines("f32"), run.torch_lines("f32")
        print(f"f32: loss {theirs[0]['loss']:.5f} to {theirs[-1]['loss']:.5f} in PyTorch, to {ours[-1]['loss']:.5f} in "
              f"grist; the largest relative difference of {len(ours)} steps is {worst(ours, theirs):.2e} (limit 1e-4)")
        good = worst(ours, theirs) < 1e-4
        last = [statistics.mean(line["loss"] for line in lines[-10:])
                for lines in (run.grist_lines("bf16"), run.torch_lines("bf16"), theirs)]
        apart = [abs(last[0] / other - 1) for other in last[1:]]
        print(f"bf16: mean of the last ten losses {last[0]:.5f} in grist, {last[1]:.5f} in PyTorch, {last[2]:.5f} in "
              f"PyTorch's f32: apart by {apart[0]:.2%} and {apart[1]:.2%} (limit 1 %)")
        return good and apart[0] < 0.01


def finetune(grist, text, folder):
    run = Run(grist, folder, text, folder, 4, 128, 5, 1e-4, 2)
    ours, theirs = run.grist_lines("f32"), run.torch_lines("f32")
    print("grist  ", *(f"{line['loss']:.6f}" for line in ours))
    print("PyTorch", *(f"{line['loss']:.6f}" for line in theirs))
    print(f"largest relative difference {worst(ours, theirs):.2e} (limit 1e-4)")
    return worst(ours, theirs) < 1e-4


def speed(grist, text, tokenizer, dtype="f32", rounds=3):
    with tempfile.TemporaryDirectory() as folder:
        run = Run(grist, initialized(grist, folder, MIDDLE), text, tokenizer, 4, 256, 6, 1e-4, 2)
        ways = {"grist": lambda: run.grist_lines(dtype),
                "PyTorch": lambda: run.torch_lines(dtype),
                "PyTorch, compiled": lambda: run.torch_lines(dtype, True),
                "grist, dp=2": lambda: run.grist_lines(dtype, 2),
                "grist, dp=2, zero 1": lambda: run.grist_lines(dtype, 2, ["--zero", "1"]),
                "grist, tp=2": lambda: run.grist_lines(dtype, 1, ["--tp", "2"])}
        rates = {name: [] for name in ways}
        headers = pathlib.Path(torch.__file__).parent / "include/torch/csrc/inductor/cpp_prefix.h"
        if DEVICE == "cpu" and not headers.exists():
            print("this PyTorch has no headers for torch.compile, which is left out")
            del ways["PyTorch, compiled"], rates["PyTorch, compiled"]
        for _ in range(int(rounds)):
            for name, way in ways.items():
                lines = way()
                rates[name] += [line["tokens_per_second"] for line in lines[2:]]  # the first ones make kernels
                mfu = f", {statistics.median(line['mfu'] for line in lines[2:]):.2f} of the GEMM rate" \
                    if lines[-1].get("mfu") else ""
                print(f"{dtype} {name}: {statistics.median(rates[name]):.0f} tokens/s{mfu}", flush=True)
        for name, values in rates.items():
            median = statistics.median(values)
            print(f"{name}: {median:.0f} tokens/s, grist has {statistics.median(rates['grist']) / median:.2f} of it")
    return True


if __name__ == "__main__":
    torch.set_num_threads(os.cpu_count())
    sys.exit(0 if {"losses": losses, "finetune": finetune, "speed": speed}[sys.argv[1]](*sys.argv[2:]) else 1)
