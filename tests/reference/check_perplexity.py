"""The perplexity of a text by llama.cpp's own program and by grist, for each format of a model's weights.

    ./run build grist
    ./run --peers python3 tests/reference/check_perplexity.py MODEL.gguf...

Both read the same GGUF file by llama.cpp's protocol: as it is, in f32 (llama-quantize writes it; llama.cpp does not
round activations then), and in what `grist convert --quantize` makes of it. `--weights` of grist, which quantizes while
it loads, is held against llama.cpp with the file of that type. Prints a Markdown table; fails where a pair differs by
more than the limit. Takes six minutes for SmolLM2-135M and 25 for a model of 0.5 B on one core.
"""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

LIMITS = {"f32": 1e-4, "rounded": 1e-2}   # of the perplexity: the same sums, and activations rounded to 8 bits
DTYPES = ["f32", "bf16"]


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

    def row(self, model, what, expected, limit, path, *more):
        value, windows = expected
        cells = []
        for dtype in DTYPES:
            found, own_windows = self.grist(path, "--dtype", dtype, *more)
            difference = found / value - 1
            # The rounding of bf16 is grist's own.
            allowed = limit if dtype == "f32" else max(limit, LIMITS["rounded"])
            right = own_windows == windows and abs(difference) <= allowed
            self.failed |= not right
            cells.append(f"{found:.4f} | {100 * difference:+.3f} %{'' if right else ' WRONG'}")
        print(f"| {model} | {what} | {windows} | {value:.4f} | {' | '.join(cells)} |", flush=True)

    def check(self, model):
        expected = self.llama_cpp(model)
        self.row(model.stem, "as it is", expected, LIMITS["rounded"], model)
        whole = self.folder / "f32.gguf"
        output_of("llama-quantize", "--allow-requantize", model, whole, "F32")
        self.row(model.stem, "f32", self.llama_cpp(whole), LIMITS["f32"], whole)
        whole.unlink()
        for kind in ("q8_0", "q6_k", "q4_k", "q4_0"):
            file = self.folder / f"{kind}.gguf"
            output_of(self.options.grist, "convert", "--quantize", kind, model, "--out", file)
            expected = self.llama_cpp(file)
            self.row(model.stem, kind, expected, LIMITS["rounded"], file)
            if kind in ("q8_0", "q4_0"):
                self.row(model.stem, f"--weights {kind}", expected, LIMITS["rounded"], model, "--weights", kind)
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
    print("| model | weights | windows | llama.cpp | grist, f32 | | grist, bf16 | |\n|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=arguments.models[0].resolve().parent) as name:
        check = Check(arguments, name)
        for path in arguments.models:
            check.check(path)
    sys.exit(check.failed)
