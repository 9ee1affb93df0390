"""tests/data/gguf/pre.json: ids that llama.cpp gives with each name of tokenizer.ggml.pre, on the vocabulary of
llama31.gguf.

{texts, ids: {name: [ids of each text]}, ends: {...}}; without a name ("") llama.cpp takes its default. No special
tokens are added.
"""
import json
import subprocess
import tempfile
import time
import urllib.request

import gguf
import numpy

from common import DATA, write_json

NAMES = [
    "", "default", "gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4", "starcoder",
    "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "llama-bpe", "llama3", "falcon3", "pixtral",
    "lfm2", "dbrx", "smaug-bpe", "chatglm-bpe", "glm4", "qwen2", "deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan",
    "solar-open", "qwen35", "tekken", "gpt-4o", "llama4", "deepseek-llm", "deepseek-coder", "deepseek-v3", "falcon",
    "bloom", "poro-chat", "gpt3-finnish", "viking", "superbpe", "bailingmoe", "seed-coder", "exaone-moe", "grok-2",
    "hunyuan-dense", "kormo", "minimax-m2", "jina-es", "mellum"]
TEXTS = [
    "Hello world, it's 1984!", "  two  spaces\tand\n\n lines \r\n x", "x1y22 = 31415926 ((a+b)) <tag> $5 ^_^ |~`",
    "caf\u00e9 \u4f60\u597d\uff0c\u4e16\u754c 123\uff14\uff15", "I'LL they'Ve WE'RE don't",
    "fooBAR HTTPServer isOk /path/to//x.cpp", "1234567 12 1 1234",
    "\u041f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440 \U0001F600\U0001F469\u200d\U0001F469", "end ", " ", "\n",
    "a,b;c...!? \u2026\u3002"]


def copy_with(source, target, name):
    """The file with another tokenizer.ggml.pre, or none."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "tokenizer.ggml.pre"):
            continue
        kind, sub = field.types[0], field.types[1] if len(field.types) > 1 else None
        writer.add_key_value(field.name, field.contents(), kind, sub)
    if name:
        writer.add_string("tokenizer.ggml.pre", name)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, numpy.array(tensor.data), raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tokenize(model, texts, port):
    """Ids by llama-server; nothing where llama.cpp refuses the file."""
    server = subprocess.Popen(
        ["llama-server", "-m", model, "--port", str(port), "-c", "64", "-t", "1", "--no-warmup"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                if urllib.request.urlopen(url + "/health").status == 200:
                    break
            except OSError:
                pass
            if server.poll() is not None:
                return None
            time.sleep(0.05)
        ids = []
        for text in texts:
            body = json.dumps({"content": text, "add_special": False, "parse_special": True}).encode()
            request = urllib.request.Request(url + "/tokenize", body, {"Content-Type": "application/json"})
            ids.append(json.load(urllib.request.urlopen(request))["tokens"])
        return ids
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(NAMES):
            copy_with(DATA / "gguf/llama31.gguf", folder + "/model.gguf", name)
            ids = tokenize(folder + "/model.gguf", TEXTS, 18100 + number)
            if ids is None:
                print("llama.cpp refuses", name)
            else:
                found[name] = ids
    write_json(DATA / "gguf/pre.json", {"texts": TEXTS, "ids": found})
