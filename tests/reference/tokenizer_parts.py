"""tests/data/tokenizers/parts.json: one of the small tokenizers with parts of its tokenizer.json exchanged, and what
the tokenizers library makes of it.

{texts, cases: [{name, base, changes: {JSON pointer: value}, ids, decoded}]}: ids with special tokens, one list for each
text; decoded with special tokens. seeds/ has three of them whole.
"""
import json

from tokenizers import Tokenizer

from common import DATA, write_json

TEXTS = [
    "Hello world", "  Two  spaces, and\ttabs \n\n  lines\r\n", "It's 1984: x1y22 = 31415926!",
    "caf\u00e9 cafe\u0301 \u00c5\u212b \u1e9b\u0323 \ufb01 \u2167 \u00bd",
    "\u4f60\u597d\uff0c\u4e16\u754c \u3053\u3093\u306b\u3061\u306f\u30ab\u30ca\u30fc \ud55c\uad6d",
    "((a+b)*c) == $5 ^_^ <tag> ~x|y` @#%&-;[\\]{}\"'", "\U0001F469\u200d\U0001F469 \U0001F600",
    "a\u00a0b\u2003c\u3000d\u180ee\u200bf\u2028g\x85h\ufeff",
    ("\u00dc\u0130\u0131 \u017f\u00df \u039f\u03a3 \u0421\u043b\u043e\u0432\u043e \u0645\u0631\u062d\u0628\u0627 "
     "\u0928\u092e\u0938\u094d\u0924\u0947"),
    "", " ", "\n", "<s>a <word>b<word> <pad>", "fooBAR_baz qux-quux 0xFFab", "\x01\x07\x7f\u00ad\u0301x",
    "abcabcabc aaaa", "12 123 1234 12345 1234567 \u0661\u0662\u00b2"]


def split(regex, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert}


def text_split(text, behavior, invert=False):
    return {"type": "Split", "pattern": {"String": text}, "behavior": behavior, "invert": invert}


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
FULL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}


def sequence(kind, *steps):
    return {"type": "Sequence", kind: list(steps)}


def pre(*steps):
    return {"/pre_tokenizer": sequence("pretokenizers", *steps, BYTES)}


PATTERNS = [
    r"\h+", r"\H+", r"[\h_]+", r"[\w&&[^\d]]+", r"[a-z&&[^aeiou]]+", r"[[:alpha:]]+", r"[[:punct:]]+", r"[^[:space:]]+",
    r"[[:^alnum:]]", r"[[:upper:]][[:lower:]]*", r"(?i)HELLO|WORLD", r"(?i:ſ|k)s?", r"\p{Han}+|\p{Hiragana}+",
    r"\p{^L}+", r"\P{L}+", r"\p{Letter}+", r"\p{Alpha}+", r"\p{Punct}", r"[^\s\p{L}\p{N}]+", r"\s+(?!\S)|\s+", r"\b\w",
    r"\w+\b", r"\B", r"^.", r".$", r"\A.|.\z", r"x*", r"(?=\d{3})", r"(?=(\d{3})+(?!\d))", r"\d{1,3}(?=(?:\d{3})*\b)",
    r"a++b?", r"[^\r\n\p{L}\p{N}]?+\p{L}+", r"\u00e9|\x{1F600}|\x41", r"[\u4e00-\u9fff]+", r"[!-/:-~]+", r"[\]\-\\^]",
    r"[a\-z]", r"[-a]+|[a-]+", r"(?m).+", r"(?x) a  b # c", r"(?<=a)b|c(?<!ac)", r"(?<n>a)b\1?", r"\t|\n|\r|\v|\f",
    r"\S+", r"[\S]+", r"[\W]+", r"\W+", r"[^\W\d]+", r"{a}|a{,2}b", r"\$|\^|\||\~|`",
    r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t)?|\p{N}{1,3}",
    r"\p{sc=Han}" if False else r"\p{Greek}+|\p{Cyrillic}+", r"[^\p{Latin}]+", r"\p{Emoji}"]
