// Regular expressions of tokenizers. Files write them for Oniguruma, in Ruby's syntax; PCRE2 runs them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

struct pcre2_real_code_8;

namespace grist::text {

/// A compiled regular expression over UTF-8 in which \p{L}, \s and the like mean Unicode's classes. Thread safe.
class Regex {
public:
  /// The pattern is Oniguruma's. Throws InputError with `where` in front if it is none, or holds what grist cannot
  /// translate.
  Regex(const std::string& pattern, std::string_view where);
  /// An expression that matches this text.
  static Regex literal(std::string_view text, std::string_view where);

  /// Begin and end of the first match at or after `from`; it may be empty. The text is valid UTF-8.
  [[nodiscard]] std::optional<std::pair<std::size_t, std::size_t>> find(std::string_view text, std::size_t from) const;

private:
  std::shared_ptr<const pcre2_real_code_8> code_;
};

/// The matches of a text one after the other, as Oniguruma's users walk them: none is empty right after another.
class Matches {
public:
  Matches(const Regex& regex, std::string_view text) : regex_(regex), text_(text) {}
  std::optional<std::pair<std::size_t, std::size_t>> next();

private:
  const Regex& regex_;
  std::string_view text_;
  std::size_t from_ = 0;
  std::optional<std::size_t> last_end_;
};

/// Oniguruma's pattern as PCRE2 writes it. Throws InputError naming what has no translation.
std::string translate_pattern(std::string_view pattern, std::string_view where);

}  // namespace grist::text
