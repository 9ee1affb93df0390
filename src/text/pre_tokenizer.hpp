// The pre-tokenizers of tokenizer.json: they cut a normalized text into words.
#pragma once

#include <grist/text/normalizer.hpp>

#include <functional>
#include <string_view>
#include <variant>
#include <vector>

namespace grist::text {

/// Cuts a text at the matches, which then ...
enum class SplitBehavior {
  isolated,              // are words
  removed,               // are gone
  merged_with_previous,  // belong to the word before
  merged_with_next,      // belong to the word after
  contiguous,            // are one word where they touch
};

/// `invert`: what lies between the matches is taken for the matches.
struct Split {
  Regex regex;
  SplitBehavior behavior = SplitBehavior::isolated;
  bool invert = false;
};

/// Cuts where the script changes; Han, Hiragana and Katakana are one, and blanks belong to any.
struct SplitByScript {};

/// Writes bytes in GPT-2's alphabet.
struct WriteBytes {};

using PreTokenizerStep = std::variant<Prepend, Replace, Split, SplitByScript, WriteBytes>;

/// Calls `word` with every word of a text. `at_start`: nothing stands before this text.
void pre_tokenize(const std::vector<PreTokenizerStep>& steps, std::string_view text, bool at_start,
                  const std::function<void(std::string_view)>& word);

}  // namespace grist::text
