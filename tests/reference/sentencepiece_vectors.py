"""tests/data/tokenizers/stories260K/vectors.json: {text, ids, decoded} by Google's sentencepiece (PyPI; not in the
environment), for the tokenizer.model beside it (karpathy/tinyllamas, MIT). Texts with control tokens are left out: the
library knows none in a text.

    pip install sentencepiece && python3 tests/reference/sentencepiece_vectors.py
"""
import json
import pathlib

import sentencepiece

from hard_strings import HARD_STRINGS

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "data/tokenizers/stories260K"

if __name__ == "__main__":
    model = sentencepiece.SentencePieceProcessor(model_file=str(FOLDER / "tokenizer.model"))
    control = [
        model.id_to_piece(i) for i in range(model.get_piece_size()) if model.is_control(i) or model.is_unknown(i)]
    texts = ["Once upon a time, there was a little girl named Lily.", *HARD_STRINGS]
    rows = [{"text": text, "ids": model.encode(text), "decoded": model.decode(model.encode(text))}
            for text in texts if not any(token in text for token in control)]
    body = ",\n".join(" " + json.dumps(row, ensure_ascii=False) for row in rows)
    (FOLDER / "vectors.json").write_text(f"[\n{body}\n]\n", encoding="utf-8")
    print(len(rows))
