// The answers of batch inference: JSON Lines that a later start goes on with.
#pragma once

#include "prompt_file.hpp"

#include <chrono>
#include <string>
#include <vector>

namespace grist::cli {

/// A file that is appended to, a line for each answer as soon as it is known. A line that a start did not finish is cut
/// off by the next one. Only one start writes it at a time.
class AnswerFile {
public:
  /// Opens or makes it; what is in it stays as it is. Throws InputError where it cannot be written or is being
  /// written by another start.
  explicit AnswerFile(std::string file);
  ~AnswerFile();
  AnswerFile(const AnswerFile&) = delete;
  AnswerFile& operator=(const AnswerFile&) = delete;

  /// Takes the prompts out that have an answer, and cuts a line off that is not whole. Throws InputError naming the
  /// line where the file holds something else, or answers that are none to these prompts: of an unknown id, of other
  /// tokens, of other settings, or there twice. Then nothing is cut off.
  std::vector<PromptLine> without_answered(std::vector<PromptLine> prompts);

  /// Whether without_answered() cut a line off.
  [[nodiscard]] bool cut_off() const { return cut_off_; }

  /// One answer, on one line, which a kill of the program cannot take back; a crash of the machine those of the last
  /// seconds. Throws InternalError where it cannot be written.
  void append(const std::string& line);

private:
  std::string file_;
  int descriptor_;
  bool cut_off_ = false;
  std::chrono::steady_clock::time_point synced_ = std::chrono::steady_clock::now();
};

}  // namespace grist::cli
