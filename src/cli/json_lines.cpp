#include "json_lines.hpp"

#include "texts.hpp"

#include <grist/core/errors.hpp>
#include <grist/io/write_all.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <format>
#include <set>

namespace grist::cli {
namespace {

text::Message message_of(const nlohmann::json& value, std::size_t number) {
  const std::string name = std::format("messages[{}]", number);
  if (!value.is_object()) throw InputError("{} is a JSON {}, expected an object", name, value.type_name());
  for (const auto& [key, of_key] : value.items()) {
    if (key != "role" && key != "content" && !of_key.is_null())
      throw InputError("{} has the key '{}', which is not understood: role and content are", name, key);
  }
  const auto entry = [&](const char* key) {
    const auto found = value.find(key);
    if (found == value.end()) throw InputError("{} has no '{}'", name, key);
    return string_of(*found, std::format("{}: {}", name, key));
  };
  return {entry("role"), entry("content")};
}

}  // namespace

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
  using nlohmann::json;
  json object;
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto once = [&](int, json::parse_event_t event, const json& parsed) {
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second)
      throw InputError("the key '{}' is there twice", parsed.get<std::string>());
    return true;
  };
  try {
    object = json::parse(line, once);
  } catch (const nlohmann::json::exception& error) {
    throw InputError("not valid JSON: {}", std::string_view(error.what()).substr(0, 200));
  }
  if (!object.is_object()) throw InputError("is a JSON {}, expected an object", object.type_name());
  return object;
}

void each_json_line(const std::string& file, const std::function<bool(nlohmann::json& object, Index number)>& f) {
  const std::string text = read_text(file);
  Index number = 1;
  for (std::size_t begin = 0, end = 0; begin < text.size(); begin = end + 1, ++number) {
    end = std::min(text.find('\n', begin), text.size());
    const auto line = std::string_view(text).substr(begin, end - begin);
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    try {
      nlohmann::json object = json_object(line);
      if (!f(object, number)) return;
    } catch (const Error& error) {
      throw InputError("{}, line {}: {}", file == "-" ? "stdin" : file, number, error.what());
    }
  }
}

const std::string& string_of(const nlohmann::json& value, std::string_view what) {
  if (!value.is_string()) throw InputError("{} is a JSON {}, expected a string", what, value.type_name());
  return value.get_ref<const std::string&>();
}

std::vector<text::Message> messages_of(const nlohmann::json& list) {
  if (!list.is_array() || list.empty())
    throw InputError("messages is {}, expected a list of {{\"role\": \"...\", \"content\": \"...\"}}",
                     list.is_array() ? "an empty list" : std::string("a JSON ") + list.type_name());
  std::vector<text::Message> messages;
  for (const auto& value : list) messages.push_back(message_of(value, messages.size()));
  return messages;
}

}  // namespace grist::cli
