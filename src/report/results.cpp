#include <grist/report/results.hpp>

#include <grist/core/errors.hpp>
#include <grist/report/rows.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <format>
#include <map>

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
  /// A whole number from `least` on.
  [[nodiscard]] std::optional<int> count(const char* key, int least) const {
    const auto value = number(key);
    if (value && (*value < least || *value > 1e9 || *value != std::floor(*value)))
      throw wrong(key, std::format("a whole number from {} to 1e9", least), *find(key));
    return value ? std::optional(static_cast<int>(*value)) : std::nullopt;
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
  [[nodiscard]] InputError wrong(const char* key, const std::string& expected, const Json& found) const {
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
  result.limit_name = keys.text("limit_name");
  result.date = keys.text("date");
  result.file = file.filename().string();
  if (const auto limit = keys.number("limit"); limit && *limit > 0) result.limit = limit;
  result.flops = keys.number("flops").value_or(0);
  result.bytes = keys.number("bytes").value_or(0);
  result.seconds = keys.number("avg_ns").value_or(0) * 1e-9;
  result.repetitions = keys.count("repetitions", 0).value_or(0);
  const auto ranks = keys.count("ranks", 1);
  result.ranks = ranks ? *ranks : keys.count("n_ranks", 1).value_or(1);
  if (keys.text("gpu_info").empty()) result.threads = keys.count("n_threads", 0).value_or(0);
  result.row = row;
  return result;
}

/// Rows of one problem count the same: one that does not say what counts as the others do, or tokens.
void agree_on_units(std::vector<Result>& results) {
  std::map<std::string, const Result*> told;  // the first row of a problem that says it
  for (const Result& result : results) {
    if (result.unit.empty()) continue;
    const Result& first = *told.emplace(result.problem, &result).first->second;
    if (first.unit != result.unit)
      throw InputError("{}: 'unit' of problem '{}' is {}, in {} it is {}", result.file, result.problem, result.unit,
                       first.file, first.unit);
  }
  for (Result& result : results)
    if (result.unit.empty()) result.unit = told.contains(result.problem) ? told.at(result.problem)->unit : "tokens";
}

/// What the machine can do does not depend on who is measured.
void share_limits(std::vector<Result>& results) {
  for (Result& result : results) {
    if (result.limit) continue;
    for (const Result& other : results) {
      if (!other.limit || other.application == result.application || !comparable(other, result)) continue;
      result.limit = other.limit;
      result.limit_name = other.limit_name;
      break;
    }
  }
}

}  // namespace

std::string Result::text(const char* key) const {
  const auto found = row.find(key);
  return found != row.end() && found->is_string() ? found->get<std::string>() : std::string();
}

double Result::number(const char* key) const {
  const auto found = row.find(key);
  return found != row.end() && found->is_number() ? found->get<double>() : 0;
}

bool comparable(const Result& a, const Result& b) {
  return a.problem == b.problem && a.platform == b.platform && a.ranks == b.ranks && a.threads == b.threads;
}

std::vector<Result> side_by_side(const std::vector<Result>& results) {
  std::vector<std::array<std::ptrdiff_t, 3>> places;  // first of the problem, first of those comparable, itself
  for (const Result& result : results) {
    const auto first = [&](const auto& like) { return std::ranges::find_if(results, like) - results.begin(); };
    places.push_back({first([&](const Result& other) { return other.problem == result.problem; }),
                      first([&](const Result& other) { return comparable(other, result); }), &result - results.data()});
  }
  std::ranges::sort(places);
  std::vector<Result> ordered;
  for (const auto& place : places) ordered.push_back(results[static_cast<std::size_t>(place[2])]);
  return ordered;
}

std::vector<std::string> labels_of(const std::vector<Result>& results) {
  std::vector<std::string> labels;
  for (const Result& result : results) labels.push_back(result.application);
  for (const std::string key : {"layout", "backend", "settings", "version", "build_commit", "file", "test_time"}) {
    const auto text = [&](const Result& result) { return key == "file" ? result.file : result.text(key.c_str()); };
    const auto before = labels;
    for (std::size_t i = 0; i < results.size(); ++i) {
      for (std::size_t k = 0; k < results.size(); ++k) {
        if (before[i] != before[k] || !comparable(results[i], results[k]) || text(results[i]) == text(results[k]))
          continue;
        if (!text(results[i]).empty()) labels[i] += ", " + text(results[i]);
        break;
      }
    }
  }
  return labels;
}

std::string extent_of(const Result& result) {
  const auto counted = [](int count, const char* what) {
    return std::format("{} {}{}", count, what, count == 1 ? "" : "s");
  };
  if (result.threads == 0) return counted(result.ranks, "rank");
  const std::string threads = counted(result.threads, "thread");
  return result.ranks > 1 ? counted(result.ranks, "rank") + " x " + threads : threads;
}

std::vector<Result> read_results(const std::vector<fs::path>& files) {
  std::vector<Result> results;
  for (const fs::path& file : files) {
    std::size_t number = 0;
    for (const Json& row : read_rows(file)) results.push_back(result_of(row, file, ++number));
  }
  if (results.empty()) throw InputError("{}: holds no results", files.front().string());
  agree_on_units(results);
  share_limits(results);
  return results;
}

}  // namespace grist::report
