// Reading JSON whose form is not to be trusted: what is missing or of another type is an InputError that says where.
#pragma once

#include <grist/core/errors.hpp>

#include <nlohmann/json.hpp>

#include <cerrno>
#include <concepts>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace grist::io {

/// Parses a file; throws InputError naming it.
inline nlohmann::json read_json(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw InputError("{}: cannot be opened: {}", path.string(), std::strerror(errno));
  if (std::filesystem::is_directory(path)) throw InputError("{}: is a folder, expected a file", path.string());
  const auto shallow = [&](int depth, nlohmann::json::parse_event_t, const nlohmann::json&) {
    if (depth > 64) throw InputError("{}: nested deeper than 64", path.string());
    return true;
  };
  try {
    return nlohmann::json::parse(file, shallow);
  } catch (const nlohmann::json::exception& error) {
    throw InputError("{}: not valid JSON: {}", path.string(), error.what());
  }
}

/// A value as T; `where` names file and key.
template <class T>
T json_value(const nlohmann::json& value, std::string_view where) {
  const auto check = [&](bool right, std::string_view expected) {
    if (!right) throw InputError("{}: found {}, expected {}", where, value.type_name(), expected);
  };
  if constexpr (std::same_as<T, bool>) {
    check(value.is_boolean(), "true or false");
  } else if constexpr (std::integral<T>) {
    check(value.is_number_integer() && value >= 0 && value <= std::numeric_limits<T>::max(),
          "an integer that is an id");
  } else {
    static_assert(std::same_as<T, std::string>);
    check(value.is_string(), "a string");
  }
  return value.get<T>();
}

/// A member as T.
template <class T>
T json_field(const nlohmann::json& object, const char* key, const std::string& where) {
  if (!object.is_object()) throw InputError("{}: found {}, expected an object", where, object.type_name());
  const auto found = object.find(key);
  if (found == object.end()) throw InputError("{}: '{}' is missing", where, key);
  return json_value<T>(*found, where + ": '" + key + "'");
}

/// The same; null and absent give `otherwise`.
template <class T>
T json_field_or(const nlohmann::json& object, const char* key, const std::string& where, T otherwise) {
  if (!object.is_object()) throw InputError("{}: found {}, expected an object", where, object.type_name());
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? otherwise : json_value<T>(*found, where + ": '" + key + "'");
}

/// A member that is an object or an array.
inline const nlohmann::json& json_member(const nlohmann::json& object, const char* key, nlohmann::json::value_t type,
                                         const std::string& where) {
  if (!object.is_object()) throw InputError("{}: found {}, expected an object", where, object.type_name());
  const auto found = object.find(key);
  const std::string_view expected = nlohmann::json(type).type_name();
  if (found == object.end()) throw InputError("{}: '{}' is missing, expected {}", where, key, expected);
  if (found->type() != type) {
    throw InputError("{}: '{}': found {}, expected {}", where, key, found->type_name(), expected);
  }
  return *found;
}

}  // namespace grist::io
