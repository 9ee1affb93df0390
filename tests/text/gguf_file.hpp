// GGUF files of metadata alone, made by tests.
#pragma once

#include <grist/io/gguf.hpp>
#include <support/files.hpp>

#include <cstdint>
#include <map>
#include <string>

namespace grist::test {

using Metadata = std::map<std::string, io::GgufValue, std::less<>>;

namespace detail {

inline std::string gguf_text(const std::string& text) { return bytes_of(std::uint64_t{text.size()}) + text; }

inline std::pair<std::uint32_t, std::string> gguf_value(const io::GgufValue& value) {
  const auto array = [](std::uint32_t type, const auto& items, auto write) {
    std::string bytes = bytes_of(type) + bytes_of(std::uint64_t{items.size()});
    for (const auto& item : items) bytes += write(item);
    return std::pair(std::uint32_t{9}, bytes);
  };
  if (const auto* flag = std::get_if<bool>(&value)) return {7, std::string(1, *flag ? '\1' : '\0')};
  if (const auto* number = std::get_if<std::int64_t>(&value)) return {11, bytes_of(*number)};
  if (const auto* number = std::get_if<double>(&value)) return {12, bytes_of(*number)};
  if (const auto* text = std::get_if<std::string>(&value)) return {8, gguf_text(*text)};
  if (const auto* numbers = std::get_if<std::vector<std::int64_t>>(&value))
    return array(11, *numbers, bytes_of<std::int64_t>);
  if (const auto* numbers = std::get_if<std::vector<double>>(&value)) return array(12, *numbers, bytes_of<double>);
  return array(8, std::get<std::vector<std::string>>(value), gguf_text);
}

}  // namespace detail

/// The bytes of a GGUF file, version 3, without tensors.
inline std::string gguf_bytes(const Metadata& metadata) {
  std::string bytes =
      "GGUF" + bytes_of(std::uint32_t{3}) + bytes_of(std::uint64_t{0}) + bytes_of(std::uint64_t{metadata.size()});
  for (const auto& [key, value] : metadata) {
    const auto [type, written] = detail::gguf_value(value);
    bytes += detail::gguf_text(key) + bytes_of(type) + written;
  }
  return bytes;
}

}  // namespace grist::test
