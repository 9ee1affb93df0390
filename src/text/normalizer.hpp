// The normalizers of tokenizer.json: they rewrite a text before it is cut into words.
#pragma once

#include <grist/text/regex.hpp>

#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace grist::text {

/// Puts a text in front of what is not empty. `unless_there`: not where it stands there already; `first_only`: only
/// where no text or added token comes before.
struct Prepend {
  std::string text;
  bool unless_there = false;
  bool first_only = false;
};

/// Replaces every occurrence of a text.
struct Replace {
  std::string from;
  std::string to;
};

/// Replaces every match by a text as it is written.
struct ReplaceMatches {
  Regex regex;
  std::string to;
};

enum class NormalForm { nfc, nfd, nfkc, nfkd };

/// One step after the other changes the case, drops characters, or writes bytes.
enum class Rewrite { lowercase, strip_accents, nmt, byte_alphabet };

struct StripSpace {
  bool left = true;
  bool right = true;
};

/// What BERT does to a text.
struct BertNormalizer {
  bool clean_text = true;
  bool handle_chinese_chars = true;
  bool strip_accents = true;
  bool lowercase = true;
};

/// SentencePiece's table of replacements: a double-array trie over UTF-8 and the texts that it points to.
class CharacterMap {
public:
  /// The bytes of precompiled_charsmap. Throws InputError with `where` where they are none.
  CharacterMap(std::string bytes, std::string_view where);
  [[nodiscard]] std::string apply(std::string_view text) const;

private:
  /// The replacement of the shortest prefix that has one, if it is all of `text`.
  [[nodiscard]] const char* find(std::string_view text) const;

  std::string bytes_;
  std::size_t trie_bytes_ = 0;
};

using NormalizerStep =
    std::variant<Prepend, Replace, ReplaceMatches, NormalForm, Rewrite, StripSpace, BertNormalizer, CharacterMap>;

std::string normalize(const std::vector<NormalizerStep>& steps, std::string_view text);

void replace_all(std::string& text, const Replace& replace);
void prepend(std::string& text, const Prepend& step, bool at_start);

}  // namespace grist::text
