"""llama.cpp's llama-bench; for several sequences llama-batched-bench, or the server where that is not there."""
import json
import pathlib
import shutil

from driver import Failed, measure_by_difference, run_program
from gguf_files import gguf_of, vocabulary_of
from llama_server import server

NAME = "llama.cpp"
PACKAGES = []
WEIGHTS = {"bf16": "BF16", "q8_0": "Q8_0", "q4_0": "Q4_0"}


def find(job, name):
    return shutil.which(name, path=job["programs"] or None)


def program(job, name):
    if not find(job, name):
        raise Failed(f"no {name} in {job['programs'] or 'PATH'}")
    return find(job, name)


def prepare(job):
    return gguf_of(job, program(job, "llama-quantize"))


def rows_of(job, prompt, new, depth):
    out, seconds, rss = run_program([program(job, "llama-bench"), "-m", job["model"], "-t", job["threads"],
                                     "-p", prompt, "-n", new, "-d", depth, "-r", 1, "-o", "json"])
    return json.loads(out)[0], seconds, rss


def measure_batch(job, test, report):
    n_gen, n_depth, batch = test[1:]
    if not find(job, "llama-batched-bench"):
        with server(program(job, "llama-server"), job["model"], job["threads"], batch, n_depth + n_gen + 64) as ask:
            measure_by_difference(job | {"tests": [test]}, report, vocabulary_of(job["model"]), ask)
        return
    # It prints a table: PP, TG, B, N_KV, T_PP, S_PP, T_TG, S_TG, T, S.
    out, _, _ = run_program([program(job, "llama-batched-bench"), "-m", job["model"], "-t", job["threads"], "-npp",
                             n_depth, "-ntg", n_gen, "-npl", batch, "-c", batch * (n_depth + n_gen) + 64])
    for line in out.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 10 and cells[0] == str(n_depth):
            report.rate(test, float(cells[7]))
            return
    raise Failed("llama-batched-bench printed no row that is understood")


def measure(job, report):
    row, seconds, rss = rows_of(job, 16, 0, 0)   # the prompt that the others read for their first token
    batched = "llama-batched-bench" if find(job, "llama-batched-bench") else "llama-server"
    report.facts(f"{row.get('build_commit', '?')} ({row.get('build_number', '?')})",
                 f"llama-bench, for several sequences {batched}, -t {job['threads']}, the rest by default; "
                 f"{pathlib.Path(job['model']).name}")
    # llama-bench warms up once: what it says of its only test is taken from the whole.
    report.first_token(seconds - row["avg_ns"] * 1e-9, rss)
    for test in job["tests"]:
        n_prompt, n_gen, n_depth, batch = test
        try:
            if batch > 1:
                measure_batch(job, test, report)
            else:
                report.rate(test, rows_of(job, n_prompt, n_gen, n_depth)[0]["avg_ts"])
        except Failed as failed:
            report.left_out(test, str(failed))
