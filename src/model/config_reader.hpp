// Reads config.json key by key and remembers which keys were understood.
#pragma once

#include <grist/core/dtype.hpp>
#include <grist/core/errors.hpp>

#include <nlohmann/json.hpp>

#include <filesystem>
#include <initializer_list>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace grist {

/// A null value counts as absent. Wrong types and missing keys are InputErrors that name the file and the key.
class ConfigReader {
public:
  explicit ConfigReader(const std::filesystem::path& file);
  ConfigReader(nlohmann::json object, std::string file);

  template <class T>
  std::optional<T> find(const std::string& key) {
    seen_.insert(key);
    const auto found = object_.find(key);
    if (found == object_.end() || found->is_null()) return std::nullopt;
    return convert<T>(key, *found);
  }
  template <class T>
  T get(const std::string& key) {
    if (auto value = find<T>(key)) return *value;
    throw InputError("{}: key '{}' is missing", file_, key);
  }
  template <class T>
  T get_or(const std::string& key, T otherwise) {
    return find<T>(key).value_or(std::move(otherwise));
  }

  /// An integer of at least 1.
  int positive(const std::string& key);
  /// A list, or a single value as a list of one; empty where absent.
  std::vector<int> list(const std::string& key);
  [[nodiscard]] bool has(const std::string& key) const { return object_.contains(key); }
  /// Whether a key is there with another value than null and this one.
  [[nodiscard]] bool has_other(const std::string& key, const nlohmann::json& value) const {
    const auto found = object_.find(key);
    return found != object_.end() && !found->is_null() && *found != value;
  }
  /// An object inside, with a reader of its own; empty where absent.
  std::optional<ConfigReader> object(const std::string& key);
  /// Gives an absent key a value that stood elsewhere.
  void set_default(const std::string& key, nlohmann::json value) {
    if (const auto found = object_.find(key); found == object_.end() || found->is_null())
      object_[key] = std::move(value);
  }
  /// Reads a key under another name, too. Throws InputError where both are there and differ.
  void rename(const std::string& from, const std::string& to);
  /// Throws InputError where a key is there, not null, and not this value.
  template <class T>
  void expect_value(const std::string& key, const T& value) {
    if (const auto found = find<T>(key); found && *found != value)
      throw InputError("{}: key '{}' is {}, supported is {}", file_, key, nlohmann::json(*found).dump(),
                       nlohmann::json(value).dump());
  }
  /// Keys that say nothing about the mathematics.
  void ignore(std::initializer_list<std::string_view> keys);
  /// Throws InputError listing every key that nobody asked for. Those with an underscore in front are transformers' own
  /// notes.
  void finish() const;

  /// The same for keys that begin so.
  void ignore_prefix(std::string_view prefix);

  [[nodiscard]] const std::string& file() const { return file_; }
  /// Whether both hold the same keys and values.
  bool operator==(const ConfigReader& other) const { return object_ == other.object_; }

private:
  template <class T>
  T convert(const std::string& key, const nlohmann::json& value) const {
    try {
      if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
        if (!value.is_number_integer() || value.get<double>() < std::numeric_limits<T>::min() ||
            value.get<double>() > std::numeric_limits<T>::max())
          throw InputError("{}: key '{}' is {}, expected an integer of {} bits", file_, key, value.dump(),
                           8 * sizeof(T));
      }
      if constexpr (std::is_floating_point_v<T>)
        if (!value.is_number()) throw InputError("{}: key '{}' is {}, expected a number", file_, key, value.dump());
      return value.get<T>();
    } catch (const nlohmann::json::exception&) {
      throw InputError("{}: key '{}' is {}, another type is expected", file_, key, value.dump());
    }
  }

  nlohmann::json object_;
  std::string file_;
  std::set<std::string, std::less<>> seen_;
};

/// Throws InputError that lists keys of a model's files which nobody asked for, where there are any.
void refuse_unknown_keys(const std::string& file, const std::vector<std::string>& keys);

}  // namespace grist
