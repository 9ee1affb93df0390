"""CTranslate2's generator."""
import json
import pathlib
import sys

from driver import Failed, converted, measure_by_difference, run_program, token_ids
from tokenizer_folder import with_tokenizer

NAME = "CTranslate2"
PACKAGES = ["ctranslate2", "torch", "transformers<5", "safetensors", "sentencepiece"]
WEIGHTS = {"bf16": "bfloat16", "q8_0": "int8"}   # in the file
# What is computed in: the first that CTranslate2 has on the processor. Bfloat16 it has on some alone.
COMPUTE = {"bf16": ["bfloat16", "float32"], "q8_0": ["int8_bfloat16", "int8_float32"]}


def prepare(job):
    weights = WEIGHTS[job["weights"]]
    converter = pathlib.Path(sys.executable).with_name("ct2-transformers-converter")
    return converted(job, f"ctranslate2-{weights}", lambda part: run_program(
        [converter, "--model", with_tokenizer(job), "--output_dir", part, "--quantization", weights]))


def measure(job, report):
    import ctranslate2
    model = pathlib.Path(job["model"])
    vocabulary = json.loads((model / "vocabulary.json").read_text(encoding="utf-8"))
    supported = ctranslate2.get_supported_compute_types("cpu")
    compute_type = next((name for name in COMPUTE[job["weights"]] if name in supported), None)
    if compute_type is None:
        raise Failed(f"none of {', '.join(COMPUTE[job['weights']])} is supported on this processor")
    generator = ctranslate2.Generator(str(model), device="cpu", compute_type=compute_type,
                                      intra_threads=job["threads"], inter_threads=1)

    def generate(prompts, new_tokens):
        generator.generate_batch([[vocabulary[i] for i in ids] for ids in prompts], max_length=new_tokens,
                                 min_length=new_tokens, sampling_topk=1, include_prompt_in_result=False)
    generate([token_ids(16, len(vocabulary))], 1)
    report.first_token()
    report.facts(ctranslate2.__version__, f"weights {WEIGHTS[job['weights']]} in the file, {generator.compute_type} in "
                                          f"memory and products, intra_threads={job['threads']}")
    measure_by_difference(job, report, len(vocabulary), generate)
