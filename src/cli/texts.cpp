#include "texts.hpp"

#include "runtime.hpp"

#include <grist/core/errors.hpp>
#include <grist/text/utf8.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>

namespace grist::cli {

CLI::Option* add_texts(CLI::App& app, const std::string& name, const std::string& help) {
  return app.add_option(name, [](const CLI::results_t&) { return true; }, help)
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->type_name("TEXT");
}

CLI::Option* add_text(CLI::App& app, const std::string& name, std::optional<std::string>& value,
                      const std::string& help) {
  return add_texts(app, name, help)->each([&value](const std::string& text) { value = text; });
}

std::vector<std::string> literal_words(const std::vector<std::string>& words) {
  std::vector<std::string> literal;
  for (std::string word : words) {
    const auto value = word.starts_with("--") && word.find('=') != std::string::npos ? word.find('=') + 1 : 0;
    if (word.substr(value).starts_with("[[") && word.ends_with("]]")) {
      std::string escaped = word.substr(0, value) + "[[";
      for (const char c : word.substr(value + 1, word.size() - value - 2)) escaped.append(2, c);
      word = escaped + "]]";
    }
    literal.push_back(std::move(word));
  }
  std::ranges::reverse(literal);
  return literal;
}

std::vector<int> parse_ids(const std::string& text, const char* option) {
  std::vector<int> ids;
  std::istringstream in(text);
  std::string word;
  while (std::getline(in >> std::ws, word, ',')) {
    std::size_t used = 0;
    try {
      ids.push_back(std::stoi(word, &used));
    } catch (const std::exception&) {
    }
    if (used == 0 || word.find_first_not_of(" \t\n", used) != std::string::npos)
      throw UsageError("{}: '{}' is not a token id; ids are separated by commas", option, word);
  }
  return ids;
}

void check_utf8(const std::string& text, const std::string& where) {
  if (const auto at = text::find_invalid_utf8(text))
    throw InputError("{}: not UTF-8: byte {:#04x} at offset {}", where, static_cast<unsigned char>(text[*at]), *at);
}

namespace {

std::string contents_of(std::istream& in, const std::string& name) {
  std::ostringstream text;
  if (!(text << in.rdbuf() || in.peek() == std::istream::traits_type::eof()))
    throw InputError("{}: cannot be read", name);
  return std::move(text).str();
}

}  // namespace

std::string read_text(const std::string& file) {
  std::string text;
  if (file == "-") {
    static bool read = false;
    if (std::exchange(read, true)) throw UsageError("stdin (-) can be read once");
    text = contents_of(std::cin, "stdin");
  } else {
    std::ifstream in(file, std::ios::binary);
    if (std::filesystem::is_directory(file)) throw InputError("{}: is a folder, expected a file with text", file);
    if (!in) throw InputError("{}: cannot be opened: {}", file, std::strerror(errno));
    text = contents_of(in, file);
  }
  const std::string name = file == "-" ? "stdin" : file;
  check_utf8(text, name);
  if (text.starts_with("\xEF\xBB\xBF")) {
    note(std::format("{}: begins with a byte order mark, which is left out", name));
    text.erase(0, 3);
  }
  return text;
}

}  // namespace grist::cli
