"""PyTorch's eager mode with transformers' models, keys and values cached."""
from driver import Failed, config_of, seconds_of, token_ids

NAME = "PyTorch"
PACKAGES = ["torch", "transformers", "safetensors", "accelerate"]
WEIGHTS = {"bf16": "bfloat16", "q8_0": "int8 by quantize_dynamic, activations f32"}


def prepare(job):
    return job["model"]


def load(job):
    import torch
    from transformers import AutoModelForCausalLM
    quantized = job["weights"] == "q8_0"
    model = AutoModelForCausalLM.from_pretrained(
        job["model"], dtype=torch.float32 if quantized else torch.bfloat16, attn_implementation="sdpa").eval()
    if quantized:
        if not hasattr(torch, "ao") or not hasattr(torch.ao.quantization, "quantize_dynamic"):
            raise Failed("this PyTorch has no quantize_dynamic")
        model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    return model


def measure(job, report):
    import torch
    import transformers
    torch.set_num_threads(job["threads"])
    torch.set_grad_enabled(False)
    model, size = load(job), config_of(job["model"])["vocab_size"]
    read = lambda ids, past=None: model(ids, past_key_values=past, use_cache=True, logits_to_keep=1)
    prompts = lambda length, batch: torch.tensor([token_ids(length, size, 7 * i) for i in range(batch)])
    int(read(prompts(16, 1)).logits.argmax())
    report.first_token()
    report.facts(f"{torch.__version__}, transformers {transformers.__version__}",
                 f"eager, sdpa, {WEIGHTS[job['weights']]}, set_num_threads({job['threads']})")
    for test in job["tests"]:
        n_prompt, n_gen, n_depth, batch = test
        ids = prompts(n_prompt or n_depth, batch)
        read(ids)   # warms up
        if n_gen == 0:
            report.rate(test, n_prompt * batch / seconds_of(lambda: read(ids)))
            continue
        state = read(ids)

        def decode():
            nonlocal state
            for _ in range(n_gen):
                state = read(state.logits[:, -1].argmax(-1, keepdim=True), state.past_key_values)
        report.rate(test, n_gen * batch / seconds_of(decode))
