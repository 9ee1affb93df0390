// The documents of files and folders, as `grist tokenize --output` and `grist vocabulary` take them.
#pragma once

#include <grist/text/chat_template.hpp>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace grist::cli {

/// One document: a text, or a conversation.
struct Document {
  std::string text{};
  std::vector<text::Message> messages{};  // empty: it is a text
  std::string place{};                    // its file, of .jsonl files the line too, for errors
  std::uint64_t bytes_done = 0;           // of all files, with this document
};

/// A file is a document, a line of a .jsonl file is one: {"text": ...} or {"messages": [...]}. A folder means all files
/// below it, sorted.
class Documents {
public:
  /// Throws InputError for what is neither file nor folder, and for a folder without files. "-" is stdin.
  explicit Documents(const std::vector<std::string>& inputs);

  /// Of all files; stdin counts as none.
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  /// Names, sizes and times of change of the files, a line each.
  [[nodiscard]] std::string describe() const;

  /// Calls take(document) for the documents from number `first` on, until it returns false; then each() does too.
  /// Throws InputError naming the file, and the line.
  bool each(std::uint64_t first, const std::function<bool(const Document&)>& take);

private:
  struct File {
    std::string path;
    std::uint64_t bytes = 0;
    std::int64_t changed = 0;  // time, in the file system's own count
  };

  void add_file(const std::filesystem::path& path);
  void add_folder(const std::filesystem::path& folder);
  [[nodiscard]] Document of_line(const std::string& file, std::string_view line);

  std::vector<File> files_{};
  std::uint64_t bytes_ = 0;
  std::set<std::string> left_out_{};  // keys that were told of
};

}  // namespace grist::cli
