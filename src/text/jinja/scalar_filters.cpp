// Jinja2's filters of numbers and texts, and transformers' tojson.
#include <grist/text/jinja/builtins.hpp>
#include <grist/text/jinja/filters.hpp>

#include <grist/text/unicode.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

namespace grist::text::jinja {
namespace {

std::optional<double> parse_real(std::string text) {
  text = strip(text, nullptr, true, true);
  std::erase(text, '_');
  if (text.empty() || text.find_first_of("xXpP(") != std::string::npos) return std::nullopt;
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  return end == text.c_str() + text.size() ? std::optional(number) : std::nullopt;
}

/// Python's int(text, base), of 2, 8 and 16.
std::optional<std::int64_t> parse_whole(const std::string& text, std::int64_t base) {
  if (base != 2 && base != 8 && base != 16) fail("int of the base {} is not supported", base);
  std::string digits = to_lower(strip(text, nullptr, true, true));
  const bool minus = digits.starts_with('-');
  if (minus || digits.starts_with('+')) digits.erase(0, 1);
  if (digits.starts_with(base == 2 ? "0b" : base == 8 ? "0o" : "0x")) digits.erase(0, 2);
  std::int64_t number = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), number, static_cast<int>(base));
  if (digits.empty() || digits[0] == '-' || error != std::errc{} || end != digits.data() + digits.size())
    return std::nullopt;
  return minus ? -number : number;
}

std::string url_quoted(const Value& value, bool in_query) {
  std::string text;
  for (const char c : soft_text(value)) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
                       c == '.' || c == '-' || c == '~' || (c == '/' && !in_query);
    text += plain                  ? std::string(1, c)
            : c == ' ' && in_query ? "+"
                                   : std::format("%{:02X}", static_cast<unsigned>(static_cast<unsigned char>(c)));
  }
  return text;
}

}  // namespace

Value url_encoded(const Value& value, const Arguments& arguments) {
  const Bound none("urlencode", arguments, {});
  if (value.dict() == nullptr && value.sequence() == nullptr) return url_quoted(value, false);
  std::string text;
  const Value pairs = value.dict() != nullptr ? dict_items(value, {}) : value;
  for (const Value& pair : elements_of(pairs)) {
    const Items parts = elements_of(pair);
    if (parts.size() != 2) fail("urlencode: found {} values to unpack, expected 2", parts.size());
    text += (text.empty() ? "" : "&") + url_quoted(parts[0], true) + "=" + url_quoted(parts[1], true);
  }
  return text;
}

Value file_size(const Value& value, const Arguments& arguments) {
  const Bound given("filesizeformat", arguments, {"binary"});
  const bool binary = given.flag(0, false);
  const double bytes = *to_real(value, {}).number();
  const double base = binary ? 1024 : 1000;
  if (bytes == 1) return "1 Byte";
  if (bytes < base) return std::to_string(static_cast<std::int64_t>(bytes)) + " Bytes";
  double unit = base * base;
  for (const char prefix : std::string_view(binary ? "KMGTPEZY" : "kMGTPEZY")) {
    if (bytes < unit || prefix == 'Y')
      return std::format("{:.1f} {}{}", base * bytes / unit, prefix, binary ? "iB" : "B");
    unit *= base;
  }
  return Value();
}

Value to_integer(const Value& value, const Arguments& arguments) {
  const Bound given("int", arguments, {"default", "base"});
  const Value otherwise = given.find(0) != nullptr ? given[0] : Value(0);
  if (const std::int64_t base = given.integer(1, 10); base != 10 && value.text() != nullptr) {
    if (const auto number = parse_whole(*value.text(), base)) return *number;
  }
  if (const Undefined* nothing = value.undefined()) fail("{}", nothing->complaint);
  if (value.integer()) return *value.integer();
  std::optional<double> number = value.number();
  if (const std::string* text = value.text()) {
    std::string digits = strip(*text, nullptr, true, true);
    const std::size_t sign = digits.find_first_of("+-") == 0 ? 1 : 0;
    if (digits.size() > sign && digits.find_first_not_of("0123456789", sign) == std::string::npos) {
      if (digits.size() > 18) fail("the number {} is not supported", digits);
      return static_cast<std::int64_t>(std::stoll(digits));
    }
    if (digits.find('_') != std::string::npos) fail("the number '{}' is not supported", digits);
    number = parse_real(digits);
  }
  if (!number || std::isnan(*number) || std::isinf(*number)) return otherwise;
  if (std::abs(*number) > 9e18) fail("the number {} does not fit 64 bits, which is not supported", *number);
  return static_cast<std::int64_t>(*number);
}

Value to_real(const Value& value, const Arguments& arguments) {
  const Bound given("float", arguments, {"default"});
  if (const Undefined* nothing = value.undefined()) fail("{}", nothing->complaint);
  if (value.number()) return *value.number();
  const auto number = value.text() == nullptr ? std::nullopt : parse_real(*value.text());
  return number ? Value(*number) : given.find(0) != nullptr ? given[0] : Value(0.0);
}

