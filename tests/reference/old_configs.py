"""config.json of transformers 4 from that of transformers 5: rope_theta at the top, rope_scaling, torch_dtype.

Families with keys of their own have their own form; where models on the hub have keys that change nothing, it has them.
"""


def rope_at_the_top(config):
    drop = ("rope_parameters", "dtype", "transformers_version")
    old = {key: value for key, value in config.items() if key not in drop}
    rope = dict(config["rope_parameters"])
    old["rope_theta"] = rope.pop("rope_theta")
    kind = rope["rope_type"]
    if kind in ("yarn", "dynamic"):  # as files before 4.43 call it
        rope["type"] = rope.pop("rope_type")
    old["rope_scaling"] = rope if kind != "default" else None
    return dict(sorted(old.items())) | {"torch_dtype": config["dtype"], "transformers_version": "4.43.0"}


def without_layer_types(config):
    """The kinds of layers follow from max_window_layers (Qwen), or from the family (Gemma 2)."""
    old = rope_at_the_top(config)
    del old["layer_types"]
    if old["model_type"].startswith("qwen"):
        old |= {"sliding_window": config["sliding_window"] or 4096}
    return old


def no_rope(config):
    old = {key: value for key, value in config.items() if key not in ("dtype", "transformers_version")}
    return dict(sorted(old.items())) | {"torch_dtype": config["dtype"], "transformers_version": "4.20.0"}
