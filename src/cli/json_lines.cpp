#include "json_lines.hpp"

#include <grist/core/errors.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace grist::cli {

JsonLines::JsonLines(const std::string& file)
    : file_(file),
      descriptor_(file.empty() ? STDOUT_FILENO : open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) throw InputError("{}: cannot be written: {}", file, std::strerror(errno));
}

JsonLines::~JsonLines() {
  if (!file_.empty()) close(descriptor_);
}

void JsonLines::write(const nlohmann::ordered_json& value) {
  const std::string line = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + '\n';
  for (std::size_t done = 0; done < line.size();) {
    const auto written = ::write(descriptor_, line.data() + done, line.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && file_.empty()) throw InternalError("stdout: not all could be written: {}", std::strerror(errno));
    if (written < 0) throw InternalError("{}: cannot be written: {}", file_, std::strerror(errno));
    done += static_cast<std::size_t>(written);
  }
}

}  // namespace grist::cli
