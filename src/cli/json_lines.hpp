// JSON, one line each: results, and what files of documents hold.
#pragma once

#include <nlohmann/json.hpp>

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

/// The object on a line. Throws InputError for what is none.
nlohmann::json json_object(std::string_view line);

}  // namespace grist::cli
