#include <grist/report/results.hpp>

#include <grist/core/errors.hpp>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>

namespace grist::report {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

/// Keys of a row, with the row's name for messages.
class Keys {
public:
  Keys(const Json& row, std::string where) : row_(row), where_(std::move(where)) {}

  [[nodiscard]] std::string text(const char* key) const {
    const Json* value = find(key);
    if (value == nullptr) return {};
    if (!value->is_string()) throw wrong(key, "a text", *value);
    return value->get<std::string>();
  }
  [[nodiscard]] std::optional<double> number(const char* key) const {
    const Json* value = find(key);
    if (value == nullptr) return {};
    if (!value->is_number() || !(value->get<double>() >= 0)) throw wrong(key, "a number, not negative", *value);
    return value->get<double>();
  }
  [[nodiscard]] std::string needed_text(const char* key) const {
    if (find(key) == nullptr) throw InputError("{}: '{}' is missing", where_, key);
    return text(key);
  }

private:
  [[nodiscard]] const Json* find(const char* key) const {
    const auto found = row_.find(key);
    return found == row_.end() || found->is_null() ? nullptr : &*found;
  }
  [[nodiscard]] InputError wrong(const char* key, const char* expected, const Json& found) const {
    return InputError("{}: '{}' is {}, expected {}", where_, key, found.dump(), expected);
  }

  const Json& row_;
  std::string where_;
};

Result result_of(const Json& row, const fs::path& file, std::size_t number) {
  const std::string where = std::format("{}: row {}", file.string(), number);
  if (!row.is_object()) throw InputError("{} is no object of results", where);
  const Keys keys(row, where);
  Result result;
  result.application = keys.needed_text("application");
  result.problem = keys.needed_text("problem");
  result.platform = keys.needed_text("platform");
  const auto fom = keys.number("fom"), rate = keys.number("avg_ts");
  if (!fom && !rate) throw InputError("{}: neither 'fom' nor 'avg_ts' is there", where);
  result.value = fom ? *fom : *rate;
  result.deviation = keys.number("stddev_ts").value_or(0);
  result.test = keys.text("test");
  result.unit = keys.text("unit");
  if (result.unit.empty()) result.unit = "tokens";
  result.limit_name = keys.text("limit_name");
  result.date = keys.text("date");
  result.file = file.filename().string();
  if (const auto limit = keys.number("limit"); limit && *limit > 0) result.limit = limit;
  result.flops = keys.number("flops").value_or(0);
  result.bytes = keys.number("bytes").value_or(0);
  result.seconds = keys.number("avg_ns").value_or(0) * 1e-9;
  result.ranks = static_cast<int>(keys.number("ranks").value_or(1));
  result.threads = static_cast<int>(keys.number("n_threads").value_or(0));
  result.row = row;
  return result;
}

/// The rows of an array, or of lines.
std::vector<Json> rows_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw InputError("{}: cannot be read: {}", file.string(), std::strerror(errno));
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) throw InputError("{}: is empty", file.string());
  std::vector<Json> rows;
  if (text[first] == '[') {
    const Json array = Json::parse(text, nullptr, false);
    if (array.is_discarded()) throw InputError("{}: is no whole JSON", file.string());
    rows.assign(array.begin(), array.end());
    return rows;
  }
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    rows.push_back(Json::parse(line, nullptr, false));
    if (rows.back().is_discarded()) throw InputError("{}: line {} is no JSON", file.string(), number);
  }
  return rows;
}

/// What the machine can do does not depend on who is measured.
void share_limits(std::vector<Result>& results) {
  for (Result& result : results) {
    if (result.limit) continue;
    for (const Result& other : results) {
      if (!other.limit || other.application == result.application || other.problem != result.problem ||
          other.platform != result.platform || other.ranks != result.ranks)
        continue;
      result.limit = other.limit;
      result.limit_name = other.limit_name;
      break;
    }
  }
}

}  // namespace

std::vector<Result> read_results(const std::vector<fs::path>& files) {
  std::vector<Result> results;
  for (const fs::path& file : files) {
    std::size_t number = 0;
    for (const Json& row : rows_of(file)) results.push_back(result_of(row, file, ++number));
  }
  if (results.empty()) throw InputError("{}: holds no results", files.front().string());
  share_limits(results);
  return results;
}

}  // namespace grist::report
