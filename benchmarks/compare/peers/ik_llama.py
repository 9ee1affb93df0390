"""ik_llama.cpp by the C interface that its PyPI package wraps."""
import pathlib

from driver import Failed, seconds_of, token_ids
from gguf_files import gguf_of, vocabulary_of

NAME = "ik_llama.cpp"
PACKAGES = ["ik-llama-cpp-python", "py-cpuinfo", "gguf"]
WEIGHTS = {"bf16": "BF16", "q8_0": "Q8_0", "q4_0": "Q4_0"}
BATCH = 512   # tokens of one pass, its default


def prepare(job):
    import ik_llama_cpp
    return gguf_of(job, ik_llama_cpp.find_quantize_bin())


class Context:
    """Room for some sequences of equal length."""

    def __init__(self, model, threads, sequences, tokens_each):
        from ik_llama_cpp import _ctypes_api as c
        self.c = c
        params = c.llama_context_default_params()
        params.n_ctx = sequences * tokens_each
        params.n_batch = params.n_ubatch = BATCH
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn = sequences == 1   # with several it aborts (0.1.5: GGML_ASSERT(S > 0))
        self.context = c.llama_init_from_model(model.model, params)
        if not self.context:
            raise Failed(f"it gives no context of {sequences} x {tokens_each} tokens")
        self.batch = c.llama_batch_init(BATCH, 0, 1)

    def close(self):
        self.c.llama_batch_free(self.batch)
        self.c.llama_free(self.context)

    def forget(self):
        self.c.llama_kv_cache_clear(self.context)

    def read(self, tokens):
        """Passes over (sequence, position, id, whether logits are wanted)."""
        for first in range(0, len(tokens), BATCH):
            part = tokens[first:first + BATCH]
            self.batch.n_tokens = len(part)
            for i, (sequence, position, token, logits) in enumerate(part):
                self.batch.token[i], self.batch.pos[i], self.batch.logits[i] = token, position, logits
                self.batch.n_seq_id[i], self.batch.seq_id[i][0] = 1, sequence
            if self.c.llama_decode(self.context, self.batch) != 0:
                raise Failed(f"llama_decode of {len(part)} tokens failed")
        self.c.llama_get_logits_ith(self.context, self.batch.n_tokens - 1)   # waits for it


def measure(job, report):
    import ik_llama_cpp
    from ik_llama_cpp._internals import IkModel
    size = vocabulary_of(job["model"])
    model = IkModel(str(job["model"]))

    def prompts(length, batch):
        return [(s, i, token, i == length - 1) for s in range(batch)
                for i, token in enumerate(token_ids(length, size, 7 * s))]

    context = Context(model, job["threads"], 1, BATCH)
    context.read(prompts(16, 1))
    report.first_token()
    context.close()
    report.facts(f"{ik_llama_cpp.__version__} of PyPI", f"flash attention for one sequence, passes of {BATCH} tokens, "
                 f"n_threads={job['threads']}; {pathlib.Path(job['model']).name}")
    for test in job["tests"]:
        n_prompt, n_gen, n_depth, batch = test
        length = n_prompt or n_depth
        context = Context(model, job["threads"], batch, length + n_gen + 8)
        context.read(prompts(length, batch))   # warms up

        def decode():
            for i in range(n_gen):
                context.read([(s, length + i, 100 + s, True) for s in range(batch)])
        if n_gen:
            report.rate(test, n_gen * batch / seconds_of(decode))
        else:
            context.forget()
            report.rate(test, n_prompt * batch / seconds_of(lambda: context.read(prompts(n_prompt, batch))))
        context.close()
