// The tokenizer in the metadata of a GGUF file: byte-level BPE ("gpt2") or SentencePiece's ("llama").
#pragma once

#include <grist/io/gguf.hpp>
#include <grist/text/piece_tokenizer.hpp>

namespace grist::text {

using io::Gguf;

/// Throws InputError, also for what grist does not know.
TokenizerParts read_gguf_tokenizer(const Gguf& gguf);

}  // namespace grist::text
