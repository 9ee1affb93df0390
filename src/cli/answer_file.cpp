#include "answer_file.hpp"

#include <grist/core/errors.hpp>
#include <grist/io/write_all.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <format>
#include <fstream>
#include <map>
#include <string_view>

namespace grist::cli {
namespace {

/// Of an answer: to what it is one, and by what. Those before 2026-11-27 do not tell their settings.
struct Answer {
  nlohmann::json id;
  std::vector<int> prompt;
  std::string settings;
};

Answer answer_on(const std::string& line, const std::string& place) {
  try {
    const auto json = nlohmann::json::parse(line);
    if (json.at("new_ids").is_array() && json.at("finish").is_string() && json.at("text").is_string())
      return {json.at("id"), json.at("prompt_ids").get<std::vector<int>>(), json.value("settings", "")};
  } catch (const nlohmann::json::exception&) {
  }
  throw InputError("{}: no answer of `grist generate --prompts`; give --output another file, or remove it", place);
}

/// Whether an answer may begin so: nothing else is cut off.
bool begins_an_answer(const std::string& rest) {
  constexpr std::string_view begin = R"({"id":)", next = R"(,"prompt_ids":)";
  if (rest.size() <= begin.size()) return begin.starts_with(rest);
  if (!rest.starts_with(begin)) return false;
  auto end = begin.size();  // of the id: a string or an integer
  if (rest[end] == '"') {
    for (++end; end < rest.size() && rest[end] != '"'; ++end)
      if (rest[end] == '\\') ++end;
    ++end;
  } else {
    end = std::min(rest.find_first_not_of("-0123456789", end), rest.size());
  }
  return end >= rest.size() || next.substr(0, rest.size() - end) == std::string_view(rest).substr(end, next.size());
}

}  // namespace

AnswerFile::AnswerFile(std::string file)
    : file_(std::move(file)), descriptor_(open(file_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) {
  const auto refuse = [&](const std::string& why) {
    if (descriptor_ >= 0) close(descriptor_);
    throw InputError("{}: {}", file_, why);
  };
  if (descriptor_ < 0) refuse(std::format("cannot be written: {}", std::strerror(errno)));
  struct stat status {};
  if (fstat(descriptor_, &status) != 0) refuse(std::format("cannot be looked at: {}", std::strerror(errno)));
  if (!S_ISREG(status.st_mode)) refuse("is no file that can be continued");
  // Some file systems have no locks: there nothing is known of others.
  if (flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
    refuse("another start of grist is writing it");
}

AnswerFile::~AnswerFile() {
  fdatasync(descriptor_);
  close(descriptor_);
}

std::vector<PromptLine> AnswerFile::without_answered(std::vector<PromptLine> prompts) {
  std::map<nlohmann::json, const PromptLine*> by_id;
  for (const auto& prompt : prompts) by_id[prompt.id] = &prompt;
  std::map<nlohmann::json, Index> answered;
  std::ifstream lines(file_, std::ios::binary);
  std::string text;
  off_t whole = 0;  // bytes of whole lines
  for (Index number = 1; std::getline(lines, text); ++number) {
    const std::string place = std::format("{} line {}", file_, number);
    if (lines.eof()) {  // it has no newline
      if (!begins_an_answer(text)) answer_on("", place);
      break;
    }
    whole += std::ssize(text) + 1;
    const auto [id, ids, settings] = answer_on(text, place);
    const auto prompt = by_id.find(id);
    if (prompt == by_id.end())
      throw InputError("{}: answers id {}, which is not among the prompts; give --output another file", place,
                       id.dump());
    if (prompt->second->request.prompt != ids)
      throw InputError("{}: the prompt of id {} had other tokens; give --output another file", place, id.dump());
    if (!settings.empty() && settings != prompt->second->settings)
      throw InputError("{}: id {} was answered by another model or with other options; give --output another file",
                       place, id.dump());
    if (const auto [before, first] = answered.emplace(id, number); !first)
      throw InputError("{}: answers id {} as line {} does", place, id.dump(), before->second);
  }
  if (!lines.is_open() || lines.bad()) throw InputError("{}: cannot be read", file_);
  struct stat status {};
  if (fstat(descriptor_, &status) != 0 || (status.st_size != whole && ftruncate(descriptor_, whole) != 0))
    throw InputError("{}: its last line is not whole and cannot be cut off: {}", file_, std::strerror(errno));
  cut_off_ = status.st_size != whole;
  std::erase_if(prompts, [&](const PromptLine& prompt) { return answered.contains(prompt.id); });
  return prompts;
}

void AnswerFile::append(const std::string& line) {
  const std::string whole = line + '\n';
  if (!io::write_all(descriptor_, whole.data(), whole.size()))
    throw InternalError("{}: cannot be written: {}", file_, std::strerror(errno));
  const auto now = std::chrono::steady_clock::now();
  if (now - synced_ < std::chrono::seconds(10)) return;
  synced_ = now;
  fdatasync(descriptor_);  // where it fails, the next write tells
}

}  // namespace grist::cli
