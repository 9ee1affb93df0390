// tokenizer.model: a vocabulary of the SentencePiece library.
#pragma once

#include <grist/io/piece_tokenizer.hpp>

#include <filesystem>

namespace grist::io {

struct SentencePieceParts {
  TokenizerParts parts;  // prefix and suffix are left empty
  std::string bos;       // as the model itself names them; empty where it has none
  std::string eos;
};

/// Reads a tokenizer.model; its control pieces become added tokens.
SentencePieceParts read_sentencepiece(const std::filesystem::path& file);

}  // namespace grist::io
