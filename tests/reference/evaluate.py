"""tests/data/evaluate/*.json: facts.jsonl scored as lm-evaluation-harness does, by transformers in float32.

    evaluate.py [SMOLLM2_GGUF]

Written after the harness's definitions, without its code: TemplateLM._encode_pair and loglikelihood (lm_eval/api/
model.py), HFLM.tok_encode and _loglikelihood_tokens (lm_eval/models/huggingface.py), the multiple_choice part of
ConfigurableTask.process_results (lm_eval/api/task.py), mean_stderr (lm_eval/api/metrics.py), as of 0.4.13.dev0. Each
choice is one whole forward pass.
"""
import json
import math
import statistics
import sys

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from common import DATA, write_json
from from_gguf import load_model, load_tokenizer


def encode(tokenizer, text, prefix):
    special = not text.startswith(tokenizer.decode([prefix]))
    return tokenizer.encode(text, add_special_tokens=special)


def encode_pair(tokenizer, context, continuation):
    prefix = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if context == "":
        ids = tokenizer.encode(continuation, add_special_tokens=False)
        return (ids[:1], ids[1:]) if ids[0] == prefix else ([prefix], ids)
    blanks = len(context) - len(context.rstrip())
    if blanks:
        context, continuation = context[:-blanks], context[-blanks:] + continuation
    whole, given = (encode(tokenizer, text, prefix) for text in (context + continuation, context))
    return given, whole[len(given):]


def log_likelihood(model, given, scored, context):
    assert given and scored and len(scored) <= context
    ids = (given + scored)[-(context + 1):][:-1]
    log_p = model(torch.tensor([ids])).logits[0].log_softmax(-1)[-len(scored):]
    return float(log_p.double().gather(1, torch.tensor(scored)[:, None]).sum()), len(given + scored) > context + 1


def best(values):
    return max(range(len(values)), key=values.__getitem__)  # the first of equal ones, as numpy.argmax


def evaluate(model, tokenizer, context):
    rows, cut = [], 0
    for number, line in enumerate((DATA / "evaluate/facts.jsonl").read_text(encoding="utf-8").splitlines()):
        question = json.loads(line)
        query = question["query"] if "query" in question else question["context"]
        pairs = [encode_pair(tokenizer, query, " " + choice) for choice in question["choices"]]
        scores = [log_likelihood(model, *pair, context) for pair in pairs]
        sums = [s for s, _ in scores]
        cut += sum(lost for _, lost in scores)
        by_length = [s / len(choice) for s, choice in zip(sums, question["choices"])]
        ordered, gaps = sorted(sums), sorted(by_length)
        rows.append({"id": question.get("id", number), "loglikelihoods": sums, "pred": best(sums),
                     "pred_norm": best(by_length), "gold": question["gold"],
                     "gap": ordered[-1] - ordered[-2], "gap_norm": gaps[-1] - gaps[-2]})
    figures = {}
    for name, key in (("acc", "pred"), ("acc_norm", "pred_norm")):
        right = [float(row[key] == row["gold"]) for row in rows]
        figures |= {name: sum(right) / len(right), name + "_stderr": statistics.stdev(right) / math.sqrt(len(right))}
    return {"context": context, **figures, "cut_choices": cut, "questions": rows}


def main(smollm2=None):
    torch.set_grad_enabled(False)
    about = "evaluate/facts.jsonl scored by transformers in float32, as lm-evaluation-harness does; "
    tiny = DATA / "tiny/llama2"
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tiny / "tokenizer.json"), bos_token="<s>", eos_token="</s>")
    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32, attn_implementation="eager").eval()
    write_json(DATA / "evaluate/llama2.json", {"about": about + "model: tiny/llama2"} | evaluate(model, tokenizer, 256))
    if smollm2:
        result = evaluate(load_model(smollm2), load_tokenizer(smollm2), 2048)
        write_json(DATA / "evaluate/smollm2.json", {"about": about + "model: SmolLM2-135M-Instruct.Q4_1.gguf"} | result)


if __name__ == "__main__":
    main(*sys.argv[1:])
