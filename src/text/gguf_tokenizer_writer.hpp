// The tokenizer of a Hugging Face folder as the metadata of a GGUF file: tokenizer.ggml.* and the chat template.
#pragma once

#include <grist/io/gguf_writer.hpp>

#include <filesystem>
#include <string>
#include <vector>

namespace grist::text {

/// Reads tokenizer.json, else tokenizer.model: byte-level BPE becomes llama.cpp's "gpt2", SentencePiece's BPE "llama".
/// The vocabulary is filled up with unused tokens to `vocab_size`, the rows of the embedding. `eos`: tokens that the
/// folder's generation_config.json ends texts with. Returns notes for the user, a line each: llama.cpp finds every
/// added token wherever it stands and leaves white space beside it, and may put a space behind it. Throws InputError
/// naming what llama.cpp has no word for.
std::vector<std::string> set_gguf_tokenizer(io::GgufWriter& writer, const std::filesystem::path& folder,
                                            Index vocab_size, const std::vector<int>& eos);

/// Throws InputError where the tokenizer of a written file gives other ids of some sentences, or another text of a
/// token, than the folder's. Not compared are texts that begin with a space: SentencePiece puts one more before them,
/// and some tokenizer.json do not.
void check_gguf_tokenizer(const std::filesystem::path& gguf, const std::filesystem::path& folder);

}  // namespace grist::text