Value rounded(const Value& value, const Arguments& arguments) {
  const Bound given("round", arguments, {"precision", "method"});
  const std::int64_t precision = given.integer(0, 0);
  const std::string method = given.text(1, "common");
  if (!value.number()) fail("round of a {}", type_of(value));
  if (precision < 0 || precision > 15) fail("round to {} digits is not supported", precision);
  if (method == "common") {
    if (value.integer()) return *value.integer();
    return std::stod(percent_format("%." + std::to_string(precision) + "f", *value.number()));
  }
  if (method != "ceil" && method != "floor") fail("method must be common, ceil or floor");
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = *value.number() * scale;
  return (method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale;
}

Value absolute(const Value& value, const Arguments& arguments) {
  const Bound none("abs", arguments, {});
  if (!value.number()) fail("bad operand type for abs(): '{}'", type_of(value));
  if (value.integer()) return *value.integer() < 0 ? negative(value) : Value(*value.integer());
  return std::abs(*value.number());
}

Value escaped(const Value& value, const Arguments& arguments) {
  const Bound none("escape", arguments, {});
  std::string text;
  for (const char c : soft_text(value)) {
    text += c == '&'    ? "&amp;"
            : c == '<'  ? "&lt;"
            : c == '>'  ? "&gt;"
            : c == '"'  ? "&#34;"
            : c == '\'' ? "&#39;"
                        : std::string(1, c);
  }
  return Markup{text};
}

Value indented(const Value& value, const Arguments& arguments) {
  const Bound given("indent", arguments, {"width", "first", "blank"});
  std::string margin = given.find(0) != nullptr && given[0].text() != nullptr ? *given[0].text() : "";
  if (margin.empty()) {
    const std::int64_t width = given.find(0) != nullptr && given[0].text() != nullptr ? 0 : given.integer(0, 4);
    if (width > 1 << 12) fail("indent of {} is not supported", width);
    margin = std::string(static_cast<std::size_t>(std::max<std::int64_t>(width, 0)), ' ');
  }
  const std::vector<std::string> lines = lines_of(soft_text(value) + "\n", false);
  std::string text = given.flag(1, false) ? margin : "";
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) text += "\n" + (lines[i].empty() && !given.flag(2, false) ? "" : margin);
    text += lines[i];
  }
  return text;
}

Value titled(const Value& value, const Arguments& arguments) {
  const Bound none("title", arguments, {});
  std::u32string word;
  std::string text;
  const auto flush = [&] {
    if (word.empty()) return;
    text += to_upper(to_utf8({word.data(), 1})) + to_lower(to_utf8(std::u32string_view(word).substr(1)));
    word.clear();
  };
  for (const char32_t point : code_points(soft_text(value))) {
    if (is_space(point) || std::u32string_view(U"-({[<").find(point) != std::u32string_view::npos) {
      flush();
      append_utf8(text, point);
    } else {
      word += point;
    }
  }
  flush();
  return text;
}

Value truncated(const Value& value, const Arguments& arguments) {
  const Bound given("truncate", arguments, {"length", "killwords", "end", "leeway"});
  const std::string end = given.text(2, "...");
  const std::int64_t length = given.integer(0, 255);
  const auto ending = static_cast<std::int64_t>(count_code_points(end));
  if (length < ending) fail("truncate: expected length >= {}, got {}", ending, length);
  const std::u32string points = code_points(soft_text(value));
  if (std::ssize(points) <= length + given.integer(3, 5)) return to_utf8(points);
  std::u32string kept = points.substr(0, static_cast<std::size_t>(length - ending));
  if (!given.flag(1, false)) kept = kept.substr(0, kept.rfind(U' '));
  return to_utf8(kept) + end;
}

Value word_count(const Value& value, const Arguments& arguments) {
  const Bound none("wordcount", arguments, {});
  std::int64_t words = 0;
  bool inside = false;
  for (const char32_t point : code_points(soft_text(value))) {
    const bool word = point == '_' || is_alphanumeric(point);
    if (word && !inside) ++words;
    inside = word;
  }
  return words;
}

Value formatted(const Value& value, const Arguments& arguments) {
  if (!arguments.positional.empty() && !arguments.keywords.empty()) {
    fail("can't handle positional and keyword arguments at the same time");
  }
  if (arguments.keywords.empty()) return percent_format(soft_text(value), Value::tuple(arguments.positional));
  Dict names;
  for (const auto& [name, entry] : arguments.keywords) names.set(name, entry);
  return percent_format(soft_text(value), names);
}

Value json(const Value& value, const Arguments& arguments) {
  const Bound given("tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style{.ascii = given.flag(0, false), .sort_keys = given.flag(3, false)};
  if (const Value* indent = given.find(1); indent != nullptr && !indent->is<None>()) {
    const auto width = indent->integer();
    if (!width && indent->text() == nullptr) fail("tojson: an indent that is a {}", type_of(*indent));
    if (width && *width > 1 << 10) fail("tojson: an indent of {} is not supported", *width);
    style.indent =
        width ? std::string(static_cast<std::size_t>(std::max<std::int64_t>(*width, 0)), ' ') : *indent->text();
    style.item_separator = ",";
  }
  if (const Value* separators = given.find(2); separators != nullptr && !separators->is<None>()) {
    const Items pair = elements_of(*separators);
    if (pair.size() != 2) fail("tojson: separators are two texts");
    style.item_separator = to_string(pair[0]);
    style.key_separator = to_string(pair[1]);
  }
  return to_json(value, style);
}

}  // namespace grist::text::jinja
