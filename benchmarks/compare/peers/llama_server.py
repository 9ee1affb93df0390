"""Several sequences at once in llama.cpp's server, for packages without llama-batched-bench."""
import concurrent.futures
import contextlib
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request

from driver import Failed


@contextlib.contextmanager
def server(program, model, threads, sequences, tokens_each):
    """generate(prompts, new_tokens) of a server that is up, with a slot for each sequence."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [program, "-m", model, "-t", threads, "-np", sequences, "-c", sequences * tokens_each, "--host",
             "127.0.0.1", "--port", port]
    process = subprocess.Popen(list(map(str, words)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)

    def generate(prompts, new_tokens):
        ask_one = lambda ids: ask("/completion", {"prompt": ids, "n_predict": new_tokens, "ignore_eos": True,
                                                  "cache_prompt": False, "temperature": 0})
        with concurrent.futures.ThreadPoolExecutor(len(prompts)) as pool:
            for answer in pool.map(ask_one, prompts):
                if answer["tokens_predicted"] != new_tokens:
                    raise Failed(f"llama-server gave {answer['tokens_predicted']} tokens, not {new_tokens}")

    try:
        for _ in range(600):
            try:
                ask("/health")
                break
            except (urllib.error.URLError, ConnectionError):
                if process.poll() is not None:
                    raise Failed(f"llama-server ended with {process.returncode}")
                time.sleep(0.1)
        else:
            raise Failed("llama-server was not up after a minute")
        yield generate
    finally:
        process.terminate()
        process.wait()
