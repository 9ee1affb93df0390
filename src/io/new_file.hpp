// A file that is there whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>

namespace grist::io {

/// Written beside as FILE.partial, synced and renamed by close(); without close() nothing stays. Throws InputError
/// naming the file and the system's reason.
class NewFile {
public:
  explicit NewFile(const std::filesystem::path& file);
  ~NewFile();
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  [[nodiscard]] std::string path() const { return file_.string(); }
  [[nodiscard]] std::uint64_t size() const { return size_; }  // bytes written
  void write(const void* data, std::size_t bytes);
  void close();

private:
  std::filesystem::path file_;
  std::filesystem::path partial_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

}  // namespace grist::io
