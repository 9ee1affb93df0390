#include "documents.hpp"

#include "json_lines.hpp"
#include "runtime.hpp"
#include "texts.hpp"

#include <grist/core/errors.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <format>
#include <fstream>

namespace grist::cli {
Documents::Documents(const std::vector<std::string>& inputs) {
  for (const std::string& input : inputs) {
    if (input == "-")
      files_.push_back({.path = input});
    else if (std::filesystem::is_directory(input))
      add_folder(input);
    else
      add_file(input);
  }
  for (const File& file : files_) bytes_ += file.bytes;
}

void Documents::add_file(const std::filesystem::path& path) {
  std::error_code error;
  const auto bytes = std::filesystem::file_size(path, error);
  const auto changed = error ? std::filesystem::file_time_type() : std::filesystem::last_write_time(path, error);
  if (error) throw InputError("{}: cannot be read: {}", path.string(), error.message());
  files_.push_back({path.string(), bytes, changed.time_since_epoch().count()});
}

void Documents::add_folder(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> found;
  try {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
      if (entry.is_regular_file()) found.push_back(entry.path());
  } catch (const std::filesystem::filesystem_error& error) {
    throw InputError("{}: cannot be read: {}", error.path1().string(), error.code().message());
  }
  if (found.empty()) throw InputError("{}: holds no files", folder.string());
  std::ranges::sort(found);
  for (const auto& path : found) add_file(path);
}

std::string Documents::describe() const {
  std::string all;
  for (const auto& [path, bytes, changed] : files_) all += std::format("{}\n{} {}\n", path, bytes, changed);
  return all;
}

bool Documents::each(std::uint64_t first, const std::function<bool(const Document&)>& take) {
  std::uint64_t number = 0, done = 0;
  for (const auto& [path, bytes, changed] : files_) {
    if (!path.ends_with(".jsonl")) {
      if (number++ >= first && !take({.text = read_text(path), .place = path, .bytes_done = done + bytes}))
        return false;
      done += bytes;
      continue;
    }
    std::ifstream in(path, std::ios::binary);
    if (!in) throw InputError("{}: cannot be opened: {}", path, std::strerror(errno));
    std::uint64_t read = 0, lines = 0;
    for (std::string line; std::getline(in, line);) {
      ++lines;
      read = std::min(read + line.size() + 1, bytes);
      if (lines == 1 && line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);
      if (line.find_first_not_of(" \t\r") == std::string::npos || number++ < first) continue;
      const std::string place = std::format("{}, line {}", path, lines);
      Document document;
      try {
        document = of_line(path, line);
      } catch (const Error& error) {
        throw InputError("{}: {}", place, error.what());
      }
      document.place = place;
      document.bytes_done = done + read;
      if (!take(document)) return false;
    }
    if (in.bad()) throw InputError("{}: cannot be read", path);
    done += bytes;
  }
  return true;
}

Document Documents::of_line(const std::string& file, std::string_view line) {
  const nlohmann::json object = json_object(line);
  const bool text = object.contains("text"), messages = object.contains("messages");
  if (text == messages)
    throw InputError("has {}, expected one of them", text ? "text and messages" : "neither text nor messages");
  for (const auto& [key, value] : object.items()) {
    if ((key == "tools" || key == "functions" || key == "documents") && !value.empty())
      throw InputError("has {}, which are not understood", key);
    if (key != "text" && key != "messages" && left_out_.insert(key).second)
      note(std::format("{}: the key '{}' is left out", file, key));
  }
  if (text) return {.text = string_of(object["text"], "text")};
  return {.messages = messages_of(object["messages"])};
}

}  // namespace grist::cli
