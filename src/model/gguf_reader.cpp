#include <grist/model/gguf_reader.hpp>

#include <grist/model/config_reader.hpp>

#include <utility>

namespace grist {

int GgufReader::checked(std::string_view name, std::int64_t value, int least) const {
  if (value < least || !std::in_range<int>(value))
    throw InputError("{}: key '{}{}' is {}, expected {} or more and less than 2^31", file(), prefix_, name, value,
                     least);
  return static_cast<int>(value);
}

int GgufReader::positive(std::string_view name) { return checked(name, get<std::int64_t>(name), 1); }

int GgufReader::positive_or(std::string_view name, int otherwise) {
  return checked(name, get_or<std::int64_t>(name, otherwise), 1);
}

int GgufReader::count_or(std::string_view name, int otherwise) {
  return checked(name, get_or<std::int64_t>(name, otherwise), 0);
}

void GgufReader::expect(std::string_view name, std::int64_t number) {
  if (const auto found = get_or<std::int64_t>(name, number); found != number)
    throw InputError("{}: key '{}{}' is {}, supported is {}", file(), prefix_, name, found, number);
}

void GgufReader::ignore(std::initializer_list<std::string_view> names) {
  for (const auto name : names) note(name);
}

void GgufReader::finish() const {
  std::vector<std::string> unknown;
  for (const auto& [key, value] : gguf_.metadata)
    if (key.starts_with(prefix_) && !seen_.contains(key)) unknown.push_back(key);
  refuse_unknown_keys(file(), unknown);
}

}  // namespace grist
