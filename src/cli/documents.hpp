// The documents of files and folders, as `grist tokenize --output` takes them.
#pragma once

#include <grist/text/tokenizer.hpp>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace grist::cli {

/// One document as tokens.
struct DocumentTokens {
  std::vector<int> ids{};
  std::vector<char> trained{};   // for each id; empty: all are
  std::uint64_t bytes_done = 0;  // of all files, with this document
};

/// A file is a document, a line of a .jsonl file is one: {"text": ...}, or {"messages": [...]} which the model's chat
/// template writes and of which the assistant's answers are trained on. A folder means all files below it, sorted.
class Documents {
public:
  /// Throws InputError for what is neither file nor folder, and for a folder without files. "-" is stdin.
  Documents(const std::vector<std::string>& inputs, const text::Tokenizer& tokenizer, bool add_special);

  /// Of all files; stdin counts as none.
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  /// A hash of names, sizes and times of change of the files, and of the template and options that count.
  [[nodiscard]] std::uint64_t sources() const;

  /// Calls take(document) for the documents from number `first` on, until it returns false; then each() does too.
  /// Throws InputError naming the file, and the line.
  bool each(std::uint64_t first, const std::function<bool(const DocumentTokens&)>& take);

private:
  struct File {
    std::string path;
    std::uint64_t bytes = 0;
    std::int64_t changed = 0;  // time, in the file system's own count
  };

  void add_file(const std::filesystem::path& path);
  void add_folder(const std::filesystem::path& folder);
  [[nodiscard]] DocumentTokens of_line(const std::string& file, std::string_view line);

  const text::Tokenizer& tokenizer_;
  bool add_special_;
  std::vector<File> files_{};
  std::uint64_t bytes_ = 0;
  std::set<std::string> left_out_{};  // keys that were told of
};

}  // namespace grist::cli
