"""tests/data/tokenizers/*_vectors.json: what tokenizers of real models make of hard_strings.py.

    real_tokenizers.py GGUF [LLAMA2_TOKENIZER_MODEL]
smollm2: [{text, ids, decoded}] with the GGUF file's vocabulary, special tokens parsed, nothing added. transformers
forgets the Digits pre-tokenizer when it reads a GGUF file, so it is put back here (llama.cpp agrees with every vector);
"transformers_ids" stands beside "ids" where that made a difference.
llama2: [{text, ids, decoded, parsed_ids}]; ids and decoded by sentencepiece, to which <s> is plain text; parsed_ids
with special tokens parsed, each piece of text between them on its own, as in Llama-2's tokenizer.json. No BOS is added.
"""
import sys

import sentencepiece
from tokenizers import decoders, pre_tokenizers

from common import DATA, write_json
from from_gguf import load_tokenizer
from hard_strings import HARD_STRINGS
from small_tokenizers import byte_level, llama2, sentencepiece_vocabulary


def smollm2(gguf):
    tokenizer = load_tokenizer(gguf).backend_tokenizer
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    without_digits = [encode(text) for text in HARD_STRINGS]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level()])
    tokenizer.decoder = decoders.ByteLevel()
    for text, other in zip(HARD_STRINGS, without_digits):
        ids = encode(text)
        vector = {"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)}
        assert vector["decoded"] == text
        yield vector if ids == other else vector | {"transformers_ids": other}


def llama2_vectors(model):
    processor = sentencepiece.SentencePieceProcessor(model_file=model)
    pieces = [processor.id_to_piece(i) for i in range(processor.vocab_size())]
    parsing, _, _ = llama2()
    ranks = sorted(range(259, len(pieces)), key=lambda i: (-processor.get_score(i), len(pieces[i])))
    parsing.model = sentencepiece_vocabulary(pieces, [pieces[i] for i in ranks])
    for text in HARD_STRINGS:
        ids = processor.encode(text)
        parsed = parsing.encode(text, add_special_tokens=False).ids
        assert parsed == ids or any(name in text for name in ("<unk>", "<s>", "</s>")), text
        yield {"text": text, "ids": ids, "decoded": processor.decode(ids), "parsed_ids": parsed}


if __name__ == "__main__":
    write_json(DATA / "tokenizers/smollm2_vectors.json", list(smollm2(sys.argv[1])))
    if len(sys.argv) > 2:
        write_json(DATA / "tokenizers/llama2_vectors.json", list(llama2_vectors(sys.argv[2])))
