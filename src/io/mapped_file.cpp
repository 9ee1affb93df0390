#include <grist/io/mapped_file.hpp>

#include <grist/core/errors.hpp>

#include <cerrno>
#include <cstring>
#include <string_view>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace grist::io {

MappedFile::MappedFile(const std::filesystem::path& file) : path_(file.string()) {
  const int descriptor = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe must not block us
  if (descriptor < 0) throw InputError("{}: cannot be opened: {}", path_, std::strerror(errno));
  struct stat status {};
  const bool known = ::fstat(descriptor, &status) == 0;
  const bool regular = known && S_ISREG(status.st_mode);
  void* mapping = nullptr;
  if (regular && status.st_size > 0) {
    mapping = ::mmap(nullptr, static_cast<std::size_t>(status.st_size), PROT_READ, MAP_SHARED, descriptor, 0);
  }
  const int error = errno;
  ::close(descriptor);
  if (known && !regular) throw InputError("{}: is not a regular file", path_);
  if (!known || mapping == MAP_FAILED) throw InputError("{}: cannot be mapped: {}", path_, std::strerror(error));
  size_ = static_cast<std::uint64_t>(status.st_size);
  data_ = static_cast<const std::byte*>(mapping);
  constexpr std::string_view pointer = "version https://git-lfs.github.com/spec/";
  if (size_ >= pointer.size() && std::memcmp(data_, pointer.data(), pointer.size()) == 0) {
    ::munmap(mapping, size_);
    throw InputError("{}: is a Git LFS pointer, not the file itself: get it with git lfs pull, or download it again",
                     path_);
  }
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::will_read(std::uint64_t offset, std::uint64_t bytes) const noexcept {
  advise(offset, bytes, MADV_WILLNEED);
}
void MappedFile::populate(std::uint64_t offset, std::uint64_t bytes) const {
#ifdef MADV_POPULATE_READ  // Linux 5.14; elsewhere pages come when they are read
  if (advise(offset, bytes, MADV_POPULATE_READ) != 0 && (errno == EIO || errno == EFAULT))
    throw InputError("{}: {} bytes from byte {} cannot be read: {}", path_, bytes, offset, std::strerror(errno));
#endif
}
void MappedFile::release(std::uint64_t offset, std::uint64_t bytes) const noexcept {
  advise(offset, bytes, MADV_DONTNEED);
}

int MappedFile::advise(std::uint64_t offset, std::uint64_t bytes, int advice) const noexcept {
  static const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const std::uint64_t first = offset / page * page;
  // Where it fails, reading is slower or memory is kept, and all is right still.
  return bytes > 0 ? ::madvise(const_cast<std::byte*>(data_ + first), offset + bytes - first, advice) : 0;
}

}  // namespace grist::io