BEHAVIORS = ["Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"]


def cases():
    for pattern in PATTERNS:
        yield f"pattern {pattern}", "gpt2", pre(split(pattern))
    for behavior in BEHAVIORS:
        for invert in (False, True):
            yield f"split {behavior} {invert}", "gpt2", pre(split(r"[aeiou ]", behavior, invert))
            yield f"text {behavior} {invert}", "gpt2", pre(text_split("a", behavior, invert))
        yield f"empty matches {behavior}", "gpt2", pre(split(r"(?=[aeiou])", behavior))
        yield f"punctuation {behavior}", "gpt2", pre({"type": "Punctuation", "behavior": behavior})
    for step in [
            {"type": "Digits", "individual_digits": True}, {"type": "Digits", "individual_digits": False},
            {"type": "Whitespace"}, {"type": "WhitespaceSplit"}, {"type": "BertPreTokenizer"},
            {"type": "UnicodeScripts"}, {"type": "CharDelimiterSplit", "delimiter": "a"}]:
        yield f"pre-tokenizer {step['type']}", "gpt2", pre(step)
    yield "ByteLevel with a prefix", "gpt2", {"/pre_tokenizer": FULL}
    yield "ByteLevel before a split", "gpt2", {"/pre_tokenizer": sequence("pretokenizers", FULL, split("\u0120|o"))}
    yield "no pre-tokenizer", "gpt2", {"/pre_tokenizer": None}
    for scheme in ("always", "first", "never"):
        for cut in (True, False):
            yield f"Metaspace {scheme} {cut}", "llama2_metaspace", {
                "/normalizer": None,
                "/pre_tokenizer": {
                    "type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": cut},
                "/decoder": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": cut}}
    for name in ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt"]:
        yield f"normalizer {name}", "gpt2", {"/normalizer": {"type": name}}
    for normalizer in [
            {"type": "Strip", "strip_left": True, "strip_right": False},
            {"type": "Strip", "strip_left": False, "strip_right": True}, {"type": "Prepend", "prepend": "x"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": "_"},
            {"type": "Replace", "pattern": {"String": "a"}, "content": ""},
            {"type": "Replace", "pattern": {"Regex": "x*"}, "content": "-"},
            sequence("normalizers", {"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}),
            {"type": "ByteLevel"},
            *(
                {
                    "type": "BertNormalizer", "clean_text": a, "handle_chinese_chars": b, "strip_accents": c,
                    "lowercase": d}
                for a, b, c, d in [
                    (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (1, 1, None, 1), (0, 0, None, 0)])]:
        for key in ("clean_text", "handle_chinese_chars", "lowercase"):
            if key in normalizer:
                normalizer[key] = bool(normalizer[key])
        if normalizer.get("strip_accents") is not None:
            normalizer["strip_accents"] = bool(normalizer["strip_accents"])
        yield f"normalizer {normalizer}", "gpt2", {"/normalizer": normalizer} | (
            {"/pre_tokenizer": None} if normalizer["type"] == "ByteLevel" else {})
    start, end = ["<s>", 1], ["</s>", 2]
    single = lambda *items: {
        "type": "TemplateProcessing",
        "single": [
            {"Sequence": {"id": "A", "type_id": 0}} if i == "A" else {"SpecialToken": {"id": i, "type_id": 0}}
            for i in items],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {n: {"id": n, "ids": [k], "tokens": [n]} for n, k in (start, end)}}
    for processor in [
            single("A"), single("<s>", "A", "</s>", "</s>"), {"type": "BertProcessing", "sep": end, "cls": start},
            {"type": "RobertaProcessing", "sep": end, "cls": start, "trim_offsets": True, "add_prefix_space": False},
            sequence("processors", BYTES, single("<s>", "A")), sequence("processors", single("A"), single("A", "</s>")),
            None]:
        yield f"post-processor {json.dumps(processor)[:60]}", "llama2", {"/post_processor": processor}
    for decoder in [
            None, {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            {"type": "WordPiece", "prefix": "a", "cleanup": True},
            {"type": "WordPiece", "prefix": "##", "cleanup": False}, {"type": "BPEDecoder", "suffix": "o"},
            {"type": "Fuse"}, {"type": "Strip", "content": "e", "start": 1, "stop": 1},
            {"type": "Replace", "pattern": {"Regex": "[aeiou]+"}, "content": "*"}, {"type": "ByteFallback"},
            {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "never", "split": True},
            sequence(
                "decoders", {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
                {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 2, "stop": 1}),
            sequence(
                "decoders", {"type": "ByteFallback"}, {"type": "Fuse"},
                {"type": "Replace", "pattern": {"String": "\u2581"}, "content": "_"}),
            sequence(
                "decoders", {"type": "Fuse"},
                {"type": "Replace", "pattern": {"Regex": "(\u2581)+[a-z]"}, "content": "?"}),
            sequence(
                "decoders", {"type": "ByteFallback"},
                {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True})]:
        for base in ("llama2", "gpt2"):
            yield f"decoder {json.dumps(decoder)[:70]} {base}", base, {"/decoder": decoder}
    for key, value in [
            ("fuse_unk", True), ("fuse_unk", False), ("byte_fallback", False), ("ignore_merges", True),
            ("dropout", None), ("dropout", 0.0), ("unk_token", None)]:
        yield f"{key} {value}", "llama2", {f"/model/{key}": value}
    added = lambda *tokens: {
        "/added_tokens": [
            {
                "id": i, "content": c, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                "special": False} | more
            for i, c, more in tokens]}
    yield "added tokens with other ids", "gpt2", added(
        (900, "world", {}), (3, "Hello", {}), (905, "tabs", {"special": True}))
    yield "added twice", "gpt2", added((700, "world", {}), (701, "world", {"special": True}))
    yield "added empty", "gpt2", added((700, "", {}), (701, "a", {}))
    yield "added that overlap", "gpt2", added(
        (700, "ab", {}), (701, "abc", {}), (702, "bca", {}), (703, "ca", {"normalized": True}))
    yield "added stripping", "gpt2", added(
        (700, "and", {"lstrip": True}), (701, "Two", {"rstrip": True}),
        (702, "spaces", {"lstrip": True, "rstrip": True, "single_word": True}))
    yield "added and lowercase", "gpt2", added(
        (700, "HELLO", {"normalized": True}), (701, "World", {"normalized": False}),
        (702, "IT", {"normalized": True, "special": True})) | {"/normalizer": {"type": "Lowercase"}}
    yield "truncation and padding", "gpt2", {
        "/truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "/padding": {
            "strategy": {"Fixed": 9}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
            "pad_token": "x"}}
    characters = sorted(set("".join(TEXTS)) - {" "})
    bare = {"/added_tokens": [], "/normalizer": None, "/post_processor": None, "/decoder": None}
    words = [
        "[UNK]", "[CLS]", "Hello", "world", "##s", "spa", "##ces", "It", "'", "s", "##c", "##a", "##f", "c", "ca",
        "1984", ",", "##x", "x", "##1", "##y", "lines", "and", "##\u00e9"]
    vocabulary = {w: i for i, w in enumerate(words)}
    yield "WordLevel", "gpt2", bare | {
        "/model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
        "/pre_tokenizer": {"type": "Whitespace"}}
    for most in (100, 4):
        yield f"WordPiece {most}", "gpt2", bare | {
            "/model": {
                "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": most, "vocab": vocabulary},
            "/pre_tokenizer": {"type": "BertPreTokenizer"},
            "/post_processor": {"type": "BertProcessing", "sep": ["[UNK]", 0], "cls": ["[CLS]", 1]},
            "/decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}}
    pieces = [["<unk>", 0.0], ["\u2581", -2.5]] + [[c, -5.0 - i / 64] for i, c in enumerate(characters[::2])] + [
        ["\u2581Hello", -6.0], ["wor", -6.5], ["ld", -5.5], ["or", -6.25], ["and", -6.0], ["\u2581and", -6.5],
        ["aa", -5.75], ["abc", -7.0], ["bca", -6.75], ["\u2581\u2581", -4.0]]
    meta = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    for fallback in (False, True):
        yield f"Unigram {fallback}", "gpt2", bare | {
            "/model": {
                "type": "Unigram", "unk_id": 0,
                "vocab": pieces + ([[f"<0x{b:02X}>", -20.0] for b in range(256)] if fallback else []),
                "byte_fallback": fallback},
            "/pre_tokenizer": meta,
            "/decoder": sequence("decoders", {"type": "ByteFallback"}, meta) if fallback else meta}
    yield "Unigram unsplit", "gpt2", bare | {
        "/model": {"type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": False},
        "/pre_tokenizer": meta | {"split": False}, "/decoder": meta}
    marked = {
        p: i
        for i, p in enumerate([
            "<unk>", *"abcHelowrd", *(c + "</w>" for c in "abcHelowrd"), "ll", "lo</w>", "llo</w>", "He", "Hello</w>",
            "ab", "abc</w>"])}
    yield "end of word", "gpt2", bare | {
        "/model": {
            "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
            "end_of_word_suffix": "</w>", "fuse_unk": False, "byte_fallback": False, "vocab": marked,
            "merges": [["l", "lo</w>"], ["l", "o</w>"], ["H", "e"], ["He", "llo</w>"], ["a", "b"], ["ab", "c</w>"]]},
        "/pre_tokenizer": {"type": "Whitespace"}, "/decoder": {"type": "BPEDecoder", "suffix": "</w>"}}
    inner = {
        p: i
        for i, p in enumerate([
            "<unk>", *"abcHelowrd", *("##" + c for c in "abcHelowrd"), "##ll", "##llo", "He", "Hello", "ab", "abc"])}
    yield "inner prefix", "gpt2", bare | {
        "/model": {
            "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": "##",
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": False, "vocab": inner,
            "merges": [["##l", "##l"], ["##ll", "##o"], ["H", "##e"], ["He", "##llo"], ["a", "##b"], ["ab", "##c"]]},
        "/pre_tokenizer": {"type": "Whitespace"}, "/decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False}}


SEEDS = {"Unigram True": "unigram", "WordPiece 100": "wordpiece", "end of word": "end_of_word"}  # for the fuzzer, small


def root_of(base, changes):
    root = json.loads((DATA / "tokenizers" / base / "tokenizer.json").read_text(encoding="utf-8"))
    for pointer, value in changes.items():
        *path, last = pointer.strip("/").split("/")
        place = root
        for key in path:
            place = place[key]
        place[last] = value
    return root


def plain(tokenizer):
    tokenizer.no_truncation()  # as transformers calls it
    tokenizer.no_padding()
    return tokenizer


if __name__ == "__main__":
    done = []
    for name, base, changes in cases():
        try:
            tokenizer = plain(Tokenizer.from_str(json.dumps(root_of(base, changes))))
            ids = [tokenizer.encode(text).ids for text in TEXTS]
            if name in SEEDS:
                write_json(DATA / f"tokenizers/seeds/{SEEDS[name]}.json", root_of(base, changes))
            done.append({
                "name": name, "base": base, "changes": changes, "ids": ids,
                "decoded": [tokenizer.decode(i, skip_special_tokens=False) for i in ids]})
        except BaseException as error:  # what the library itself refuses is no case
            print("left out:", name, "|", str(error)[:100])
    write_json(DATA / "tokenizers/parts.json", {"texts": TEXTS, "cases": done})
    print(len(done))
