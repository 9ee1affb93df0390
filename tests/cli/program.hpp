// Runs the program as a user does and keeps what it says.
#pragma once

#include <string>
#include <vector>

namespace grist::test {

struct Outcome {
  int code = -1;  // exit code; 128 + signal where a signal ended it; 124 where it did not end by itself
  std::string out;
  std::string err;
};

/// A command of words, with `input` on its stdin. What it started is killed after `seconds`.
Outcome run_command(const std::vector<std::string>& words, const std::string& input = "", int seconds = 60);

/// `grist ARGUMENTS`, on so many ranks.
Outcome grist(const std::vector<std::string>& arguments, int ranks = 1, const std::string& input = "");

/// An empty folder of its own for a test, removed at the end.
class Folder {
public:
  Folder();
  ~Folder();
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }
  /// Writes a file and returns its path.
  std::string write(const std::string& name, const std::string& text) const;

private:
  std::string path_;
};

}  // namespace grist::test
