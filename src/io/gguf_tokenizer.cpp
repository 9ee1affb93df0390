#include <grist/io/gguf_tokenizer.hpp>

#include <grist/core/errors.hpp>
#include <grist/io/bpe.hpp>
#include <grist/io/utf8.hpp>

#include <algorithm>
#include <array>
#include <cmath>

namespace grist::io {
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

/// What tokenizer.ggml.pre names.
struct PreTokenizer {
  std::string_view name;
  std::string_view pattern;
  bool single_digits = false;
  bool ignore_merges = false;
  bool adds_bos = false;  // unless the file says otherwise
  bool nfc = false;
};
constexpr std::array pre_tokenizers = {
    PreTokenizer{"default", gpt2_pattern},
    PreTokenizer{"gpt-2", gpt2_pattern},
    PreTokenizer{.name = "llama-bpe", .pattern = llama3_pattern, .ignore_merges = true, .adds_bos = true},
    PreTokenizer{.name = "qwen2", .pattern = qwen2_pattern, .nfc = true},
    PreTokenizer{.name = "smollm", .pattern = gpt2_pattern, .single_digits = true}};

const PreTokenizer& pre_tokenizer(const Gguf& gguf) {
  const auto name = gguf.get_or<std::string>("tokenizer.ggml.pre", "default");
  const auto* const found = std::ranges::find(pre_tokenizers, name, &PreTokenizer::name);
  if (found != pre_tokenizers.end()) return *found;
  throw InputError("{}: tokenizer.ggml.pre is '{}', supported are default, gpt-2, llama-bpe, qwen2 and smollm",
                   gguf.path, name);
}

TokenizerParts read_byte_level(const Gguf& gguf, const PreTokenizer& pre, Vocabulary vocabulary) {
  TokenizerParts parts;
  BpeParts bpe;
  for (std::size_t i = 0; i < vocabulary.pieces.size(); ++i) {
    const int id = static_cast<int>(i);
    const PieceKind kind = vocabulary.kinds[i];
    if (kind == PieceKind::control || kind == PieceKind::unknown || kind == PieceKind::user_defined) {
      parts.added.push_back({.id = id, .content = vocabulary.pieces[i], .special = kind != PieceKind::user_defined});
    } else {
      bpe.vocab.emplace(vocabulary.pieces[i], id);
    }
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
  if (pre.single_digits) bpe.pre_tokenizer.emplace_back(Split{Regex(R"(\p{N})", gguf.path)});
  bpe.pre_tokenizer.emplace_back(Split{Regex(std::string(pre.pattern), gguf.path)});
  parts.decoding.byte_level = true;
  parts.pieces = std::move(vocabulary.pieces);
  parts.model = make_bpe(std::move(bpe));
  return parts;
}

/// `space_prefix`: a space is put before a text.
TokenizerParts read_sentencepiece_bpe(Vocabulary vocabulary, bool space_prefix) {
  TokenizerParts parts;
  BpeParts bpe;
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
        parts.added.push_back({.id = id, .content = piece, .normalized = !space_prefix});
        break;
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
  parts.decoding = sentencepiece_decoding(space_prefix);
  parts.pieces = std::move(vocabulary.pieces);
  parts.model = make_bpe(std::move(bpe));
  return parts;
}

}  // namespace

int gguf_token_id(const Gguf& gguf, std::string_view key, std::size_t count) {
  const auto id = gguf.get_or<std::int64_t>(key, -1);
  if (id < -1 || id >= static_cast<std::int64_t>(count)) {
    throw InputError("{}: {} is {}, expected an id below {}", gguf.path, key, id, count);
  }
  return static_cast<int>(id);
}

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
    const PreTokenizer& pre = pre_tokenizer(gguf);
    adds_bos = pre.adds_bos;
    parts = read_byte_level(gguf, pre, std::move(vocabulary));
  }
  const int bos = gguf_token_id(gguf, "tokenizer.ggml.bos_token_id", count);
  const int eos = gguf_token_id(gguf, "tokenizer.ggml.eos_token_id", count);
  if (bos >= 0 && gguf.get_or("tokenizer.ggml.add_bos_token", adds_bos)) parts.prefix = {bos};
  if (eos >= 0 && gguf.get_or("tokenizer.ggml.add_eos_token", false)) parts.suffix = {eos};
  return parts;
}

}  // namespace grist::io
