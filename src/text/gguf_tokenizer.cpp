#include <grist/text/gguf_tokenizer.hpp>

#include <grist/core/errors.hpp>
#include <grist/text/bpe.hpp>
#include <grist/text/gguf_pre_tokenizer.hpp>
#include <grist/text/unicode.hpp>
#include <grist/text/utf8.hpp>

#include <cmath>

namespace grist::text {
namespace {

/// SentencePiece's kinds of pieces, with its numbers.
enum class PieceKind : std::int64_t { normal = 1, unknown, control, user_defined, unused, byte };

/// A vocabulary by id; `scores` are SentencePiece's, which gpt2 has none of.
struct Vocabulary {
  std::string path;
  std::vector<std::string> pieces;
  std::vector<PieceKind> kinds;
  std::vector<double> scores;
};

TokenizerParts read_byte_level(const Gguf& gguf, const GgufPreTokenizer& pre, Vocabulary vocabulary) {
  TokenizerParts parts;
  BpeParts bpe;
  bpe.vocab.reserve(vocabulary.pieces.size());
  for (std::size_t i = 0; i < vocabulary.pieces.size(); ++i) {
    const int id = static_cast<int>(i);
    const PieceKind kind = vocabulary.kinds[i];
    if (kind == PieceKind::control || kind == PieceKind::unknown || kind == PieceKind::user_defined) {
      parts.added.push_back({.id = id, .content = vocabulary.pieces[i], .special = kind != PieceKind::user_defined});
    }
    bpe.vocab.emplace(vocabulary.pieces[i], id);  // a merge may make any piece
  }
  std::vector<PiecePair> merges;
  const std::string where = gguf.path + ": tokenizer.ggml.merges";
  for (const std::string& merge : gguf.get<std::vector<std::string>>("tokenizer.ggml.merges")) {
    merges.push_back(split_merge(merge, where));
  }
  bpe.merges = merges_in_order(bpe.vocab, merges, where);
  bpe.byte_level = true;
  bpe.ignore_merges = pre.ignore_merges;
  if (pre.nfc) parts.normalizer.emplace_back(NormalForm::nfc);
  for (const std::string_view pattern : pre.patterns) {
    bpe.pre_tokenizer.emplace_back(Split{Regex(std::string(pattern), gguf.path)});
  }
  parts.decoder.add(make_byte_level());
  parts.pieces = std::move(vocabulary.pieces);
  parts.model = make_bpe(std::move(bpe));
  return parts;
}

/// `space_prefix`: a space is put before a text.
TokenizerParts read_sentencepiece_bpe(Vocabulary vocabulary, bool space_prefix) {
  TokenizerParts parts;
  BpeParts bpe;
  bpe.vocab.reserve(vocabulary.pieces.size());
  bpe.fuse_unknown = true;
  bpe.byte_fallback = true;
  for (std::size_t i = 0; i < vocabulary.pieces.size(); ++i) {
    const int id = static_cast<int>(i);
    const std::string& piece = vocabulary.pieces[i];
    if (std::isnan(vocabulary.scores[i])) {
      throw InputError("{}: the score of piece {} is not a number", vocabulary.path, i);
    }
    switch (vocabulary.kinds[i]) {
      case PieceKind::unknown:
        bpe.unknown = id;
        [[fallthrough]];
      case PieceKind::control:
        parts.added.push_back({.id = id, .content = piece, .special = true});
        break;
      case PieceKind::user_defined:
        parts.added.push_back({.id = id, .content = piece});
        [[fallthrough]];
      case PieceKind::normal:
      case PieceKind::byte:
        if (!piece.empty()) bpe.vocab.emplace(piece, id);
        break;
      case PieceKind::unused:
        break;
    }
  }
  bpe.merges = merges_by_score(bpe.vocab, vocabulary.scores);
  if (space_prefix) parts.normalizer.emplace_back(Prepend{std::string(space_mark)});
  parts.normalizer.emplace_back(Replace{" ", std::string(space_mark)});
  parts.decoder = sentencepiece_decoder(space_prefix);
  parts.pieces = std::move(vocabulary.pieces);
  parts.model = make_bpe(std::move(bpe));
  return parts;
}

/// The special tokens of Phi-3 take the white space after them, which GGUF has no field for: llama.cpp knows it by the
/// name.
void strip_as_phi3(const Gguf& gguf, TokenizerParts& parts) {
  const std::string name = to_lower(gguf.get_or<std::string>("general.name", ""));
  if (name.find("phi-3") == std::string::npos && name.find("phi3") == std::string::npos) return;
  for (AddedToken& token : parts.added) {
    token.rstrip = token.content != "<unk>" && token.content != "<s>" && token.content != "<|endoftext|>";
  }
}

}  // namespace

TokenizerParts read_gguf_tokenizer(const Gguf& gguf) {
  const auto model = gguf.get<std::string>("tokenizer.ggml.model");
  if (model != "gpt2" && model != "llama") {
    throw InputError("{}: tokenizer.ggml.model is '{}', supported are gpt2 and llama", gguf.path, model);
  }
  Vocabulary vocabulary;
  vocabulary.path = gguf.path;
  vocabulary.pieces = gguf.get<std::vector<std::string>>("tokenizer.ggml.tokens");
  const std::size_t count = vocabulary.pieces.size();
  for (std::size_t i = 0; i < count; ++i) {
    if (find_invalid_utf8(vocabulary.pieces[i])) throw InputError("{}: piece {} is not UTF-8", gguf.path, i);
  }
  const auto check_count = [&](std::string_view key, std::size_t found) {
    if (found != count) throw InputError("{}: {} has {} elements, the vocabulary {}", gguf.path, key, found, count);
  };
  const std::vector<std::int64_t> all_normal(count, static_cast<std::int64_t>(PieceKind::normal));
  for (const std::int64_t kind : gguf.get_or("tokenizer.ggml.token_type", all_normal)) {
    if (kind < 1 || kind > 6) throw InputError("{}: found the token type {}, expected 1 to 6", gguf.path, kind);
    vocabulary.kinds.push_back(static_cast<PieceKind>(kind));
  }
  check_count("tokenizer.ggml.token_type", vocabulary.kinds.size());

  TokenizerParts parts;
  bool adds_bos = true;
  if (model == "llama") {
    vocabulary.scores = gguf.get<std::vector<double>>("tokenizer.ggml.scores");
    check_count("tokenizer.ggml.scores", vocabulary.scores.size());
    parts = read_sentencepiece_bpe(std::move(vocabulary), gguf.get_or("tokenizer.ggml.add_space_prefix", true));
  } else {
    const auto name = gguf.get_or<std::string>("tokenizer.ggml.pre", "");
    const GgufPreTokenizer& pre = gguf_pre_tokenizer(name, gguf.path);
    adds_bos = pre.adds_bos;
    parts = read_byte_level(gguf, pre, std::move(vocabulary));
    if (name.empty()) {
      parts.notes.push_back(
          gguf.path +
          ": names no tokenizer.ggml.pre: words are cut as llama.cpp's default does, which may not be "
          "how the model learned them");
    }
  }
  strip_as_phi3(gguf, parts);
  const int bos = gguf.token_id("tokenizer.ggml.bos_token_id", static_cast<std::int64_t>(count));
  const int eos = gguf.token_id("tokenizer.ggml.eos_token_id", static_cast<std::int64_t>(count));
  if (gguf.get_or("tokenizer.ggml.add_sep_token", false))
    throw InputError("{}: tokenizer.ggml.add_sep_token is not supported", gguf.path);
  if (bos >= 0 && gguf.get_or("tokenizer.ggml.add_bos_token", adds_bos)) parts.prefix = {bos};
  if (eos >= 0 && gguf.get_or("tokenizer.ggml.add_eos_token", false)) parts.suffix = {eos};
  return parts;
}

}  // namespace grist::text
