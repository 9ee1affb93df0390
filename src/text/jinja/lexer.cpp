#include <grist/text/jinja/lexer.hpp>

#include <grist/text/jinja/value.hpp>
#include <grist/text/unicode.hpp>
#include <grist/text/utf8.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>

namespace grist::text::jinja {
namespace {

constexpr std::array<std::string_view, 26> symbols = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                      "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                      ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};

bool is_ascii_digit(char c) { return c >= '0' && c <= '9'; }

char32_t point_at(std::string_view text, std::size_t at) {
  return code_points(text.substr(at, first_character(text.substr(at)).length))[0];
}

bool is_word(char32_t point) { return point == '_' || is_alphanumeric(point) || is_mark(point); }

std::size_t skip_space(std::string_view text, std::size_t at) {
  while (at < text.size() && is_space(point_at(text, at))) at += first_character(text.substr(at)).length;
  return at;
}

std::string_view strip_right(std::string_view text) {
  std::size_t end = text.size();
  while (end > 0) {
    std::size_t start = end - 1;
    while (start > 0 && (text[start] & 0xC0) == 0x80) --start;
    if (!is_space(point_at(text, start))) break;
    end = start;
  }
  return text.substr(0, end);
}

/// One newline character for all kinds; the last one is not part of the template.
std::string normalized_lines(std::string_view source) {
  std::string text;
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n') continue;
    text += source[i] == '\r' ? '\n' : source[i];
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

/// The characters of a literal between its quotes, with Python's escapes.
std::string unescape(std::string_view literal) {
  std::string text;
  for (std::size_t i = 0; i < literal.size(); ++i) {
    if (literal[i] != '\\' || i + 1 == literal.size()) {
      text += literal[i];
      continue;
    }
    const char kind = literal[++i];
    const auto number = [&](std::size_t digits, int base) {
      std::size_t count = 0;
      char32_t point = 0;
      const std::string_view allowed = std::string_view("0123456789abcdef").substr(0, static_cast<std::size_t>(base));
      for (; count < digits && i + 1 < literal.size(); ++count) {
        const auto digit = allowed.find(static_cast<char>(literal[i + 1] | (literal[i + 1] >= 'A' ? 0x20 : 0)));
        if (digit == std::string_view::npos) break;
        point = point * static_cast<char32_t>(base) + static_cast<char32_t>(digit);
        ++i;
      }
      if (base == 16 && count != digits) fail("a text has a truncated \\{} escape", kind);
      if (point > 0x10FFFF || (point >= 0xD800 && point < 0xE000)) {
        fail("a text has the escape of U+{:X}, which is no character", static_cast<unsigned>(point));
      }
      append_utf8(text, point);
    };
    static constexpr std::string_view simple = "abfnrtv\\'\"";
    static constexpr std::string_view meaning = "\a\b\f\n\r\t\v\\'\"";
    if (const auto found = simple.find(kind); found != std::string_view::npos) {
      text += meaning[found];
    } else if (kind >= '0' && kind <= '7') {
      --i;
      number(3, 8);
    } else if (kind == 'x' || kind == 'u' || kind == 'U') {
      number(kind == 'x' ? 2 : kind == 'u' ? 4 : 8, 16);
    } else if (kind == 'N') {
      fail("a text has the escape \\N, which is not supported");
    } else if (kind != '\n') {
      text += '\\';
      text += kind;
    }
  }
  return text;
}

class Lexer {
public:
  explicit Lexer(std::string_view text) : text_(text) {}

  std::vector<Token> run() {
    while (at_ < text_.size()) read_data();
    add(Token::Kind::end, "");
    return std::move(tokens_);
  }

private:
  void add(Token::Kind kind, std::string_view value) { tokens_.push_back({kind, std::string(value), line_}); }

  [[noreturn]] void complain(const std::string& what) const {
    Failure failure(what);
    failure.line = line_;
    throw failure;
  }

  void advance(std::size_t end) {
    line_ += static_cast<int>(std::count(text_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         text_.begin() + static_cast<std::ptrdiff_t>(end), '\n'));
    at_line_start_ = end > at_ ? text_[end - 1] == '\n' : at_line_start_;
    at_ = end;
  }

  /// The text before a tag after what the tag takes from it: "-" all white space, none of them the blanks of its line.
  [[nodiscard]] std::string_view before_tag(std::size_t tag, char sign, bool prints) const {
    const std::string_view text = text_.substr(at_, tag - at_);
    if (sign == '-') return strip_right(text);
    if (sign == '+' || prints) return text;
    const std::size_t line = text.rfind('\n') + 1;  // 0 where there is none
    if (line == 0 && !at_line_start_) return text;
    return skip_space(text, line) == text.size() ? text.substr(0, line) : text;
  }

  [[nodiscard]] char sign_at(std::size_t at) const {
    return at < text_.size() && (text_[at] == '-' || text_[at] == '+') ? text_[at] : ' ';
  }

  /// Where a tag that closes at `at` ends, with the white space that it takes.
  [[nodiscard]] std::size_t after_close(std::size_t at, char sign, bool prints) const {
    const std::size_t end = at + 2;
    if (sign == '-') return skip_space(text_, end);
    return sign != '+' && !prints && end < text_.size() && text_[end] == '\n' ? end + 1 : end;
  }

  void read_data() {
    std::size_t tag = at_;
    const auto opens = [&](std::size_t i) {
      return text_[i] == '{' && i + 1 < text_.size() &&
             (text_[i + 1] == '{' || text_[i + 1] == '%' || text_[i + 1] == '#');
    };
    while (tag < text_.size() && !opens(tag)) ++tag;
    if (tag == text_.size()) {
      add(Token::Kind::data, text_.substr(at_));
      advance(tag);
      return;
    }
    const char kind = text_[tag + 1];
    const char sign = sign_at(tag + 2);
    if (const auto data = before_tag(tag, sign, kind == '{'); !data.empty()) add(Token::Kind::data, data);
    advance(tag + (sign == ' ' ? 2 : 3));
    if (kind == '#') return skip_comment();
    if (kind == '%' && read_raw()) return;
    add(kind == '{' ? Token::Kind::begin_print : Token::Kind::begin_block, "");
    while (!read_close(kind == '{')) read_token();
  }

  void skip_comment() {
    const std::size_t close = text_.find("#}", at_);
    if (close == std::string_view::npos) complain("Missing end of comment tag");
    const char sign = close > at_ ? sign_at(close - 1) : ' ';
    advance(after_close(close, sign, false));
  }

  /// {% raw %} ... {% endraw %}, where this is one.
  bool read_raw() {
    std::size_t at = skip_space(text_, at_);
    if (!text_.substr(at).starts_with("raw")) return false;
    at = skip_space(text_, at + 3);
    const bool strips = text_.substr(at).starts_with("-%}");
    if (!strips && !text_.substr(at).starts_with("%}")) return false;
    advance(strips ? skip_space(text_, at + 3) : at + 2);
    for (std::size_t tag = text_.find("{%", at_); tag != std::string_view::npos; tag = text_.find("{%", tag + 2)) {
      const char sign = sign_at(tag + 2);
      std::size_t end = skip_space(text_, tag + (sign == ' ' ? 2 : 3));
      if (!text_.substr(end).starts_with("endraw")) continue;
      end = skip_space(text_, end + 6);
      const char close_sign = sign_at(end);
      if (close_sign != ' ') ++end;
      if (!text_.substr(end).starts_with("%}")) continue;
      if (const auto data = before_tag(tag, sign, false); !data.empty()) add(Token::Kind::data, data);
      advance(after_close(end, close_sign, false));
      return true;
    }
    complain("Missing end of raw directive");
  }

  bool read_close(bool prints) {
    const std::size_t at = skip_space(text_, at_);
    if (at == text_.size()) complain("unexpected end of template inside a tag");
    advance(at);
    if (!open_.empty()) return false;
    const char sign = sign_at(at);
    const std::size_t close = sign == ' ' || (prints && sign == '+') ? at : at + 1;
    if (!text_.substr(close).starts_with(prints ? "}}" : "%}")) return false;
    add(prints ? Token::Kind::end_print : Token::Kind::end_block, "");
    advance(after_close(close, sign, prints));
    return true;
  }

  void read_token() {
    const char c = text_[at_];
    if (is_ascii_digit(c)) return read_number();
    if (c == '\'' || c == '"') return read_text(c);
    std::size_t end = at_;
    while (end < text_.size() && is_word(point_at(text_, end))) end += first_character(text_.substr(end)).length;
    if (end > at_) {
      add(Token::Kind::name, text_.substr(at_, end - at_));
      return advance(end);
    }
    const auto symbol =
        std::ranges::find_if(symbols, [&](std::string_view s) { return text_.substr(at_).starts_with(s); });
    if (symbol == symbols.end()) complain(std::format("unexpected char {}", repr(text_.substr(at_, 1))));
    if (symbol->size() == 1 && std::string_view("([{").find(c) != std::string_view::npos) open_ += c;
    if (symbol->size() == 1 && std::string_view(")]}").find(c) != std::string_view::npos) {
      const char expected = c == ')' ? '(' : c == ']' ? '[' : '{';
      if (open_.empty() || open_.back() != expected) complain(std::format("unexpected '{}'", c));
      open_.pop_back();
    }
    add(Token::Kind::symbol, *symbol);
    advance(at_ + symbol->size());
  }

  [[nodiscard]] std::size_t digits_end(std::size_t at) const {
    while (at < text_.size() &&
           (is_ascii_digit(text_[at]) || (text_[at] == '_' && at + 1 < text_.size() && is_ascii_digit(text_[at - 1]) &&
                                          is_ascii_digit(text_[at + 1])))) {
      ++at;
    }
    return at;
  }

  void read_number() {
    const auto digit_at = [&](std::size_t at) { return at < text_.size() && is_ascii_digit(text_[at]); };
    if (text_[at_] == '0' && at_ + 1 < text_.size() &&
        std::string_view("bBoOxX").find(text_[at_ + 1]) != std::string_view::npos) {
      return read_number_of_base();
    }
    std::size_t end = digits_end(at_);
    bool real = false;
    if (at_ == 0 || text_[at_ - 1] != '.') {
      if (end + 1 < text_.size() && text_[end] == '.' && digit_at(end + 1)) {
        end = digits_end(end + 1);
        real = true;
      }
      if (end < text_.size() && (text_[end] == 'e' || text_[end] == 'E')) {
        const std::size_t power = end + (sign_at(end + 1) == ' ' ? 1 : 2);
        if (digit_at(power)) {
          end = digits_end(power);
          real = true;
        }
      }
    }
    std::string digits(text_.substr(at_, end - at_));
    std::erase(digits, '_');
    if (!real && digits.size() > 1 && digits[0] == '0' && digits.find_first_not_of('0') != std::string::npos) {
      complain(std::format("'{}' is no number", digits));
    }
    add(real ? Token::Kind::real : Token::Kind::integer, digits);
    advance(end);
  }

  /// 0b101, 0o17, 0xFF.
  void read_number_of_base() {
    const char kind = static_cast<char>(text_[at_ + 1] | 0x20);
    const int base = kind == 'b' ? 2 : kind == 'o' ? 8 : 16;
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(text_.data() + at_ + 2, text_.data() + text_.size(), number, base);
    if (error != std::errc{} || number < 0 || *end == '_') complain("a number that is not supported");
    add(Token::Kind::integer, std::to_string(number));
    advance(static_cast<std::size_t>(end - text_.data()));
  }

  void read_text(char quote) {
    std::size_t end = at_ + 1;
    while (end < text_.size() && text_[end] != quote) end += text_[end] == '\\' ? 2 : 1;
    if (end >= text_.size()) complain("a text has no end");
    try {
      add(Token::Kind::text, unescape(text_.substr(at_ + 1, end - at_ - 1)));
    } catch (const Failure& failure) {
      complain(failure.what());
    }
    advance(end + 1);
  }

  std::string_view text_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool at_line_start_ = true;
  std::string open_;  // brackets that wait for their partner
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  const std::string text = normalized_lines(source);
  return Lexer(text).run();
}

}  // namespace grist::text::jinja
