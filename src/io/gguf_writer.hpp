// Writes GGUF files (version 3, little endian).
#pragma once

#include <grist/core/format.hpp>
#include <grist/core/view.hpp>
#include <grist/io/new_file.hpp>

#include <cstdint>
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace grist::io {

/// All metadata and the list of tensors first, then the tensors' bytes, piece by piece in the order of the list. The
/// file appears under its name only when close() succeeded. Throws InputError (cannot write: disk full, no permission),
/// and InternalError where a key or a tensor is named twice or bytes are too many or too few.
class GgufWriter {
public:
  explicit GgufWriter(const std::filesystem::path& file) : file_(file) {}

  /// T is bool, std::uint32_t, float, std::string, or a std::vector of std::int32_t, float or std::string.
  template <class T>
  void set(std::string_view key, const T& value);
  /// A value's bytes as another file holds them, type in front (GgufEntry).
  void set_encoded(std::string_view key, std::span<const std::byte> value);
  [[nodiscard]] bool has(std::string_view key) const { return keys_.contains(key); }

  /// `shape` is in row-major order, its rows are whole blocks.
  void add_tensor(std::string_view name, Format format, const std::vector<Index>& shape);

  /// The next bytes of the tensors. The first call ends metadata and list.
  void write(const void* data, std::size_t bytes);
  void close();

private:
  struct Tensor {
    std::uint64_t begin, end;  // from the data's start
  };
  void begin_key(std::string_view key);
  void put(const void* data, std::size_t bytes) { put_into(metadata_, data, bytes); }
  void put_string(std::string_view text);
  template <class T>
  void put_number(T value) {
    put(&value, sizeof(T));
  }
  template <class T>
  void put_value(const T& value);
  static void put_into(std::string& bytes, const void* data, std::size_t count) {
    bytes.append(static_cast<const char*>(data), count);
  }
  void begin_data();
  void pad_to(std::uint64_t offset);  // from the data's start

  NewFile file_;
  std::string metadata_, directory_;
  std::set<std::string, std::less<>> keys_, names_;
  std::vector<Tensor> tensors_;
  std::size_t current_ = 0;      // the tensor that bytes go to
  std::uint64_t data_start_ = 0;  // 0: data have not begun
};

}  // namespace grist::io
