// Files for tests: where they lie, whole files as bytes, and a folder that goes away.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

namespace grist::test {

inline std::filesystem::path data_file(std::string_view name) { return std::filesystem::path(GRIST_TEST_DATA) / name; }
/// Larger data that a test skips where it is absent.
inline std::filesystem::path shared_file(std::string_view name) {
  return std::filesystem::path(GRIST_SHARED_DATA) / name;
}
inline std::filesystem::path smollm2_file() {
  return std::filesystem::path(GRIST_MODELS_DIR) / "SmolLM2-135M-Instruct.Q4_1.gguf";
}
inline std::filesystem::path smollm2_folder() {
  return std::filesystem::path(GRIST_MODELS_DIR) / "SmolLM2-135M-Instruct";
}

inline std::string contents_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + file.string());
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_file(const std::filesystem::path& file, std::string_view bytes) {
  std::ofstream out(file, std::ios::binary);
  out << bytes;
  if (!out.flush()) throw std::runtime_error("cannot write " + file.string());
}

inline std::vector<float> floats_of(const std::filesystem::path& file) {
  const std::string bytes = contents_of(file);
  std::vector<float> floats(bytes.size() / sizeof(float));
  std::memcpy(floats.data(), bytes.data(), floats.size() * sizeof(float));
  return floats;
}

/// The bytes of a number as it lies in a little-endian file.
template <class T>
std::string bytes_of(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof(T)};
}

/// An empty folder of this test alone.
class TemporaryFolder {
public:
  TemporaryFolder() {
    std::string name = testing::TempDir() + "grist_XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make " + name);
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
  /// Writes a file and returns where it lies.
  std::filesystem::path write(std::string_view name, std::string_view bytes) const {
    write_file(path_ / name, bytes);
    return path_ / name;
  }

private:
  std::filesystem::path path_;
};

}  // namespace grist::test
