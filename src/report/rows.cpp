#include <grist/report/rows.hpp>

#include <grist/core/errors.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

namespace grist::report {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

std::string text_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw InputError("{}: cannot be read: {}", file.string(), std::strerror(errno));
  return {std::istreambuf_iterator<char>(in), {}};
}

/// As JSON: what is quoted is a text, what reads as a number is one, and nothing is null.
Json value_of(const std::string& cell, bool quoted) {
  if (cell.empty() && !quoted) return nullptr;
  const Json value = quoted ? Json(Json::value_t::discarded) : Json::parse(cell, nullptr, false);
  return value.is_number() ? value : Json(cell);
}

/// Lines of cells by the rules of RFC 4180. Throws InputError where the last quoted cell has no end.
std::vector<std::vector<Json>> cells_of(const fs::path& file, const std::string& text) {
  std::vector<std::vector<Json>> lines(1);
  std::string cell;
  bool quoted = false, inside = false;  // this cell; between its quotes
  const auto end_cell = [&] {
    lines.back().push_back(value_of(cell, quoted));
    cell.clear(), quoted = false;
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (inside && c == '"' && text.compare(i, 2, "\"\"") == 0) cell += text[i++];
    else if (c == '"') inside = !inside, quoted = true;
    else if (inside || (c != ',' && c != '\n' && c != '\r')) cell += c;
    else if (c == ',') end_cell();
    else if (c == '\n') end_cell(), lines.emplace_back();
  }
  if (inside) throw InputError("{}: the quoted cell '{}' has no end", file.string(), cell.substr(0, 40));
  if (!cell.empty() || quoted || !lines.back().empty()) end_cell();
  std::erase_if(lines, [](const auto& line) { return std::ranges::all_of(line, &Json::is_null); });
  return lines;
}

std::vector<Json> rows_of_csv(const fs::path& file, const std::string& text) {
  const auto lines = cells_of(file, text);
  std::vector<Json> rows;
  for (std::size_t i = 1; i < lines.size(); ++i) {
    if (lines[i].size() != lines[0].size())
      throw InputError("{}: row {} has {} cells, the header has {}", file.string(), i, lines[i].size(),
                       lines[0].size());
    Json& row = rows.emplace_back(Json::object());
    for (std::size_t k = 0; k < lines[0].size(); ++k)
      if (lines[0][k].is_string()) row[lines[0][k].get<std::string>()] = lines[i][k];
  }
  return rows;
}

std::vector<Json> rows_of_json(const fs::path& file, const std::string& text) {
  const Json whole = Json::parse(text, nullptr, false);
  const bool wrapped = whole.is_object() && whole.contains("rows");
  if (const Json& array = wrapped ? whole["rows"] : whole; array.is_array())
    return std::vector<Json>(array.begin(), array.end());
  if (whole.is_object()) return {whole};
  if (text[text.find_first_not_of(" \t\r\n")] == '[') throw InputError("{}: is no whole JSON", file.string());
  std::vector<Json> rows;
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    rows.push_back(Json::parse(line, nullptr, false));
    if (rows.back().is_discarded()) throw InputError("{}: line {} is no JSON", file.string(), number);
  }
  return rows;
}

}  // namespace

std::vector<Json> read_rows(const fs::path& file) {
  const std::string text = text_of(file);
  if (text.find_first_not_of(" \t\r\n") == std::string::npos) throw InputError("{}: is empty", file.string());
  return file.extension() == ".csv" ? rows_of_csv(file, text) : rows_of_json(file, text);
}

}  // namespace grist::report
