#include <grist/model/config_reader.hpp>

#include <fstream>

namespace grist {
namespace {

nlohmann::json parse(const std::filesystem::path& file) {
  std::ifstream in(file);
  if (!in) throw InputError("{}: cannot be opened; a model folder holds config.json", file.string());
  const auto check = [&](int depth, nlohmann::json::parse_event_t, const nlohmann::json&) {
    if (depth > 16) throw InputError("{}: nested deeper than 16", file.string());
    return true;
  };
  try {
    return nlohmann::json::parse(in, check);
  } catch (const nlohmann::json::exception& error) {
    throw InputError("{}: not valid JSON: {}", file.string(), error.what());
  }
}

}  // namespace

ConfigReader::ConfigReader(const std::filesystem::path& file) : ConfigReader(parse(file), file.string()) {}

ConfigReader::ConfigReader(nlohmann::json object, std::string file) : object_(std::move(object)), file_(std::move(file)) {
  if (!object_.is_object()) throw InputError("{}: a JSON object is expected, found {}", file_, object_.type_name());
}

std::int64_t ConfigReader::positive(const std::string& key) {
  const auto value = get<std::int64_t>(key);
  constexpr std::int64_t most = 1LL << 31;
  if (value < 1 || value >= most) throw InputError("{}: key '{}' is {}, expected 1 or more and less than 2^31", file_, key, value);
  return value;
}

std::optional<ConfigReader> ConfigReader::object(const std::string& key) {
  auto value = find<nlohmann::json>(key);
  if (!value) return std::nullopt;
  return ConfigReader(std::move(*value), file_ + ": " + key);
}

void ConfigReader::ignore(std::initializer_list<std::string_view> keys) {
  for (const auto key : keys) seen_.emplace(key);
}

void ConfigReader::finish() const {
  std::string unknown;
  for (const auto& [key, value] : object_.items()) {
    if (!seen_.contains(key)) unknown += std::format("{}'{}'", unknown.empty() ? "" : ", ", key);
  }
  if (!unknown.empty())
    throw InputError("{}: keys that are not understood, and may change what the model computes: {}", file_, unknown);
}

}  // namespace grist
