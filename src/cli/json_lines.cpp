#include "json_lines.hpp"

#include <grist/core/errors.hpp>
#include <grist/io/write_all.hpp>

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
  if (io::write_all(descriptor_, line.data(), line.size())) return;
  if (file_.empty()) throw InternalError("stdout: not all could be written: {}", std::strerror(errno));
  throw InternalError("{}: cannot be written: {}", file_, std::strerror(errno));
}

nlohmann::json json_object(std::string_view line) {
  nlohmann::json object;
  try {
    object = nlohmann::json::parse(line);
  } catch (const nlohmann::json::exception& error) {
    throw InputError("not valid JSON: {}", std::string_view(error.what()).substr(0, 200));
  }
  if (!object.is_object()) throw InputError("is a JSON {}, expected an object", object.type_name());
  return object;
}

}  // namespace grist::cli
