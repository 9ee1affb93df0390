// A file is written whole or not: what the system takes in parts is one call here.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <cstddef>

namespace grist::io {

/// Writes all bytes, a signal or not. False, with errno, where the system takes no more.
inline bool write_all(int descriptor, const void* data, std::size_t bytes) {
  const auto* from = static_cast<const std::byte*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(descriptor, from, bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    from += written;
    bytes -= static_cast<std::size_t>(written);
  }
  return true;
}

}  // namespace grist::io
