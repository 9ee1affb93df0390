// GGUF, the file format of llama.cpp: typed metadata, tensor directory, tensors (versions 2 and 3, little endian).
#pragma once

#include <grist/io/weights.hpp>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace grist::io {

/// A metadata value: integers widened to 64 bits, floats to double.
using GgufValue = std::variant<bool, std::int64_t, double, std::string, std::vector<std::int64_t>, std::vector<double>,
                               std::vector<std::string>>;

struct Gguf {
  std::string path;
  std::map<std::string, GgufValue, std::less<>> metadata;
  Weights weights;

  /// A value of the given type; throws InputError naming file and key where it is absent or of another type. An int is
  /// accepted where a double is asked for.
  template <class T>
  [[nodiscard]] T get(std::string_view key) const;
  template <class T>
  [[nodiscard]] T get_or(std::string_view key, T otherwise) const;
};

/// Opens a GGUF file. Throws InputError naming file, tensor or key, expected and found: wrong magic or version,
/// truncated, lengths that pass the file's end, unknown tensor type, offsets outside the file.
Gguf open_gguf(const std::filesystem::path& file);

}  // namespace grist::io
