// Models turn words into ids: byte-pair encodings, unigram, WordPiece, WordLevel, and SentencePiece's own library.
#pragma once

#include <grist/text/pre_tokenizer.hpp>
#include <grist/text/string_map.hpp>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace grist::text {

/// The ids of words seen before, kept for one call of encode, which asks `pause` now and then.
class WordCache : public StringMap<std::vector<int>> {
public:
  explicit WordCache(const std::function<void()>& pause) : pause_(pause) {}
  /// To be called for each word.
  void next_word() {
    if (pause_ && ++words_ % 4096 == 0) pause_();
  }

private:
  const std::function<void()>& pause_;
  unsigned words_ = 0;
};

class TextModel {
public:
  virtual ~TextModel() = default;
  /// Appends the ids of a text in which there are no added tokens. `at_start`: nothing stands before it.
  virtual void encode(std::string_view text, bool at_start, WordCache& cache, std::vector<int>& ids) const = 0;
};

/// A model that sees one word at a time.
class WordModel : public TextModel {
public:
  void encode(std::string_view text, bool at_start, WordCache& cache, std::vector<int>& ids) const final;

protected:
  explicit WordModel(std::vector<PreTokenizerStep> pre_tokenizer) : pre_tokenizer_(std::move(pre_tokenizer)) {}
  [[nodiscard]] virtual std::vector<int> encode_word(std::string_view word) const = 0;

  std::vector<PreTokenizerStep> pre_tokenizer_;
};

/// Words are pieces. `unknown` -1: a word that is none is refused.
std::unique_ptr<TextModel> make_word_level(StringMap<int> vocab, int unknown,
                                           std::vector<PreTokenizerStep> pre_tokenizer);

struct WordPieceParts {
  StringMap<int> vocab;
  int unknown = -1;
  std::string prefix = "##";  // of pieces inside a word
  std::size_t max_characters = 100;
  std::vector<PreTokenizerStep> pre_tokenizer;
};
/// The longest piece first; a word that does not end in one is unknown.
std::unique_ptr<TextModel> make_word_piece_model(WordPieceParts parts);

struct UnigramParts {
  StringMap<int> vocab;
  std::vector<double> scores;  // [ids], logarithms of probabilities
  int unknown = -1;
  bool byte_fallback = false;
  std::vector<PreTokenizerStep> pre_tokenizer;
};
/// The pieces whose scores have the largest sum (Kudo, 2018); unknown characters that touch are one.
std::unique_ptr<TextModel> make_unigram(UnigramParts parts);

}  // namespace grist::text
