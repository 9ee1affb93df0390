// JSON, one line each: results, and what files of prompts, questions and documents hold.
#pragma once

#include <grist/core/view.hpp>
#include <grist/text/chat_template.hpp>

#include <nlohmann/json.hpp>

#include <functional>
#include <string>
#include <string_view>

namespace grist::cli {

/// A file, or stdout where no file is named. Every line is written at once when it is known: what ends the program
/// leaves whole lines. Throws InputError where the file cannot be opened, InternalError where a line cannot be written.
class JsonLines {
public:
  explicit JsonLines(const std::string& file = {});
  ~JsonLines();
  JsonLines(const JsonLines&) = delete;
  JsonLines& operator=(const JsonLines&) = delete;

  void write(const nlohmann::ordered_json& value);

private:
  std::string file_;
  int descriptor_;
};

/// The object on a line. Throws InputError for what is none, and for a key that is there twice.
nlohmann::json json_object(std::string_view line);

/// f(object, number of the line from 1) for each line of a file ("-": stdin) that is not blank, until f returns false.
/// Throws InputError that names file and line, for what json_object or f throws too.
void each_json_line(const std::string& file, const std::function<bool(nlohmann::json& object, Index number)>& f);

/// Throws InputError that names `what` for another value than a text.
const std::string& string_of(const nlohmann::json& value, std::string_view what);

/// Of [{"role": "...", "content": "..."}, ...]. Throws InputError for an empty list and for other keys with a value.
std::vector<text::Message> messages_of(const nlohmann::json& list);

}  // namespace grist::cli
