// GGUF, the file format of llama.cpp: typed metadata, tensor directory, tensors (versions 2 and 3, little endian).
#pragma once

#include <grist/io/weights.hpp>

#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace grist::io {

/// A metadata value: integers widened to 64 bits, floats to double.
using GgufValue = std::variant<bool, std::int64_t, double, std::string, std::vector<std::int64_t>, std::vector<double>,
                               std::vector<std::string>>;

/// A metadata key as it lies in the file: its value's bytes, type in front, which the file's mapping holds.
struct GgufEntry {
  std::string key;
  std::span<const std::byte> encoded;
};

struct Gguf {
  std::string path;
  std::map<std::string, GgufValue, std::less<>> metadata;
  std::vector<GgufEntry> entries;  // what `metadata` was read from, in the order of the first file
  Weights weights;

  /// A value of the given type; throws InputError naming file and key where it is absent or of another type. An int is
  /// accepted where a double is asked for, and where a number is asked for an array that repeats it (one per layer).
  template <class T>
  [[nodiscard]] T get(std::string_view key) const;
  template <class T>
  [[nodiscard]] T get_or(std::string_view key, T otherwise) const;
  /// The id of a token that a key names, -1 where there is none. Throws InputError where it is not below `count`.
  [[nodiscard]] int token_id(std::string_view key, std::int64_t count = std::numeric_limits<int>::max()) const;
};

/// Opens a GGUF file, or a model that was split into several by its first part (NAME-00001-of-00003.gguf), whose others
/// lie beside it. Throws InputError naming file, tensor or key, expected and found: wrong magic or version, truncated,
/// lengths that pass the file's end, unknown tensor type, offsets outside the file, parts that do not belong together.
Gguf open_gguf(const std::filesystem::path& file);

/// Whether a file is GGUF: by its first bytes, whatever its name (a cache's blob has none), or by its name, so that a
/// broken one is told as such.
bool is_gguf(const std::filesystem::path& file);

/// The GGUF file that a user means by a path: the only one of a folder without config.json; else the path as it is.
/// Throws InputError where such a folder holds several.
std::filesystem::path gguf_file_of(const std::filesystem::path& model);

/// The files that a GGUF model is read from: the one given, and of NAME-00001-of-00003.gguf the others too.
std::vector<std::filesystem::path> gguf_parts(const std::filesystem::path& first);

}  // namespace grist::io
