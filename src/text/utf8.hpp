// UTF-8, one character at a time.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace grist::text {

enum class Utf8 { valid, ill_formed, cut_off };

struct Utf8Step {
  Utf8 kind;
  std::size_t length;
};

inline constexpr std::string_view replacement_character = "\xEF\xBF\xBD";

/// What the first character of a text is, and its bytes; of an ill-formed or cut-off one the bytes that a single U+FFFD
/// replaces (the maximal subpart, as Unicode recommends). The text is not empty.
inline Utf8Step first_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {Utf8::valid, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Utf8::ill_formed, 1};
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;   // shorter forms exist below
  unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;  // surrogates, and what passes U+10FFFF, above
  for (std::size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {Utf8::cut_off, i};
    if (byte(i) < low || byte(i) > high) return {Utf8::ill_formed, i};
    low = 0x80;
    high = 0xBF;
  }
  return {Utf8::valid, length};
}

/// The offset of the first byte that is not UTF-8, if there is one.
inline std::optional<std::size_t> find_invalid_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const auto [kind, length] = first_character(text.substr(at));
    if (kind != Utf8::valid) return at;
    at += length;
  }
  return std::nullopt;
}

}  // namespace grist::text
