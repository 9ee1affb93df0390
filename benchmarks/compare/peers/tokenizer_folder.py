"""A model's folder for converters that want a tokenizer: they load it, and times do not depend on it."""
import json
import pathlib

from driver import config_of


def with_tokenizer(job):
    model = pathlib.Path(job["model"]).resolve()
    if (model / "tokenizer.json").exists() or (model / "tokenizer.model").exists():
        return model
    folder = pathlib.Path(job["store"]) / f"{model.name}-with-tokenizer"
    folder.mkdir(parents=True, exist_ok=True)
    for file in model.iterdir():
        if not (folder / file.name).exists():
            (folder / file.name).symlink_to(file)
    words = ["<unk>", "<s>", "</s>"] + [f"t{i}" for i in range(3, config_of(model)["vocab_size"])]
    special = [{"id": i, "content": word, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                "special": True} for i, word in enumerate(words[:3])]
    tokenizer = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
                 "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None, "decoder": None,
                 "model": {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(words)},
                           "unk_token": "<unk>"}}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}),
        encoding="utf-8")
    return folder
