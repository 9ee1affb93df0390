// Oniguruma's syntax (Ruby's) in PCRE2's: most of it is the same; classes mean what Oniguruma's tables say.
#include <grist/text/regex.hpp>

#include <grist/core/errors.hpp>
#include <grist/text/unicode.hpp>
#include <grist/text/utf8.hpp>

#include <algorithm>
#include <array>
#include <format>
#include <utility>

namespace grist::text {
namespace {

constexpr std::string_view word_class = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";  // in a class
constexpr std::string_view word_alone = R"(\p{Alphabetic}\p{M}\p{N}\p{Pc})";  // outside: fractions are words there
constexpr std::string_view hex = "0-9a-fA-F";

/// What [[:name:]] and \p{name} mean, as the inside of a class.
struct Named {
  std::string_view name;
  std::string_view members;
};
constexpr std::array posix_classes = {
    Named{"alpha", R"(\p{Alphabetic})"},
    Named{"alnum", R"(\p{Alphabetic}\p{Nd})"},
    Named{"digit", R"(\p{Nd})"},
    Named{"space", R"(\p{White_Space})"},
    Named{"upper", R"(\p{Uppercase})"},
    Named{"lower", R"(\p{Lowercase})"},
    Named{"punct", R"(\p{P}\p{S})"},
    Named{"word", word_class},
    Named{"xdigit", hex},
    Named{"cntrl", R"(\p{Cc})"},
    Named{"blank", R"(\p{Zs}\t)"},
    Named{"ascii", R"(\x00-\x7F)"},
};
constexpr std::array long_categories = {
    Named{"letter", "L"},
    Named{"uppercaseletter", "Lu"},
    Named{"lowercaseletter", "Ll"},
    Named{"titlecaseletter", "Lt"},
    Named{"modifierletter", "Lm"},
    Named{"otherletter", "Lo"},
    Named{"mark", "M"},
    Named{"nonspacingmark", "Mn"},
    Named{"spacingmark", "Mc"},
    Named{"enclosingmark", "Me"},
    Named{"number", "N"},
    Named{"decimalnumber", "Nd"},
    Named{"letternumber", "Nl"},
    Named{"othernumber", "No"},
    Named{"punctuation", "P"},
    Named{"symbol", "S"},
    Named{"mathsymbol", "Sm"},
    Named{"currencysymbol", "Sc"},
    Named{"modifiersymbol", "Sk"},
    Named{"othersymbol", "So"},
    Named{"separator", "Z"},
    Named{"spaceseparator", "Zs"},
    Named{"other", "C"},
    Named{"control", "Cc"},
    Named{"format", "Cf"},
    Named{"connectorpunctuation", "Pc"},
    Named{"dashpunctuation", "Pd"},
    Named{"openpunctuation", "Ps"},
    Named{"closepunctuation", "Pe"},
    Named{"otherpunctuation", "Po"},
    Named{"punct", "P"},
};
// Properties that both write alike.
constexpr std::array<std::string_view, 9> binary_properties = {
    "Alphabetic",         "White_Space",           "Uppercase",   "Lowercase", "Emoji",
    "Emoji_Presentation", "Extended_Pictographic", "Ideographic", "Any"};

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

std::string loose(std::string_view name) {
  std::string result;
  for (const char c : name) {
    if (c != '_' && c != ' ' && c != '-') result += c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  }
  return result;
}

/// Whether a character is several where case is ignored, as the sharp s is ss: to Oniguruma, not to PCRE2.
bool folds_to_several(std::string_view character) { return count_code_points(to_fold(character)) > 1; }
/// What some of them become.
bool are_folded(char first, char second) {
  constexpr std::array<std::string_view, 5> pairs = {"ss", "st", "ff", "fi", "fl"};
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::ranges::find(pairs, std::string{lower(first), lower(second)}) != pairs.end();
}

class Translation {
public:
  Translation(std::string_view pattern, std::string_view where) : pattern_(pattern), where_(where) {}

  std::string run() {
    while (at_ < pattern_.size()) step();
    return std::move(out_);
  }

private:
  [[noreturn]] void refuse(std::string_view what) const {
    throw InputError("{}: {} in a regular expression is not supported: {}", where_, what, pattern_);
  }
  [[nodiscard]] bool next_is(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }
  std::string_view take(std::size_t count) {
    if (at_ + count > pattern_.size()) refuse("an end too early");
    at_ += count;
    return pattern_.substr(at_ - count, count);
  }
  std::string_view take_character() { return take(first_character(pattern_.substr(at_)).length); }

  void step() {
    begins_ = std::exchange(begins_after_, false);
    if (next_is("\\")) {
      out_ += escape(false);
    } else if (next_is("[")) {
      out_ += character_class(0);
    } else if (next_is("(?")) {
      group();
    } else if (next_is("{")) {
      interval();
    } else {
      out_ += literal();
      return;
    }
    last_ = 0;
  }

