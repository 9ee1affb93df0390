"""tests/data/chat/golden.json: message lists and what transformers renders from them with the templates beside it.

The templates have the form of well-known models' (smollm2.jinja is the one in its GGUF file); a template that refuses
the messages has "error" instead of "text". apply_chat_template trims blocks: trim_blocks and lstrip_blocks are on.
"""
from tokenizers import Tokenizer, models

from common import DATA, write_json

TEMPLATES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((DATA / "chat").glob("*.jinja"))}
TOKENS = {"smollm2": ("<|im_start|>", "<|im_end|>"), "qwen2": (None, "<|im_end|>"), "qwen25": (None, "<|im_end|>"),
          "llama2": ("<s>", "</s>"), "mistral": ("<s>", "</s>"),
          "llama3": ("<|begin_of_text|>", "<|eot_id|>"), "llama31": ("<|begin_of_text|>", "<|eot_id|>")}


def talk(*contents, system=None):
    turns = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(contents)]
    return ([{"role": "system", "content": system}] if system is not None else []) + turns


MESSAGES = [
    talk("Hello!"),
    talk("What is MPI?", system="You are brief."),
    talk("  Spaces around  ", "\n Trimmed or not? \n", "Second\n\nquestion", system="  Padded system.  "),
    talk("Grüße, 你好 👋🏽 \"quotes\" 'single' \\back\\slash {{ not }} {% a %} tag & <b>", "It's fine.", "<|im_end|></s>"),
    talk("", system=""),
    talk("One", "Two", "Three", "Four", "Five", system="Count."),
    talk("One", "Two"),
    [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
    [{"role": "assistant", "content": "I speak first."}, {"role": "user", "content": "So?"}],
]


def render(name, messages, add_generation_prompt):
    from jinja2.exceptions import TemplateError
    from transformers import PreTrainedTokenizerFast
    bos, eos = TOKENS[name]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token=bos, eos_token=eos)
    try:
        return {"text": tokenizer.apply_chat_template(messages, chat_template=TEMPLATES[name], tokenize=False,
                                                      add_generation_prompt=add_generation_prompt)}
    except TemplateError as error:
        return {"error": error.message}


if __name__ == "__main__":
    cases = [{"template": f"{name}.jinja", "bos_token": TOKENS[name][0], "eos_token": TOKENS[name][1],
              "add_generation_prompt": go_on, "messages": messages} | render(name, messages, go_on)
             for name in TEMPLATES for messages in MESSAGES for go_on in (True, False)
             if go_on or messages in MESSAGES[5:7]]
    write_json(DATA / "chat/golden.json", cases)
