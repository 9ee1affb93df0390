#include <grist/text/unicode.hpp>

#include <grist/core/errors.hpp>

#include <unicase.h>
#include <unictype.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>

namespace grist::text {
namespace {

bool in_category(char32_t point, uc_general_category_t category) { return uc_is_general_category(point, category); }

template <class Mapping>
std::string mapped(std::string_view text, Mapping mapping) {
  std::size_t length = 0;
  const std::unique_ptr<std::uint8_t, decltype(&std::free)> result(
      mapping(reinterpret_cast<const std::uint8_t*>(text.data()), text.size(), nullptr, nullptr, nullptr, &length),
      &std::free);
  if (!result && !text.empty()) throw MemoryError("no memory to change the case of {} bytes of text", text.size());
  return {reinterpret_cast<const char*>(result.get()), length};
}

bool is_ascii(std::string_view text) {
  return std::ranges::all_of(text, [](unsigned char byte) { return byte < 0x80; });
}

}  // namespace

std::u32string code_points(std::string_view text) {
  std::u32string points;
  points.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = [&](std::size_t k) { return static_cast<unsigned char>(text[i + k]); };
    const unsigned lead = byte(0);
    const std::size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    char32_t point = length == 1 ? lead : lead & (0x7FU >> length);
    for (std::size_t k = 1; k < length && i + k < text.size(); ++k) point = point << 6 | (byte(k) & 0x3FU);
    points += point;
    i += length;
  }
  return points;
}

void append_utf8(std::string& text, char32_t point) {
  const auto tail = [&](int shift) { text += static_cast<char>(0x80 | (point >> shift & 0x3F)); };
  if (point < 0x80) {
    text += static_cast<char>(point);
  } else if (point < 0x800) {
    text += static_cast<char>(0xC0 | point >> 6);
    tail(0);
  } else if (point < 0x10000) {
    text += static_cast<char>(0xE0 | point >> 12);
    tail(6);
    tail(0);
  } else {
    text += static_cast<char>(0xF0 | point >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

std::string to_utf8(std::u32string_view points) {
  std::string text;
  text.reserve(points.size());
  for (const char32_t point : points) append_utf8(text, point);
  return text;
}

std::size_t count_code_points(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(text, [](char byte) { return (byte & 0xC0) != 0x80; }));
}

std::string to_upper(std::string_view text) { return mapped(text, u8_toupper); }

std::string to_lower(std::string_view text) {
  if (!is_ascii(text)) return mapped(text, u8_tolower);
  std::string result(text);
  for (char& c : result) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return result;
}

std::string to_fold(std::string_view text) { return mapped(text, u8_casefold); }

std::string to_title(char32_t point) { return mapped(to_utf8({&point, 1}), u8_totitle); }

bool is_space(char32_t point) { return is_white_space(point) || (point >= 0x1C && point <= 0x1F); }

bool is_white_space(char32_t point) {
  if (point < 0x80) return point == ' ' || (point >= 9 && point <= 13);
  return uc_is_property_white_space(point);
}

bool is_alphabetic(char32_t point) { return in_category(point, UC_LETTER); }
bool is_word(char32_t point) {
  return uc_is_property_alphabetic(point) || is_mark(point) || is_decimal(point) ||
         in_category(point, UC_CONNECTOR_PUNCTUATION) || point == 0x200C || point == 0x200D;
}
bool is_decimal(char32_t point) { return in_category(point, UC_DECIMAL_DIGIT_NUMBER); }
bool is_digit(char32_t point) { return uc_digit_value(point) >= 0; }
bool is_numeric(char32_t point) { return uc_numeric_value(point).denominator != 0; }
bool is_alphanumeric(char32_t point) { return is_alphabetic(point) || is_digit(point) || is_numeric(point); }
bool is_upper(char32_t point) { return uc_is_property_uppercase(point); }
bool is_lower(char32_t point) { return uc_is_property_lowercase(point); }
bool is_cased(char32_t point) { return is_upper(point) || is_lower(point) || in_category(point, UC_TITLECASE_LETTER); }
bool is_printable(char32_t point) {
  return point == ' ' || !(in_category(point, UC_OTHER) || in_category(point, UC_SEPARATOR));
}
bool is_punctuation(char32_t point) { return in_category(point, UC_PUNCTUATION); }
bool is_mark(char32_t point) { return in_category(point, UC_MARK); }
bool is_nonspacing_mark(char32_t point) { return in_category(point, UC_NON_SPACING_MARK); }
bool is_other(char32_t point) { return in_category(point, UC_OTHER); }

}  // namespace grist::text
