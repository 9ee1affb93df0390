// tokenizer.model: a vocabulary of the SentencePiece library.
#pragma once

#include <grist/text/piece_tokenizer.hpp>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

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

/// The vocabulary of a tokenizer.model by id, as GGUF files hold it.
struct SentencePieceVocabulary {
  std::vector<std::string> pieces;
  std::vector<float> scores;
  std::vector<std::int32_t> kinds;  // 1 normal, 2 unknown, 3 control, 5 unused, 6 byte
  bool space_prefix;                // a space is put before a text
};
SentencePieceVocabulary read_sentencepiece_vocabulary(const std::filesystem::path& file);

}  // namespace grist::text
