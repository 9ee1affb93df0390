"""tests/data/tokenizers: small tokenizers in the exact form of well-known ones, each with vectors.

vectors.json: [{text, ids, ids_with_special, decoded, decoded_skip}]; ids without what the post-processor adds,
ids_with_special with it; decoded is ids_with_special with skip_special_tokens=False, decoded_skip with True.
Special tokens in a text are parsed as such. decode.json: the same decodings of random ids, so of invalid UTF-8 too.
"""
import json
import random
import shutil

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from chat_templates import TEMPLATES
from common import DATA, write_json
from hard_strings import HARD_STRINGS

VOCAB = 640
FLAGGED = [AddedToken("<left>", lstrip=True, special=True), AddedToken("<right>", rstrip=True, special=True),
           AddedToken("<word>", single_word=True, normalized=False), AddedToken("<tool_call>", normalized=False),
           AddedToken("</tool_call>", normalized=False), AddedToken("<tool>", normalized=False),
           AddedToken("<tool>>", normalized=False), AddedToken("<pad>", special=True, normalized=True)]
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")


def corpus():
    text = (DATA / "text/sample.txt").read_bytes().decode("utf-8")
    return [text] * 2 + HARD_STRINGS


def train(pre_tokenizer, size, alphabet):
    """(pieces in order of their making, merges) of a BPE learnt from corpus()."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=sorted(alphabet), limit_alphabet=len(alphabet), show_progress=False))
    model = json.loads(tokenizer.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].get), [tuple(m) for m in model["merges"]]


def byte_level_bpe(pre_tokenizer, size=VOCAB, extra=(), **options):
    """A BPE over bytes; extra pieces have no merge that makes them, as happens in Llama-3."""
    pieces, merges = train(pre_tokenizer, size - len(extra), pre_tokenizers.ByteLevel.alphabet())
    assert not set(extra) & set(pieces)
    pieces += extra
    return models.BPE({p: i for i, p in enumerate(pieces)}, merges, **options)


def sentencepiece_vocabulary(pieces, ranked):
    """A BPE of SentencePiece's pieces: a merge for every way to make a piece from two others, in the order of the
    pieces' ranks, which is what SentencePiece does with its scores."""
    vocab = {piece: n for n, piece in enumerate(pieces)}
    merges = [(p[:cut], p[cut:]) for p in ranked for cut in range(1, len(p)) if p[:cut] in vocab and p[cut:] in vocab]
    return models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)


def sentencepiece_pieces(size=VOCAB, specials=("<unk>", "<s>", "</s>")):
    """(pieces, ranked) as Llama-2's: specials, 256 bytes, runs of spaces (ranked last), learnt pieces, characters."""
    spaces = ["▁▁", "▁▁▁▁", "▁▁▁", "▁▁▁▁▁▁▁▁"]
    text = corpus()[0].replace(" ", "▁")
    room = size - len(specials) - 256 - len(spaces)
    characters = sorted({c for c in text if c.isprintable()}, key=lambda c: (-text.count(c), c))[:min(70, room // 2)]
    learnt, _ = train(pre_tokenizers.Metaspace(), room, characters)
    learnt = [p for p in learnt if len(p) > 1] + [p for p in learnt if len(p) == 1]
    return [*specials, *(f"<0x{b:02X}>" for b in range(256)), *spaces, *learnt], learnt + sorted(spaces, key=len)


def special(*names):
    return [AddedToken(name, special=True, normalized=False) for name in names]


def byte_level(**options):
    return pre_tokenizers.ByteLevel(**{"add_prefix_space": False, "use_regex": True} | options)


def split(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), byte_level(use_regex=False)])


def template(bos, bos_id):
    piece = lambda name, type_id: {name: {"id": bos if name == "SpecialToken" else "AB"[type_id], "type_id": type_id}}
    single = [piece("SpecialToken", 0), piece("Sequence", 0)]
    return {"type": "TemplateProcessing", "single": single,
            "pair": single + [piece("SpecialToken", 1), piece("Sequence", 1)],
            "special_tokens": {bos: {"id": bos, "ids": [bos_id], "tokens": [bos]}}}


BYTE_LEVEL_POST = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}


