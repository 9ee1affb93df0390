"""grist: build/openmp/bin, by `grist bench`; the first token by `grist generate`."""
import json
import pathlib
import shutil

from driver import Failed, config_of, run_program, token_ids
from gguf_files import gguf_of, vocabulary_of

NAME = "grist"
PACKAGES = []
WEIGHTS = {"bf16": "as stored", "q8_0": "GGUF Q8_0", "q4_0": "GGUF Q4_0"}


def prepare(job):
    if job["weights"] == "bf16":
        return job["model"]
    quantize = shutil.which("llama-quantize")
    if not quantize:
        raise Failed("no llama-quantize in PATH")
    return gguf_of(job, quantize)


def vocabulary(job):
    model = pathlib.Path(job["model"])
    return config_of(model)["vocab_size"] if model.is_dir() else vocabulary_of(model)


def row_of(job, test):
    """The row of one test; its rate is of all sequences together."""
    n_prompt, n_gen, n_depth, batch = test
    words = [f"{job['programs']}/grist", "bench", "--model", job["model"], "--dtype", "bf16", "--threads",
             job["threads"], "-p", n_prompt, "-n", n_gen, "-d", n_depth, "-b", batch, "-r", 1, "-o", "json"]
    out, _, _ = run_program(words)
    return json.loads(out)[-1]


def first_token(job, prompt):
    """Seconds of the whole program until it has given one token, and its memory."""
    words = [f"{job['programs']}/grist", "generate", "--model", job["model"], "--dtype", "bf16", "--threads",
             job["threads"], "--max-new-tokens", 1, "--ignore-eos", "--temperature", 0, "--json", "--prompt-ids",
             ",".join(map(str, prompt))]
    _, seconds, rss = run_program(words)
    return seconds, rss


def measure(job, report):
    version, _, _ = run_program([f"{job['programs']}/grist", "--version"])
    report.facts(version.removeprefix("grist").strip(),
                 f"--dtype bf16 --threads {job['threads']}; {pathlib.Path(job['model']).name}")
    report.first_token(*first_token(job, token_ids(16, vocabulary(job))))
    for test in job["tests"]:
        try:
            row = row_of(job, test)
            report.rate(test, row["avg_ts"], limit=row["limit"], fraction=row["fraction"], problem=row["problem"],
                        platform=row["platform"])
        except Failed as failed:
            report.left_out(test, str(failed))
