"""The perplexity of a text by llama.cpp's own program and by grist, for each format of a model's weights.

    ./run build grist
    ./run --peers python3 tests/reference/check_perplexity.py MODEL.gguf...

Both read the same GGUF files by llama.cpp's protocol: the model as it is, and what `grist convert --quantize` makes
of it; `--weights` of grist, which quantizes while it loads, is held against llama.cpp with the file of that type.
Prints a Markdown table, and fails where a pair differs by more than the limit.

Where weights are in blocks llama.cpp rounds activations to 8 bits, grist in f32 does not. So llama.cpp reads each file
a second time, its numbers widened to f32 by llama-quantize: then both compute the same, but for keys and values in f16.
On one core six minutes for a model of 135 M parameters, half an hour for 0.5 B.
"""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

LIMIT = 1e-2         # of the perplexity, beside llama.cpp with rounded activations
EXACT_LIMIT = 5e-4   # beside llama.cpp on the same numbers in f32; its keys and values are f16 then too


def output_of(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        sys.exit(f"{words[0]} ended with {done.returncode}:\n" + (done.stdout + done.stderr)[-2000:])
    return done.stdout + done.stderr


def find(pattern, text, program):
    found = re.search(pattern, text)
    if not found:
        sys.exit(f"{program} printed no perplexity that is understood:\n{text[-2000:]}")
    return found.groups()


class Check:
    def __init__(self, options, folder):
        self.options, self.folder, self.failed = options, pathlib.Path(folder), False

    def llama_cpp(self, model):
        """Its perplexity, and how many windows it scored."""
        said = output_of("llama-perplexity", "-m", model, "-f", self.options.text, "-c", self.options.context, "-t",
                         self.options.threads)
        windows, = find(r"perplexity over (\d+) chunks", said, "llama-perplexity")
        value, = find(r"Final estimate: PPL = ([0-9.]+)", said, "llama-perplexity")
        return float(value), int(windows)

    def grist(self, model, *more):
        said = output_of(self.options.grist, "perplexity", "--model", model, "--file", self.options.text, "--protocol",
                         "llama.cpp", "--context", self.options.context, "--threads", self.options.threads, *more)
        value, windows = find(r"perplexity ([0-9.]+) .* in (\d+) windows", said, "grist")
        return float(value), int(windows)

    def beside(self, found, expected, limit):
        difference = found[0] / expected[0] - 1
        right = found[1] == expected[1] and abs(difference) <= limit
        self.failed |= not right
        return f"{100 * difference:+.3f} %{'' if right else ' WRONG'}"

    def widened(self, model):
        whole = self.folder / "f32.gguf"
        output_of("llama-quantize", "--allow-requantize", model, whole, "F32")
        value = self.llama_cpp(whole)
        whole.unlink()
        return value

    def row(self, model, what, expected, widened, path, *more):
        """`widened`: what llama.cpp makes of the same numbers in f32; None where there are none."""
        f32, bf16 = (self.grist(path, "--dtype", dtype, *more) for dtype in ("f32", "bf16"))
        exact = f"{widened[0]:.4f} | {self.beside(f32, widened, EXACT_LIMIT)}" if widened else " | "
        print(f"| {model} | {what} | {expected[0]:.4f} | {f32[0]:.4f} | {self.beside(f32, expected, LIMIT)} | "
              f"{bf16[0]:.4f} | {self.beside(bf16, expected, LIMIT)} | {exact} |", flush=True)

    def check(self, model):
        self.row(model.stem, "as it is", self.llama_cpp(model), self.widened(model), model)
        for kind in ("q8_0", "q6_k", "q4_k", "q4_0"):
            file = self.folder / f"{kind}.gguf"
            output_of(self.options.grist, "convert", "--quantize", kind, model, "--out", file)
            expected = self.llama_cpp(file)
            self.row(model.stem, kind, expected, self.widened(file), file)
            if kind in ("q8_0", "q4_0"):
                self.row(model.stem, f"--weights {kind}", expected, None, model, "--weights", kind)
            file.unlink()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=pathlib.Path, metavar="MODEL.gguf")
    parser.add_argument("--text", default="/usr/share/common-licenses/GFDL-1.3", help="default: %(default)s")
    parser.add_argument("--context", default=512, type=int, help="tokens of a window (default: %(default)s)")
    parser.add_argument("--threads", default=1, type=int, help="default: %(default)s")
    parser.add_argument("--grist", default="build/openmp/bin/grist", help="the program (default: %(default)s)")
    arguments = parser.parse_args()
    if not shutil.which("llama-perplexity"):
        sys.exit("no llama-perplexity in PATH: start this by ./run --peers")
    print("| model | weights | llama.cpp | grist, f32 | | grist, bf16 | | llama.cpp, widened to f32 | grist, f32 |\n"
          "|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=arguments.models[0].resolve().parent) as name:
        check = Check(arguments, name)
        for path in arguments.models:
            check.check(path)
    sys.exit(check.failed)
