// Unicode: code points, their classes and cases, as Python and Rust see them (libunistring).
#pragma once

#include <string>
#include <string_view>

namespace grist::text {

/// The code points of valid UTF-8.
std::u32string code_points(std::string_view text);
std::string to_utf8(std::u32string_view points);
void append_utf8(std::string& text, char32_t point);

/// The number of code points of valid UTF-8.
std::size_t count_code_points(std::string_view text);

// Full case mappings, of no particular language: one code point may become several.
std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
std::string to_fold(std::string_view text);
std::string to_title(char32_t point);

bool is_space(char32_t point);         // as Python's str.isspace
bool is_white_space(char32_t point);   // Unicode's White_Space, Rust's char::is_whitespace
bool is_alphabetic(char32_t point);    // general category L, Python's str.isalpha
bool is_alphanumeric(char32_t point);  // Python's str.isalnum
bool is_word(char32_t point);          // Rust's \w
bool is_decimal(char32_t point);
bool is_digit(char32_t point);
bool is_numeric(char32_t point);
bool is_upper(char32_t point);
bool is_lower(char32_t point);
bool is_cased(char32_t point);
bool is_printable(char32_t point);    // Python's str.isprintable
bool is_punctuation(char32_t point);  // general category P
bool is_mark(char32_t point);         // general category M
bool is_nonspacing_mark(char32_t point);
bool is_other(char32_t point);  // general category C: control, format, unassigned, private

}  // namespace grist::text
