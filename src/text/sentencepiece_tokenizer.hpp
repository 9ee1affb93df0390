// tokenizer.model: a vocabulary of the SentencePiece library.
#pragma once

#include <grist/text/piece_tokenizer.hpp>

#include <filesystem>

namespace grist::text {

struct SentencePieceParts {
  TokenizerParts parts;  // prefix and suffix are left empty
  std::string bos;       // as the model itself names them; empty where it has none
  std::string eos;
};

/// Reads a tokenizer.model; its control pieces become added tokens. The space
/// that the library puts before a text comes before every text between added tokens; with `first_only` only where
/// nothing stands before it (transformers' `legacy: false`).
SentencePieceParts read_sentencepiece(const std::filesystem::path& file, bool first_only);

}  // namespace grist::text
