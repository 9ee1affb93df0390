"""grist: build/openmp/bin, by grist_limits (one sequence) and `grist generate` (several)."""
import json
import pathlib
import shutil

from driver import Failed, config_of, run_program, token_ids
from gguf_files import gguf_of, vocabulary_of

NAME = "grist"
PACKAGES = []
WEIGHTS = {"bf16": "as stored", "q8_0": "GGUF Q8_0", "q4_0": "GGUF Q4_0"}
QUIET_MPI = {"UCX_MEM_EVENTS": "n"}   # UCX's hooks cost 0.4 s a start, and serve InfiniBand


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


def one_sequence(job, test):
    """Tokens per second of one test with one sequence: all that is to change where another program measures."""
    n_prompt, n_gen, n_depth, _ = test
    out, _, _ = run_program([f"{job['programs']}/grist_limits", "--model", job["model"], "--dtype", "bf16", "--rounds",
                             1, "--prompt", max(2, n_prompt or n_depth), "--tokens", max(1, n_gen)],
                            OMP_NUM_THREADS=str(job["threads"]), **QUIET_MPI)
    return json.loads(out)["prefill_tokens_per_second" if n_prompt else "decode_tokens_per_second"]


def generate(job, prompts, new_tokens):
    """Seconds inside the program until the last token, seconds of the whole program, and its memory."""
    words = [f"{job['programs']}/grist", "generate", "--model", job["model"], "--dtype", "bf16", "--threads",
             job["threads"], "--max-new-tokens", new_tokens, "--ignore-eos", "--temperature", 0, "--json"]
    for prompt in prompts:
        words += ["--prompt-ids", ",".join(map(str, prompt))]
    out, seconds, rss = run_program(words, **QUIET_MPI)
    timings = [json.loads(line)["timings"] for line in out.splitlines()]
    inside = max(t["waiting_seconds"] + t["prefill_seconds"] + t["decode_seconds"] for t in timings)
    return inside, seconds, rss


def measure(job, report):
    version, _, _ = run_program([f"{job['programs']}/grist", "--version"], **QUIET_MPI)
    report.facts(version.removeprefix("grist").strip(),
                 f"--dtype bf16 --threads {job['threads']}, UCX_MEM_EVENTS=n; {pathlib.Path(job['model']).name}")
    size = vocabulary(job)
    _, seconds, rss = generate(job, [token_ids(16, size)], 1)
    report.first_token(seconds, rss)
    for test in job["tests"]:
        _, n_gen, n_depth, batch = test
        try:
            if batch == 1:
                report.rate(test, one_sequence(job, test))
                continue
            prompts = [token_ids(n_depth, size, 7 * i) for i in range(batch)]
            more = generate(job, prompts, n_gen + 1)[0] - generate(job, prompts, 1)[0]
            if more <= 0:
                raise Failed("more tokens took no longer than one: the machine is too noisy")
            report.rate(test, n_gen * batch / more)
        except Failed as failed:
            report.left_out(test, str(failed))