  std::string_view literal() {
    const std::string_view character = take_character();
    if (ignores_case_ && folds_to_several(character)) refuse(std::format("'{}' where case is ignored", character));
    if (ignores_case_ && are_folded(last_, character[0]))
      refuse(std::format("'{}{}' where case is ignored", last_, character));
    last_ = is_letter(character[0]) ? character[0] : '\0';
    begins_after_ = character == "(" || character == "|";
    return character;
  }

  void group() {
    static constexpr std::array<std::string_view, 7> same = {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!", "(?#"};
    for (const std::string_view open : same) {
      if (!next_is(open)) continue;
      out_ += take(open.size());
      if (open == "(?#") {
        while (!next_is(")")) out_ += take_character();
      }
      begins_after_ = open != "(?#";
      return;
    }
    if (next_is("(?<") && at_ + 3 < pattern_.size() && is_letter(pattern_[at_ + 3])) {
      out_ += take(3);
      return;
    }
    const auto written = pattern_.substr(at_);
    out_ += take(2);
    bool removes = false;
    while (!next_is(":") && !next_is(")")) {
      const char option = take(1)[0];
      removes = removes || option == '-';
      ignores_case_ = ignores_case_ || (option == 'i' && !removes);
      if (option != 'i' && option != 'x' && option != 'm' && option != '-')
        refuse(std::format("the group (?{}", option));
      out_ += option == 'm' ? 's' : option;  // Ruby's m lets the dot match newlines
    }
    // There an option opens a group up to the end of the one around it, here it does not.
    if (next_is(")") && !begins_)
      refuse(std::format("the option {} in the middle of a group", written.substr(0, written.find(')') + 1)));
    begins_after_ = true;
    out_ += take(1);
  }

  /// {n,m}; followed by "+" it is possessive in PCRE2 and a repetition in Ruby.
  void interval() {
    const std::size_t close = pattern_.find('}', at_);
    const std::string_view inside = pattern_.substr(at_ + 1, close == std::string_view::npos ? 0 : close - at_ - 1);
    if (inside.empty() || inside.find_first_not_of("0123456789,") != std::string_view::npos) {
      out_ += '\\';
      out_ += take(1);
      return;
    }
    out_ += inside[0] == ',' ? "{0" + std::string(inside) + "}" : "{" + std::string(inside) + "}";
    at_ = close + 1;
    if (next_is("+")) refuse("'+' after an interval");
  }

  [[nodiscard]] static std::string as_class(std::string_view members, bool negated) {
    return (negated ? "[^" : "[") + std::string(members) + "]";
  }

  /// A property's name as the inside of a class.
  [[nodiscard]] std::string property(std::string_view name) const {
    const std::string key = loose(name);
    for (const Named& category : long_categories) {
      if (category.name == key) return std::format("\\p{{{}}}", category.members);
    }
    for (const Named& posix : posix_classes) {
      if (posix.name == key) return std::string(posix.members);
    }
    for (const std::string_view binary : binary_properties) {
      if (loose(binary) == key) return std::format("\\p{{{}}}", binary);
    }
    static constexpr std::string_view majors = "LMNPSZC";
    if (key.size() <= 2 && !key.empty() && majors.find(static_cast<char>(key[0] - 32)) != std::string_view::npos) {
      return std::format("\\p{{{}{}}}", static_cast<char>(key[0] - 32), key.substr(1));
    }
    if (key.size() > 2 && std::ranges::all_of(key, is_letter))
      return std::format("\\p{{sc:{}}}", name);  // PCRE2 checks it
    refuse(std::format("the property {}", name));
  }

  /// The character of \x41, \x{1F600} or \u1234, as \x{...}.
  std::string code_escape(char kind) {
    std::string digits;
    if (kind == 'x' && next_is("{")) {
      const std::size_t close = pattern_.find('}', at_);
      if (close == std::string_view::npos) refuse("\\x{ without an end");
      digits = pattern_.substr(at_ + 1, close - at_ - 1);
      at_ = close + 1;
    } else {
      const std::size_t most = kind == 'u' ? 4 : 2;
      while (digits.size() < most && at_ < pattern_.size() &&
             std::string_view("0123456789abcdefABCDEF").find(pattern_[at_]) != std::string_view::npos) {
        digits += take(1);
      }
    }
    if (digits.empty()) refuse(std::format("\\{} without digits", kind));
    return "\\x{" + digits + "}";
  }

  /// An escape, inside a class or outside.
  std::string escape(bool in_class) {
    take(1);
    const std::string_view character = take_character();
    const char kind = character[0];
    const auto members = [&](std::string_view inside, bool negated) {
      return in_class && !negated ? std::string(inside) : as_class(inside, negated);
    };
    switch (kind) {
      case 's':
        return R"(\p{White_Space})";
      case 'S':
        return R"(\P{White_Space})";
      case 'd':
        return R"(\p{Nd})";
      case 'D':
        return R"(\P{Nd})";
      case 'w':
      case 'W':
        return members(in_class ? word_class : word_alone, kind == 'W');
      case 'h':
      case 'H':
        return members(hex, kind == 'H');
      case 'v':
        return R"(\x0B)";
      case 'x':
      case 'u':
        return code_escape(kind);
      case 'p':
      case 'P': {
        if (!next_is("{")) refuse("\\p without braces");
        const std::size_t close = pattern_.find('}', at_);
        if (close == std::string_view::npos) refuse("\\p{ without an end");
        std::string_view name = pattern_.substr(at_ + 1, close - at_ - 1);
        at_ = close + 1;
        bool negated = kind == 'P';
        if (name.starts_with('^')) {
          negated = !negated;
          name.remove_prefix(1);
        }
        const std::string inside = property(name);
        const bool single = inside.starts_with("\\p{") && inside.find('}') == inside.size() - 1;
        if (single) return negated ? "\\P" + inside.substr(2) : inside;
        return members(inside, negated);
      }
      case 'b':
      case 'B': {
        if (in_class) {
          if (kind == 'b') return R"(\x08)";
          refuse("\\B in a class");
        }
        const std::string inside = as_class(word_alone, false);
        return kind == 'b' ? std::format("(?:(?<={0})(?!{0})|(?<!{0})(?={0}))", inside)
                           : std::format("(?:(?<={0})(?={0})|(?<!{0})(?!{0}))", inside);
      }
      default:
        break;
    }
    static constexpr std::string_view same = "tnrfaeAzZ";
    if (is_letter(kind) && same.find(kind) == std::string_view::npos) refuse(std::format("\\{}", character));
    if (is_digit(kind) && (in_class || kind == '0')) refuse(std::format("\\{}", character));
    if (kind == '\n') return R"(\n)";
    return "\\" + std::string(character);
  }

  /// One character of a class, escaped so that it is nothing else.
  static std::string class_literal(std::string_view character) {
    const char c = character[0];
    return is_letter(c) || is_digit(c) || (c & 0x80) != 0 || static_cast<unsigned char>(c) <= ' '
               ? std::string(character)
               : "\\" + std::string(character);
  }

  std::string posix_class() {
    const std::size_t close = pattern_.find(":]", at_);
    std::string_view name = pattern_.substr(at_ + 2, close - at_ - 2);
    at_ = close + 2;
    const bool negated = name.starts_with('^');
    if (negated) name.remove_prefix(1);
    const auto* const found = std::ranges::find(posix_classes, name, &Named::name);
    if (found == posix_classes.end()) refuse(std::format("[:{}:]", name));
    return negated ? as_class(found->members, true) : std::string(found->members);
  }

  std::string character_class(int depth) {
    if (depth > 20) refuse("a class nested deeper than 20");
    take(1);
    std::string inside = "[";
    if (next_is("^")) inside += take(1);
    for (bool first = true; first || !next_is("]"); first = false) {
      if (at_ >= pattern_.size()) refuse("a class without an end");
      if (next_is("[:") && pattern_.find(":]", at_) != std::string_view::npos) {
        inside += posix_class();
      } else if (next_is("[")) {
        inside += character_class(depth + 1);
      } else if (next_is("&&")) {
        inside += take(2);
      } else if (next_is("\\")) {
        inside += escape(true);
      } else if (next_is("-") && !first && at_ + 1 < pattern_.size() && pattern_[at_ + 1] != ']' &&
                 makes_range(inside)) {
        inside += take(1);
      } else {
        inside += class_literal(take_character());
      }
    }
    take(1);
    return inside + "]";
  }

  /// Whether a "-" here stands between two characters: not after a class or a range's end.
  [[nodiscard]] bool makes_range(std::string_view before) const {
    if (before == "[" || before == "[^" || before.ends_with(']') || before.ends_with("&&")) return false;
    const std::size_t brace = before.rfind("\\p{");
    if (before.ends_with('}') && brace != std::string_view::npos && before.find('}', brace) == before.size() - 1)
      return false;
    return true;
  }

  std::string_view pattern_;
  std::string_view where_;
  std::size_t at_ = 0;
  std::string out_;
  bool ignores_case_ = false;  // from an option on: where that ends is not asked
  char last_ = 0;              // the letter that stands for itself before here
  bool begins_ = false, begins_after_ = true;  // whether this step, the next one begins an alternative
};

}  // namespace

std::string translate_pattern(std::string_view pattern, std::string_view where) {
  return Translation(pattern, where).run();
}

}  // namespace grist::text
