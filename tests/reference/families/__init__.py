"""Tables of the tiny models of tests/data/tiny, one file for each family.

An entry says
- config: of transformers; vocabularies, heads and widths are odd on purpose;
- dtype: of the stored weights; grid: every tensor is a step * {-8..7}, which blocks of GGUF hold exactly;
- seed: the first one, tried upwards from here, that gives a good model (tiny_golden.good);
- without: what the model must not do without, each shown to move the logits: keys of the config to change, or
  {"zero": pattern} for tensors to set to 0 (or "to" something); "at_least" is the least change, 0.05 of the logit range
  if not given;
- lengths: of the prompts; cached: (length, about) of prompts whose decoding depends on the cache;
- widths: arguments of tiny_weights.random_weight; good: of tiny_golden.good;
- old: a function from config.json to the form of transformers 4;
- sharded, fused, hub: also write the model in shards, with fused experts, with the names of the family's first models.
"""
import importlib
import pkgutil


def all_families():
    return [importlib.import_module(f"families.{module.name}") for module in pkgutil.iter_modules(__path__)]


def all_models():
    return {name: spec for family in all_families() for name, spec in family.MODELS.items()}
