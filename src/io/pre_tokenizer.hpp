// What happens to a text before the model of a tokenizer sees it: the normalizer rewrites it, the pre-tokenizer cuts it
// into words.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

struct pcre2_real_code_8;

namespace grist::io {

/// A compiled regular expression over UTF-8 in which \p{L}, \s and the like mean Unicode's classes. Thread safe.
class Regex {
public:
  /// Throws InputError with `where` in front if the pattern is none.
  Regex(const std::string& pattern, std::string_view where);

  /// Begin and end of the first match at or after `from`. The text is valid UTF-8.
  [[nodiscard]] std::optional<std::pair<std::size_t, std::size_t>> find(std::string_view text, std::size_t from) const;

private:
  std::shared_ptr<const pcre2_real_code_8> code_;
};

/// Puts a text in front of what is not empty. `unless_there`: not where it stands there already; `first_only`: not
/// after an added token.
struct Prepend {
  std::string text;
  bool unless_there = false;
  bool first_only = false;
};

/// Replaces every occurrence.
struct Replace {
  std::string from;
  std::string to;
};

enum class NormalForm { nfc, nfd, nfkc, nfkd };

/// Cuts a text at the matches; keeps these, what lies between them, or both.
struct Split {
  Regex regex;
  bool keep_matches = true;
  bool keep_between = true;
};

using NormalizerStep = std::variant<Prepend, Replace, NormalForm>;
using PreTokenizerStep = std::variant<Prepend, Replace, Split>;

std::string normalize(const std::vector<NormalizerStep>& steps, std::string_view text);

/// Calls `word` with every word of a text. `at_start`: nothing stands before this text.
void pre_tokenize(const std::vector<PreTokenizerStep>& steps, std::string_view text, bool at_start,
                  const std::function<void(std::string_view)>& word);

void replace_all(std::string& text, const Replace& replace);

}  // namespace grist::io