def gpt2():
    tokenizer = Tokenizer(byte_level_bpe(byte_level(), extra=["<|endoftext|>"]))
    tokenizer.pre_tokenizer = byte_level()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", special=True, normalized=True)])
    return tokenizer, BYTE_LEVEL_POST, {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<|endoftext|>",
                                        "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}


def llama3(size=VOCAB):
    tokenizer = Tokenizer(byte_level_bpe(split(LLAMA3), size, ["Ġquixotic", "Donaudampf", "789"], ignore_merges=True))
    tokenizer.pre_tokenizer = split(LLAMA3)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>",
                                         "<|end_header_id|>", "<|eot_id|>"))
    bos_id = tokenizer.token_to_id("<|begin_of_text|>")
    post = {"type": "Sequence", "processors": [BYTE_LEVEL_POST, template("<|begin_of_text|>", bos_id)]}
    return tokenizer, post, {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|begin_of_text|>",
                             "eos_token": "<|eot_id|>", "chat_template": TEMPLATES["llama3"]}


def qwen2():
    tokenizer = Tokenizer(byte_level_bpe(split(QWEN2)))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = split(QWEN2)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    post = BYTE_LEVEL_POST | {"add_prefix_space": False, "use_regex": False}
    return tokenizer, post, {"tokenizer_class": "Qwen2Tokenizer", "bos_token": None, "eos_token": "<|im_end|>",
                             "pad_token": "<|endoftext|>", "unk_token": None, "chat_template": TEMPLATES["qwen2"]}


def smollm():
    tokenizer = Tokenizer(byte_level_bpe(byte_level()))  # learns merges of digits, which must never be used
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level()])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    return tokenizer, None, {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<|im_start|>", "eos_token": "<|im_end|>",
                             "unk_token": "<|endoftext|>", "chat_template": TEMPLATES["smollm2"]}


def llama2(size=VOCAB):
    """As Llama-2's tokenizer.json: the space before a text is made by a normalizer, before every piece of text between
    special tokens."""
    tokenizer = Tokenizer(sentencepiece_vocabulary(*sentencepiece_pieces(size)))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(special("<unk>", "<s>", "</s>"))
    return tokenizer, template("<s>", 1), {"tokenizer_class": "LlamaTokenizer", "legacy": True, "bos_token": "<s>",
                                           "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True,
                                           "add_eos_token": False, "chat_template": TEMPLATES["llama2"]}


def llama2_metaspace():
    """As legacy=False makes it: a pre-tokenizer puts the space before the first piece of text only."""
    tokenizer, post, config = llama2()
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    return tokenizer, post, config | {"legacy": False}


def mistral():
    """As Mistral-Instruct v0.3: control tokens within the vocabulary, space before the first piece of text only."""
    controls = ["[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"]
    tokenizer, post, config = llama2_metaspace()
    specials = ("<unk>", "<s>", "</s>", *controls)
    tokenizer.model = sentencepiece_vocabulary(*sentencepiece_pieces(specials=specials))
    tokenizer.add_special_tokens(special(*specials))
    return tokenizer, post, config | {"chat_template": TEMPLATES["mistral"]}


ALL = [gpt2, llama3, qwen2, smollm, llama2, llama2_metaspace, mistral]


def tiny_llama2():
    return llama2(size=288)


def tiny_llama31():
    return llama3(size=283)  # and five special tokens


def save(folder, tokenizer, post_processor, config, old_merges=False):
    """tokenizer.json and tokenizer_config.json; returns the tokenizer as read back from there."""
    value = json.loads(tokenizer.to_str()) | {"post_processor": post_processor}
    if old_merges:  # before tokenizers 0.20 a merge was one string
        value["model"]["merges"] = [" ".join(merge) for merge in value["model"]["merges"]]
    write_json(folder / "tokenizer.json", value)
    write_json(folder / "tokenizer_config.json", config)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def vector(tokenizer, text):
    full = tokenizer.encode(text).ids
    return {"text": text, "ids": tokenizer.encode(text, add_special_tokens=False).ids, "ids_with_special": full,
            "decoded": tokenizer.decode(full, skip_special_tokens=False), "decoded_skip": tokenizer.decode(full)}


def random_decodings(tokenizer, count=16, length=16):
    rng = random.Random(0)
    bytes_too = range(0, 259) if tokenizer.token_to_id("<0x00>") else range(0, 256)
    for n in range(count):
        ids = rng.choices(bytes_too if n % 2 else range(tokenizer.get_vocab_size()), k=length)
        yield {"ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False),
               "decoded_skip": tokenizer.decode(ids)}


if __name__ == "__main__":
    for make in ALL:
        folder = DATA / "tokenizers" / make.__name__
        shutil.rmtree(folder, ignore_errors=True)
        made, post_processor, config = make()
        made.add_tokens(FLAGGED)
        tokenizer = save(folder, made, post_processor, config, old_merges=make in (gpt2, llama2))
        write_json(folder / "vectors.json", [vector(tokenizer, text) for text in HARD_STRINGS])
        write_json(folder / "decode.json", list(random_decodings(tokenizer)))
