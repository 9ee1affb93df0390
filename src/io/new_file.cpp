#include <grist/io/new_file.hpp>

#include <grist/core/errors.hpp>
#include <grist/io/write_all.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

namespace grist::io {

NewFile::NewFile(const std::filesystem::path& file)
    : file_(file),
      partial_(file.string() + ".partial"),
      descriptor_(::open(partial_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) throw InputError("{}: cannot be made: {}", partial_.string(), std::strerror(errno));
}

NewFile::~NewFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!partial_.empty()) ::unlink(partial_.c_str());
}

void NewFile::write(const void* data, std::size_t bytes) {
  if (!write_all(descriptor_, data, bytes))
    throw InputError("{}: cannot be written: {}", partial_.string(), std::strerror(errno));
  size_ += static_cast<std::uint64_t>(bytes);
}

void NewFile::close() {
  const auto check = [this](int status) {
    if (status != 0) throw InputError("{}: cannot be written: {}", file_.string(), std::strerror(errno));
  };
  check(::fsync(descriptor_));
  check(::close(std::exchange(descriptor_, -1)));  // a network file system may report its errors only here
  check(std::rename(partial_.c_str(), file_.c_str()));
  partial_.clear();
}

}  // namespace grist::io
