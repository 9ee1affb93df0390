// A file as read-only memory.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>

namespace grist::io {

static_assert(std::endian::native == std::endian::little, "the files are little endian and are read as they lie");

/// Maps a whole regular file; throws InputError naming it and the system's reason, and where a clone without Git LFS
/// left a pointer in the file's place. The file must not shrink while mapped.
class MappedFile {
public:
  explicit MappedFile(const std::filesystem::path& file);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::uint64_t size() const { return size_; }
  [[nodiscard]] const std::byte* data() const { return data_; }  // null for an empty file

  /// Tells the system that these bytes will be read soon, so that it reads ahead of several threads at once.
  void will_read(std::uint64_t offset, std::uint64_t bytes) const noexcept;
  /// Brings these bytes into memory. Throws InputError where the file cannot be read.
  void populate(std::uint64_t offset, std::uint64_t bytes) const;
  /// Tells it that they will not: their pages no longer count as this process' memory. Reading them again is slower,
  /// and right.
  void release(std::uint64_t offset, std::uint64_t bytes) const noexcept;

private:
  int advise(std::uint64_t offset, std::uint64_t bytes, int advice) const noexcept;

  std::string path_;
  std::uint64_t size_ = 0;
  const std::byte* data_ = nullptr;
};

/// A number at any address: files promise no alignment.
template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

}  // namespace grist::io
