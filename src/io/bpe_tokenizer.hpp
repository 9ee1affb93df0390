// Byte-pair encoding: the tokenizer of a tokenizer.json or a GGUF file.
#pragma once

#include <grist/io/gguf.hpp>
#include <grist/io/piece_tokenizer.hpp>

#include <filesystem>

namespace grist::io {

/// SentencePiece's kinds of pieces, with its numbers.
enum class PieceKind : std::int64_t { normal = 1, unknown, control, user_defined, unused, byte };

/// A vocabulary of SentencePiece's BPE, by id. `space_prefix`: a space is put before a text.
struct ScoredVocabulary {
  std::string path;
  std::vector<std::string> pieces;
  std::vector<double> scores;
  std::vector<PieceKind> kinds;
  bool space_prefix = true;
};

/// The tokenizer of such a vocabulary; control pieces become added tokens. Prefix and suffix are left empty.
TokenizerParts make_scored_bpe(ScoredVocabulary vocabulary);

TokenizerParts read_tokenizer_json(const std::filesystem::path& file);

TokenizerParts read_gguf_tokenizer(const Gguf& gguf);

/// An id that the metadata of a GGUF file name, below `count`; -1 where they do not.
int gguf_token_id(const Gguf& gguf, std::string_view key, std::size_t count);

}  // namespace grist::io
