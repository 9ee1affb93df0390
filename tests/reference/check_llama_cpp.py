"""Runs GGUF files in llama.cpp and compares greedy ids and log probabilities with tests/data/tiny/NAME/golden.json.

    ./run --peers python3 tests/reference/gguf_twins.py --check --to FOLDER
    ./run --peers python3 tests/reference/check_llama_cpp.py FOLDER

Files that gguf_twins.py writes with --check agree to rounding. With other types llama.cpp rounds activations too.
"""
import json
import pathlib
import subprocess
import sys
import time
import urllib.request

import numpy

from common import DATA

PORT = 18437
BEST = 10


def ask(path, body=None):
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", data, {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=60))


def start(model):
    server = subprocess.Popen(
        [
            "llama-server", "-m", model, "--port", str(PORT), "--offline", "--no-webui", "--no-warmup", "-np", "1",
            "-t", "1", "-c", "256", "-fa", "off", "-ctk", "f32", "-ctv", "f32"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    for _ in range(200):
        if server.poll() is not None:
            sys.exit(f"{model}: llama-server refused it\n" + server.stderr.read().decode()[-2000:])
        try:
            ask("/health")
            return server
        except OSError:
            time.sleep(0.05)
    sys.exit(f"{model}: llama-server does not answer")


def check(model):
    golden = json.loads((DATA / "tiny" / model.stem / "golden.json").read_text())
    floats = numpy.fromfile(DATA / "tiny" / model.stem / golden["file"], "<f4")
    part = lambda p: floats[p["offset"]:p["offset"] + numpy.prod(p["shape"])].reshape(p["shape"])
    same, worst = 0, 0.0
    for case in golden["cases"]:
        answer = ask("/completion", {"prompt": case["ids"], "n_predict": len(case["greedy_ids"]), "temperature": 0,
                                     "n_probs": BEST, "cache_prompt": False, "return_tokens": True})
        same += answer["tokens"] == case["greedy_ids"]
        rows = numpy.vstack([part(case["logits"])[-1:], part(case["greedy_logits"])[:-1]]).astype(numpy.float64)
        rows -= numpy.log(numpy.exp(rows).sum(axis=1, keepdims=True))
        steps = answer["completion_probabilities"]
        if len(steps) < len(rows):  # the server shows nothing for part of a UTF-8 character
            worst = float("nan")
            continue
        for step, row, id in zip(steps, rows, case["greedy_ids"]):
            errors = [abs(best["logprob"] - row[best["id"]]) for best in step["top_logprobs"]]
            worst = max([worst, *errors])
            if step["id"] != id:
                break
    paths = f"{same} of {len(golden['cases'])} greedy paths"
    print(f"{model.stem}: {paths}, log probabilities within {worst:.1e}", flush=True)


if __name__ == "__main__":
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*.gguf")):
        if not (DATA / "tiny" / path.stem / "golden.json").exists():
            continue
        server = start(path)
        try:
            check(path)
        finally:
            server.kill()
            server.wait()
