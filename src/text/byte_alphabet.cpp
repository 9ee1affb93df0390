#include <grist/text/byte_alphabet.hpp>

#include <grist/text/string_map.hpp>
#include <grist/text/unicode.hpp>
#include <grist/text/utf8.hpp>

#include <charconv>

namespace grist::text {

const std::array<std::string, 256>& byte_alphabet() {
  static const auto alphabet = [] {
    std::array<std::string, 256> result;
    char32_t next = 256;
    for (unsigned b = 0; b < 256; ++b) {
      const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      append_utf8(result[b], printable ? static_cast<char32_t>(b) : next++);
    }
    return result;
  }();
  return alphabet;
}

std::string to_byte_alphabet(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) text += byte_alphabet()[static_cast<unsigned char>(byte)];
  return text;
}

std::optional<std::string> from_byte_alphabet(std::string_view text) {
  static const StringMap<char> bytes = [] {
    StringMap<char> map;
    for (unsigned b = 0; b < 256; ++b) map.emplace(byte_alphabet()[b], static_cast<char>(b));
    return map;
  }();
  std::string result;
  while (!text.empty()) {
    const std::size_t length = first_character(text).length;
    const auto found = bytes.find(text.substr(0, length));
    if (found == bytes.end()) return std::nullopt;
    result += found->second;
    text.remove_prefix(length);
  }
  return result;
}

std::optional<std::uint8_t> byte_of_piece(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || !piece.ends_with('>')) return std::nullopt;
  std::uint8_t byte = 0;
  const char* const end = piece.data() + 5;
  if (const auto [stop, error] = std::from_chars(piece.data() + 3, end, byte, 16);
      error != std::errc{} || stop != end) {
    return std::nullopt;
  }
  return byte;
}

}  // namespace grist::text
