"""Texts that tell a right tokenizer from an almost right one."""

WORDS = "grain millstone river"

HARD_STRINGS = [
    # empty and white space
    "", " ", "  ", "   ", "\t", "\n", "\n\n", " \n", "\n ", " \n  \n\n x", "\r\n", "\r\n\r\n", "\r",
    "a\r\nb\n\rc\r\n\r\n d",
    "Hello", " Hello", "Hello ", "  Hello  ", "Hello   world", "\tHello\tworld\t\t!", "end with spaces   ",
    "line one\n    indented\n\n\tdeeper\n",
    # contractions
    "I'm you're he's we'll they'd I've can't", "I'M YOU'RE HE'S WE'LL THEY'D I'VE CAN'T",
    "it’s 'tis 'twas o'clock ''s 'S's",
    "l'été n'est d'ici 're 'x",
    # digits
    "0 12 123 1234 12345 123456 1234567", "x1y22z333 4444a", "3.14159, 1e-05, 1,000,000.00 and 0x7fFF",
    "١٢٣ ४५६ ½ ² Ⅷ ①",
    # accents, composed and decomposed, and what NFC changes
    "Café naïve Ångström", "Cafe\u0301 nai\u0308ve A\u030angstro\u0308m",
    "\u212b \u2126 \u1e9b\u0323 \uf900 e\u0301\u0323 \uac00 \u1100\u1161\u11a8",
    # scripts
    "漢字かな交じり文、句読点。「括弧」！？", "中文分词，测试。", "한국어 문장", "مرحبا بالعالم، كيف الحال؟", "नमस्ते दुनिया क्षि ज़ि।", "สวัสดีชาวโลก",
    "Привет, мир! ΓΕΙΆ σου Κόσμε", "mixedСмесь混合text123テスト", "ʼn ŉ ǆ İı ſt ß ẞ ﬁ",
    # emoji and planes beyond the first
    "👩‍👩‍👧‍👦 👍🏽 🇩🇪🇫🇷 ❤️ 🏴󠁧󠁢󠁥󠁮󠁧󠁿", "😀😀😀 a😀b", "𝒙 ∈ ℝⁿ 𠀀𠮷 𐍈",
    # control characters, unusual spaces, invisible characters
    "a\x00b\x01c\x1b[0m\x7f", "a\u00a0b\u2003c\u3000d\u2009 e\u202f\u205f",
    "zero\u200bwidth\u200d\ufeffbom\u2060\u00ad", "line\u2028sep\u2029par\x85nel\x0bvt\x0cff",
    "\u00a0 \u3000 x \u00a0", "\ufffd \uffff",
    # punctuation and code
    "!!!??? ... --- ___ ***\n", "(a)[b]{c}<d>\"e\" 'f' `g`", "for (int i=0; i<n; ++i) {\n\ty[i] += a*x[i];\n}\n",
    "http://a.b/c?d=e&f=%20#g me@x.org",
    "snake_case camelCase SCREAMING_CASE kebab-case", "$5 €6 £7 50% #8 №9 @home", "▁ ▁▁a Ġ Ċ ĠHello", "<0x0A> <0x41>",
    # long words
    "a" * 70, "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
    WORDS + " " + WORDS[::-1],
    # text that looks like special tokens
    "<unk>", "<s>", "</s>", "a <unk> b", "<s>Hello</s>", "<s> Hello </s> again", "</s></s> x", "<|endoftext|>",
    "a<|endoftext|>b <|endoftext|> c",
    "<|im_start|>user\nHi<|im_end|>\n", "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>",
    "[INST] Hi [/INST] there</s>", "<|im_start", "< s > <|endof text|>",
    # added tokens with flags; the tokenizers of tokenizers.py add them all
    "x <left>  y", "x  <left> y", "x <right>  y", "x<right>\n\n y", "a <word> b", "a<word>b", "<word>", "é<word>!",
    "-<word>-",
    "call <tool_call>f(1)</tool_call> done", "<tool><tool>> <tool>>>", "<left><right><left> <right>",
    "<pad>x <pad> y<pad>", "a quixotic Donaudampf 789 12789 quixotic",
]
