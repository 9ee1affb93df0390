// Files for tests: a folder that goes away, whole files as bytes, and what a refusal must look like.
#pragma once

#include <grist/core/errors.hpp>

#include <gmock/gmock.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

namespace grist::test {

inline std::filesystem::path data_folder() { return GRIST_TEST_DATA; }

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

private:
  std::filesystem::path path_;
};

/// Matches a call that throws an Error of one line that holds all these words.
template <class Exception = InputError>
auto Refuses(const std::vector<std::string>& words) {
  std::vector<testing::Matcher<std::string>> parts = {testing::Not(testing::HasSubstr("\n"))};
  for (const std::string& word : words) parts.emplace_back(testing::HasSubstr(word));
  return testing::ThrowsMessage<Exception>(testing::AllOfArray(parts));
}

}  // namespace grist::test
