// How vocabularies write bytes: GPT-2's alphabet of printable stand-ins, and SentencePiece's <0x0A>.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace grist::text {

/// GPT-2's printable stand-ins for the 256 bytes, in UTF-8.
const std::array<std::string, 256>& byte_alphabet();

std::string to_byte_alphabet(std::string_view bytes);
/// The bytes of a text in the alphabet; nothing where a character is outside it.
std::optional<std::string> from_byte_alphabet(std::string_view text);

/// The byte that a piece such as <0x0A> stands for.
std::optional<std::uint8_t> byte_of_piece(std::string_view piece);

}  // namespace grist::text
