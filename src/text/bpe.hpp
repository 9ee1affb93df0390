// Byte-pair encoding (Sennrich et al., 2016): words are cut into characters or bytes, and neighbours that make a piece
// are merged, the earliest merge first.
#pragma once

#include <grist/text/text_model.hpp>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace grist::text {

/// How GPT-2 cuts a text into words, as its tokenizer.json has it.
inline constexpr std::string_view gpt2_pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// Where `left` and `right` stand side by side they may become `made`; the smallest rank of a word goes first, and the
/// leftmost of equal ranks.
struct Merge {
  int left;
  int right;
  int rank;
  int made;
};

struct BpeParts {
  StringMap<int> vocab;
  std::vector<Merge> merges;
  int unknown = -1;  // -1: what the vocabulary does not have is dropped
  bool fuse_unknown = false;
  bool byte_level = false;
  bool byte_fallback = false;
  bool ignore_merges = false;  // a word that is a piece stays whole
  std::string inner_prefix{};  // of characters that do not begin a word
  std::string word_suffix{};   // of a word's last character
  std::vector<PreTokenizerStep> pre_tokenizer;
};

using PiecePair = std::pair<std::string, std::string>;

/// "left right". Throws InputError.
PiecePair split_merge(const std::string& merge, const std::string& where);

/// Merges between pieces of the vocabulary, ranked by their order. Throws InputError.
/// `inner_prefix` is not part of what a right piece adds.
std::vector<Merge> merges_in_order(const StringMap<int>& vocab, const std::vector<PiecePair>& pairs,
                                   const std::string& where, std::string_view inner_prefix = "");

/// SentencePiece's rule: of all pairs that make a piece, the piece with the highest score goes first. scores [ids]
std::vector<Merge> merges_by_score(const StringMap<int>& vocab, const std::vector<double>& scores);

std::unique_ptr<TextModel> make_bpe(BpeParts parts);

}  // namespace grist::text
