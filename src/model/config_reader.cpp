#include <grist/model/config_reader.hpp>

#include <grist/io/json_fields.hpp>

namespace grist {

ConfigReader::ConfigReader(const std::filesystem::path& file) : ConfigReader(io::read_json(file), file.string()) {}

ConfigReader::ConfigReader(nlohmann::json object, std::string file)
    : object_(std::move(object)), file_(std::move(file)) {
  if (!object_.is_object()) throw InputError("{}: a JSON object is expected, found {}", file_, object_.type_name());
}

int ConfigReader::positive(const std::string& key) {
  const int value = get<int>(key);
  if (value < 1) throw InputError("{}: key '{}' is {}, expected 1 or more", file_, key, value);
  return value;
}

std::vector<int> ConfigReader::list(const std::string& key) {
  const auto value = find<nlohmann::json>(key);
  if (!value) return {};
  std::vector<int> values;
  for (const auto& one : value->is_array() ? *value : nlohmann::json::array({*value}))
    values.push_back(convert<int>(key, one));
  return values;
}

void ConfigReader::rename(const std::string& from, const std::string& to) {
  seen_.insert(from);
  const auto found = object_.find(from), other = object_.find(to);
  if (found == object_.end() || found->is_null()) return;
  if (other != object_.end() && !other->is_null() && *other != *found)
    throw InputError("{}: key '{}' is {}, and '{}', another name for it, is {}", file_, from, found->dump(), to,
                     other->dump());
  set_default(to, nlohmann::json(*found));
}

std::optional<ConfigReader> ConfigReader::object(const std::string& key) {
  auto value = find<nlohmann::json>(key);
  if (!value) return std::nullopt;
  return ConfigReader(std::move(*value), file_ + ": " + key);
}

void ConfigReader::ignore(std::initializer_list<std::string_view> keys) {
  for (const auto key : keys) seen_.emplace(key);
}

void ConfigReader::ignore_prefix(std::string_view prefix) {
  for (const auto& [key, value] : object_.items())
    if (key.starts_with(prefix)) seen_.insert(key);
}

void ConfigReader::finish() const {
  std::vector<std::string> unknown;
  for (const auto& [key, value] : object_.items())
    if (!seen_.contains(key) && !key.starts_with('_')) unknown.push_back(key);
  refuse_unknown_keys(file_, unknown);
}

void refuse_unknown_keys(const std::string& file, const std::vector<std::string>& keys) {
  if (keys.empty()) return;
  std::string list;
  for (const auto& key : keys) list += std::format("{}'{}'", list.empty() ? "" : ", ", key);
  throw InputError("{}: keys that are not understood, and may change what the model computes: {}", file, list);
}

}  // namespace grist
