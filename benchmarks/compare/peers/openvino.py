"""OpenVINO GenAI's LLMPipeline; optimum-intel converts."""
import pathlib
import sys

from driver import config_of, converted, measure_by_difference, run_program, token_ids
from tokenizer_folder import with_tokenizer

NAME = "OpenVINO GenAI"
PACKAGES = ["openvino-genai", "optimum-intel[openvino]", "torch", "transformers", "safetensors"]
WEIGHTS = {"bf16": "fp16", "q8_0": "int8", "q4_0": "int4"}


def prepare(job):
    weights = WEIGHTS[job["weights"]]
    program = pathlib.Path(sys.executable).with_name("optimum-cli")
    return converted(job, f"openvino-{weights}", lambda part: run_program(
        [program, "export", "openvino", "--model", with_tokenizer(job), "--task", "text-generation-with-past",
         "--weight-format", weights, part]))


def measure(job, report):
    import numpy
    import openvino
    import openvino_genai
    settings = {"INFERENCE_NUM_THREADS": job["threads"], "INFERENCE_PRECISION_HINT": "bf16",
                "PERFORMANCE_HINT": "LATENCY"}
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.enable_prefix_caching = False   # a prompt is read, not found
    scheduler.max_num_batched_tokens = 8192
    scheduler.cache_size = 4   # GB
    pipeline = openvino_genai.LLMPipeline(job["model"], "CPU", scheduler_config=scheduler, **settings)
    size = config_of(job["model"])["vocab_size"]

    def generate(prompts, new_tokens):
        ids = numpy.array(prompts, dtype=numpy.int64)
        inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(numpy.ones_like(ids)))
        config = openvino_genai.GenerationConfig(max_new_tokens=new_tokens, ignore_eos=True, do_sample=False)
        pipeline.generate(inputs, config)
    generate([token_ids(16, size)], 1)
    report.first_token()
    report.facts(openvino_genai.__version__, f"weights {WEIGHTS[job['weights']]}, {settings}, "
                                            "no prefix caching, batches of up to 8192 tokens")
    measure_by_difference(job, report, size, generate)
