#include "answer_file.hpp"

#include "runtime.hpp"

#include <grist/core/errors.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <format>
#include <fstream>
#include <map>

namespace grist::cli {
namespace {

/// Bytes up to the last newline.
off_t whole_lines(int descriptor, off_t size) {
  char block[4096];
  while (size > 0) {
    const off_t begin = std::max<off_t>(0, size - static_cast<off_t>(sizeof block));
    const auto count = pread(descriptor, block, static_cast<std::size_t>(size - begin), begin);
    if (count <= 0) return 0;
    for (auto i = count; i > 0; --i)
      if (block[i - 1] == '\n') return begin + i;
    size = begin;
  }
  return 0;
}

}  // namespace

AnswerFile::AnswerFile(std::string file)
    : file_(std::move(file)), descriptor_(open(file_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) throw InputError("{}: cannot be written: {}", file_, std::strerror(errno));
  struct stat status {};
  const bool known = fstat(descriptor_, &status) == 0;
  if (known && !S_ISREG(status.st_mode)) {
    close(descriptor_);
    throw InputError("{}: is no file that can be continued", file_);
  }
  // Some file systems have no locks: there nothing is known of others.
  if (flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    close(descriptor_);
    throw InputError("{}: another start of grist is writing it", file_);
  }
  const off_t whole = whole_lines(descriptor_, status.st_size);
  if (whole == status.st_size) return;
  if (ftruncate(descriptor_, whole) != 0) {
    const int error = errno;
    close(descriptor_);
    throw InputError("{}: its last line is not whole and cannot be cut off: {}", file_, std::strerror(error));
  }
  note(std::format("{}: its last line was not whole and is computed again", file_));
}

AnswerFile::~AnswerFile() { close(descriptor_); }

std::vector<PromptLine> AnswerFile::without_answered(std::vector<PromptLine> prompts) const {
  std::map<nlohmann::json, const PromptLine*> by_id;
  for (const auto& prompt : prompts) by_id[prompt.id] = &prompt;
  std::map<nlohmann::json, Index> answered;
  std::ifstream lines(file_);
  std::string text;
  for (Index number = 1; std::getline(lines, text); ++number) {
    const std::string place = std::format("{} line {}", file_, number);
    nlohmann::json answer;
    std::vector<int> ids;
    try {
      answer = nlohmann::json::parse(text);
      ids = answer.at("prompt_ids").get<std::vector<int>>();
      answer = answer.at("id");
    } catch (const nlohmann::json::exception&) {
      throw InputError("{}: no answer of `grist generate --prompts`; give --output another file, or remove it", place);
    }
    const auto prompt = by_id.find(answer);
    if (prompt == by_id.end())
      throw InputError("{}: answers id {}, which is not among the prompts; give --output another file", place,
                       answer.dump());
    if (prompt->second->request.prompt != ids)
      throw InputError("{}: the prompt of id {} had other tokens; give --output another file", place, answer.dump());
    if (const auto [before, first] = answered.emplace(answer, number); !first)
      throw InputError("{}: answers id {} as line {} does", place, answer.dump(), before->second);
  }
  std::erase_if(prompts, [&](const PromptLine& prompt) { return answered.contains(prompt.id); });
  return prompts;
}

void AnswerFile::append(const std::string& line) {
  const std::string whole = line + '\n';
  for (std::size_t done = 0; done < whole.size();) {
    const auto written = ::write(descriptor_, whole.data() + done, whole.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw InternalError("{}: cannot be written: {}", file_, std::strerror(errno));
    done += static_cast<std::size_t>(written);
  }
}

}  // namespace grist::cli
