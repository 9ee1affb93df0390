// The answers of batch inference: JSON Lines that a later start goes on with.
#pragma once

#include "prompt_file.hpp"

#include <memory>

namespace grist::cli {

/// A file that is appended to, a line for each answer as soon as it is known. A line that a start did not finish is cut
/// off by the next one. Only one start writes it at a time.
class AnswerFile {
public:
  /// Opens or makes it. Throws InputError where it cannot be written or another start is writing it.
  explicit AnswerFile(std::string file);
  ~AnswerFile();
  AnswerFile(const AnswerFile&) = delete;
  AnswerFile& operator=(const AnswerFile&) = delete;

  /// Takes the prompts out that have an answer. Throws InputError naming the line where an answer is none to these
  /// prompts: of an unknown id, of other tokens, or there twice.
  std::vector<PromptLine> without_answered(std::vector<PromptLine> prompts) const;

  /// One answer, on one line. Throws InternalError where it cannot be written.
  void append(const std::string& line);

private:
  std::string file_;
  int descriptor_;
};

}  // namespace grist::cli
