"""What the drivers of this folder share. A driver is a module with these names, and runs as a program of its own:

    NAME        the application, as the tables call it
    PACKAGES    what its virtual environment gets from PyPI; empty: it starts programs, and needs none
    PLAIN_VERSIONS  optional: true where requirements of versions like 2.13.0+cpu are to be met by 2.13.0
    WEIGHTS     the types of weights that it serves: the benchmark's name -> how the application calls it
    prepare(job)            makes the application's own form of the model, once; returns its path
    measure(job, report)    measures once

A job is a dict: model (a path; for measure what prepare returned), weights, threads, store (a folder for converted
models), programs (folder of an application's programs, "" for PATH), tests: [n_prompt, n_gen, n_depth, batch] each.
Prefill is n_prompt tokens, decode n_gen tokens for each of `batch` sequences behind n_depth tokens.
"""
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time
import traceback


class Report:
    """One JSON line for each thing that is known, on the stdout that the driver was started with."""

    def __init__(self, out):
        self.out = out

    def say(self, event, **values):
        self.out.write(json.dumps({"event": event, **values}) + "\n")
        self.out.flush()

    def facts(self, version, settings):
        self.say("facts", version=version, settings=settings)

    def first_token(self, seconds=None, rss=None):
        """There is a first token: now, or after the seconds that a program took; and the memory that it took."""
        if rss is None:
            rss = peak_memory(os.getpid())
        self.say("first_token", seconds=seconds, rss=rss)

    def rate(self, test, tokens_per_second, **about):
        """about: of grist alone, limit, fraction, problem and platform of its own row."""
        self.say("rate", test=test, rate=tokens_per_second, **about)

    def left_out(self, test, reason):
        self.say("left_out", test=test, reason=reason)


def peak_memory(process):
    """The most that a process and those that it started, while they run, have had in memory, in bytes."""
    folder = pathlib.Path(f"/proc/{process}")
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    children = [child for file in folder.glob("task/*/children") for child in file.read_text().split()]
    return 1024 * int(status.get("VmHWM", "0 kB").split()[0]) + sum(map(peak_memory, children))


class Failed(Exception):
    """What cannot be measured, in one line."""


def run_program(words, report_errors=4):
    """Runs a program; returns its stdout, the seconds it took, and its peak resident memory in bytes."""
    began = time.perf_counter()
    with subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        errors = []
        reader = threading.Thread(target=lambda: errors.append(process.stderr.read()))
        reader.start()
        out = process.stdout.read()
        reader.join()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    if process.returncode != 0:
        lines = b"".join(errors).decode(errors="replace").strip().splitlines()[-report_errors:]
        raise Failed(f"{pathlib.Path(words[0]).name} ended with {process.returncode}: {' | '.join(lines)}")
    return out.decode(errors="replace"), seconds, usage.ru_maxrss * 1024


def converted(job, form, convert):
    """The model in a peer's own form, made once by convert(folder)."""
    target = pathlib.Path(job["store"]) / f"{pathlib.Path(job['model']).name}-{form}"
    if not target.exists():
        part = target.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        convert(part)
        part.rename(target)
    return target


def seconds_of(f):
    began = time.perf_counter()
    f()
    return time.perf_counter() - began


def config_of(model):
    return json.loads((pathlib.Path(model) / "config.json").read_text(encoding="utf-8"))


def token_ids(count, vocabulary, first=0):
    """The same tokens for all applications: ordinary ones, spread over the vocabulary."""
    return [100 + (first + i) * 37 % (min(vocabulary, 32000) - 100) for i in range(count)]


def measure_by_difference(job, report, vocabulary, generate):
    """For an application whose one call reads prompts and generates: generate(prompts, new_tokens) is called with one
    new token for a prefill; a decode is what n_gen more of them take longer. A first call of each shape does not
    count; each call has prompts of its own, so that nothing is found in a cache."""
    calls = 0

    def seconds_with(test, new_tokens):
        nonlocal calls
        n_prompt, _, n_depth, batch = test
        prompts = [token_ids(n_prompt or n_depth, vocabulary, 7 * i + 1009 * calls) for i in range(batch)]
        calls += 1
        return seconds_of(lambda: generate(prompts, new_tokens))

    for test in job["tests"]:
        n_prompt, n_gen, _, batch = test
        seconds_with(test, 1)
        first = seconds_with(test, 1)
        if n_gen == 0:
            report.rate(test, n_prompt * batch / first)
            continue
        more = seconds_with(test, n_gen + 1) - first
        if more <= 0:
            report.left_out(test, "more tokens took no longer than one: the machine is too noisy")
        else:
            report.rate(test, n_gen * batch / more)


def load(path):
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(path):
    """driver.py PEER.py prepare|measure JOB"""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)   # what libraries print is no result
    report = Report(out)
    module, job = load(path), json.loads(sys.argv[3])
    try:
        if sys.argv[2] == "prepare":
            report.say("prepared", model=str(module.prepare(job)))
        else:
            module.measure(job, report)
    except Failed as failed:
        report.say("failed", reason=str(failed))
    except Exception as error:   # of any library
        traceback.print_exc()
        report.say("failed", reason=f"{type(error).__name__}: {error}".splitlines()[0][:300])


if __name__ == "__main__":
    # This folder comes last: a driver has the name of the package that it imports.
    here = str(pathlib.Path(__file__).resolve().parent)
    sys.path[:] = [path for path in sys.path if path != here] + [here]
    sys.modules["driver"] = sys.modules["__main__"]
    main(sys.argv[1])
