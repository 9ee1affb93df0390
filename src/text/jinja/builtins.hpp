// What a template finds without defining it: attributes and methods of values, operators, filters, tests, functions.
#pragma once

#include <grist/text/jinja/value.hpp>

#include <initializer_list>
#include <string>
#include <string_view>

namespace grist::text::jinja {

/// Arguments by the names of a function's parameters. Throws Failure for those that it does not take.
class Bound {
public:
  Bound(std::string_view function, const Arguments& arguments, std::initializer_list<std::string_view> parameters,
        std::size_t required = 0);

  /// Null where it was not given.
  [[nodiscard]] const Value* find(std::size_t parameter) const { return values_[parameter]; }
  [[nodiscard]] const Value& operator[](std::size_t parameter) const { return *values_[parameter]; }
  [[nodiscard]] bool flag(std::size_t parameter, bool otherwise) const;
  [[nodiscard]] std::int64_t integer(std::size_t parameter, std::int64_t otherwise) const;
  /// As str(); `otherwise` where it was not given.
  [[nodiscard]] std::string text(std::size_t parameter, std::string_view otherwise) const;

private:
  std::string function_;
  std::vector<const Value*> values_;
};

// ---- operators and subscripts ----
Value binary(std::string_view symbol, const Value& left, const Value& right);
Value negative(const Value& value);
bool compares(std::string_view symbol, const Value& left, const Value& right);
bool contains(const Value& container, const Value& value);
Value get_item(const Value& object, const Value& key);
Value get_attribute(const Value& object, const std::string& name);
/// The filter `attr`: no items.
Value get_own_attribute(const Value& object, const std::string& name);
Value slice(const Value& object, const Value* start, const Value* stop, const Value* step);
/// Follows "a.b.0" from an object, as filters with `attribute` do.
Value follow(const Value& object, const Value& path);

// ---- texts ----
/// A method of Python's str.
Value call_text_method(const std::string& text, const std::string& name, const Arguments& arguments);
std::string strip(const std::string& text, const Value* characters, bool left, bool right);
std::string capitalized(const std::string& text);
std::vector<std::string> lines_of(const std::string& text, bool keep_ends);
/// Python's "..." % values.
std::string percent_format(const std::string& format, const Value& values);
/// Python's "...".format(values).
std::string brace_format(const std::string& format, const Arguments& values);

// ---- filters, tests, functions ----
bool is_jinja_filter(std::string_view name);
bool is_jinja_test(std::string_view name);
Value apply_filter(const std::string& name, const Value& value, const Arguments& arguments);
bool apply_test(const std::string& name, const Value& value, const Arguments& arguments);
/// range, dict, raise_exception, strftime_now; nothing for other names.
std::optional<Value> global_function(std::string_view name);

}  // namespace grist::text::jinja
