#include <grist/text/text_model.hpp>

#include <grist/core/errors.hpp>
#include <grist/text/byte_alphabet.hpp>
#include <grist/text/unicode.hpp>
#include <grist/text/utf8.hpp>

#include <algorithm>
#include <array>
#include <format>
#include <limits>
#include <utility>

namespace grist::text {
namespace {

constexpr std::size_t max_cached_word = 64;
constexpr std::size_t max_cached_words = 1 << 16;

int find_in(const StringMap<int>& vocab, std::string_view piece) {
  const auto found = vocab.find(piece);
  return found == vocab.end() ? -1 : found->second;
}

class WordLevel final : public WordModel {
public:
  WordLevel(StringMap<int> vocab, int unknown, std::vector<PreTokenizerStep> pre_tokenizer)
      : WordModel(std::move(pre_tokenizer)), vocab_(std::move(vocab)), unknown_(unknown) {}

private:
  [[nodiscard]] std::vector<int> encode_word(std::string_view word) const override {
    const int id = find_in(vocab_, word);
    if (id < 0 && unknown_ < 0)
      throw InputError("the word '{}' is not in the vocabulary, which has no unknown token", word);
    return {id < 0 ? unknown_ : id};
  }

  StringMap<int> vocab_;
  int unknown_;
};

class WordPieceModel final : public WordModel {
public:
  explicit WordPieceModel(WordPieceParts parts) : WordModel(std::move(parts.pre_tokenizer)), parts_(std::move(parts)) {}

private:
  [[nodiscard]] std::vector<int> encode_word(std::string_view word) const override {
    if (count_code_points(word) > parts_.max_characters) return {parts_.unknown};
    std::vector<int> ids;
    for (std::size_t begin = 0; begin < word.size();) {
      const std::string prefix = begin == 0 ? "" : parts_.prefix;
      std::size_t end = word.size();
      int id = -1;
      while (end > begin && (id = find_in(parts_.vocab, prefix + std::string(word.substr(begin, end - begin)))) < 0) {
        do --end;
        while (end > begin && (word[end] & 0xC0) == 0x80);
      }
      if (id < 0) return {parts_.unknown};
      ids.push_back(id);
      begin = end;
    }
    return ids;
  }

  WordPieceParts parts_;
};

class Unigram final : public WordModel {
public:
  explicit Unigram(UnigramParts parts) : WordModel(std::move(parts.pre_tokenizer)), parts_(std::move(parts)) {
    double least = std::numeric_limits<double>::infinity();
    for (const double score : parts_.scores) least = std::min(least, score);
    unknown_score_ = least - 10;  // SentencePiece's penalty
    for (const auto& [piece, id] : parts_.vocab) longest_ = std::max(longest_, piece.size());
    for (unsigned b = 0; b < 256; ++b) byte_ids_[b] = find_in(parts_.vocab, std::format("<0x{:02X}>", b));
  }

private:
  struct Node {  // the best way to where a piece ends
    int id = -1;
    double score = 0;
    std::size_t begin = std::string_view::npos;  // of its last piece
  };

  [[nodiscard]] std::vector<int> encode_word(std::string_view word) const override {
    std::vector<Node> nodes(word.size() + 1);
    const auto offer = [&](std::size_t begin, std::size_t end, int id, double score) {
      Node& node = nodes[end];
      if (node.begin == std::string_view::npos || score > node.score) node = {id, score, begin};
    };
    for (std::size_t begin = 0; begin < word.size();) {
      const std::size_t character = first_character(word.substr(begin)).length;
      bool alone = false;
      for (std::size_t end = begin + 1; end <= std::min(word.size(), begin + longest_); ++end) {
        if (end < word.size() && (word[end] & 0xC0) == 0x80) continue;
        const int id = find_in(parts_.vocab, word.substr(begin, end - begin));
        if (id < 0) continue;
        offer(begin, end, id, nodes[begin].score + parts_.scores[static_cast<std::size_t>(id)]);
        alone |= end == begin + character;
      }
      if (!alone) offer(begin, begin + character, parts_.unknown, nodes[begin].score + unknown_score_);
      begin += character;
    }
    return ids_of(nodes, word);
  }

  [[nodiscard]] std::vector<int> ids_of(const std::vector<Node>& nodes, std::string_view word) const {
    std::vector<std::pair<int, std::string_view>> pieces;  // from the last to the first
    for (std::size_t end = word.size(); end > 0; end = nodes[end].begin) {
      const Node& node = nodes[end];
      const bool unknown = node.id == parts_.unknown;
      if (unknown && !pieces.empty() && pieces.back().first == parts_.unknown) {
        pieces.back().second = word.substr(node.begin, end - node.begin + pieces.back().second.size());
      } else {
        pieces.emplace_back(node.id, word.substr(node.begin, end - node.begin));
      }
    }
    std::vector<int> ids;
    for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece) {
      if (piece->first != parts_.unknown || find_in(parts_.vocab, piece->second) == parts_.unknown) {
        ids.push_back(piece->first);
      } else if (!add_bytes(piece->second, ids)) {
        if (parts_.unknown < 0)
          throw InputError("'{}' is not in the vocabulary, which has no unknown token", piece->second);
        ids.push_back(parts_.unknown);
      }
    }
    return ids;
  }

  bool add_bytes(std::string_view text, std::vector<int>& ids) const {
    const auto id = [&](char byte) { return byte_ids_[static_cast<unsigned char>(byte)]; };
    if (!parts_.byte_fallback || std::ranges::any_of(text, [&](char byte) { return id(byte) < 0; })) return false;
    for (const char byte : text) ids.push_back(id(byte));
    return true;
  }

  UnigramParts parts_;
  double unknown_score_ = 0;
  std::size_t longest_ = 1;
  std::array<int, 256> byte_ids_{};
};

}  // namespace

void WordModel::encode(std::string_view text, bool at_start, WordCache& cache, std::vector<int>& ids) const {
  pre_tokenize(pre_tokenizer_, text, at_start, [&](std::string_view word) {
    cache.next_word();
    if (const auto known = cache.find(word); known != cache.end()) {
      ids.insert(ids.end(), known->second.begin(), known->second.end());
      return;
    }
    const std::vector<int> found = encode_word(word);
    ids.insert(ids.end(), found.begin(), found.end());
    if (word.size() <= max_cached_word && cache.size() < max_cached_words) cache.emplace(word, found);
  });
}

std::unique_ptr<TextModel> make_word_level(StringMap<int> vocab, int unknown,
                                           std::vector<PreTokenizerStep> pre_tokenizer) {
  return std::make_unique<WordLevel>(std::move(vocab), unknown, std::move(pre_tokenizer));
}

std::unique_ptr<TextModel> make_word_piece_model(WordPieceParts parts) {
  return std::make_unique<WordPieceModel>(std::move(parts));
}

std::unique_ptr<TextModel> make_unigram(UnigramParts parts) { return std::make_unique<Unigram>(std::move(parts)); }

}  // namespace grist::text
