// Operators, subscripts and attributes, as Python and Jinja's sandbox have them.
#include <grist/text/jinja/builtins.hpp>

#include <grist/text/unicode.hpp>

#include <algorithm>
#include <array>
#include <cmath>

namespace grist::text::jinja {
namespace {

constexpr std::size_t max_size = std::size_t{1} << 24;  // of repeated texts and lists

[[noreturn]] void unsupported(std::string_view symbol, const Value& left, const Value& right) {
  for (const Value* value : {&left, &right}) {
    if (const Undefined* nothing = value->undefined()) fail("{}", nothing->complaint);
  }
  fail("unsupported operand type(s) for {}: '{}' and '{}'", symbol, type_of(left), type_of(right));
}

[[noreturn]] void too_large() { fail("an integer does not fit 64 bits, which is not supported"); }

std::int64_t power(std::int64_t base, std::int64_t exponent) {
  if (base == 0 || base == 1 || base == -1)
    return exponent == 0 || base == 1 ? 1 : base == 0 ? 0 : exponent % 2 == 0 ? 1 : -1;
  std::int64_t result = 1;
  for (; exponent > 0; --exponent) {
    if (__builtin_mul_overflow(result, base, &result)) too_large();
  }
  return result;
}

/// Of integers; nothing where the result is a float.
std::optional<std::int64_t> whole(std::string_view symbol, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  if (symbol == "**") return b < 0 ? std::nullopt : std::optional(power(a, b));
  if (symbol == "/") return std::nullopt;
  if (symbol == "//" || symbol == "%") {
    if (b == 0) fail("integer division or modulo by zero");
    if (b == -1 && symbol == "%") return 0;
    if (b == -1 && a == INT64_MIN) too_large();
    const bool rounds_down = a % b != 0 && (a < 0) != (b < 0);
    return symbol == "//" ? a / b - (rounds_down ? 1 : 0) : a % b + (rounds_down ? b : 0);
  }
  const bool overflow = symbol == "+"   ? __builtin_add_overflow(a, b, &result)
                        : symbol == "-" ? __builtin_sub_overflow(a, b, &result)
                                        : __builtin_mul_overflow(a, b, &result);
  if (overflow) too_large();
  return result;
}

double real(std::string_view symbol, double a, double b) {
  if (symbol == "+") return a + b;
  if (symbol == "-") return a - b;
  if (symbol == "*") return a * b;
  if (symbol == "**") {
    if (a == 0 && b < 0) fail("0.0 cannot be raised to a negative power");
    if (a < 0 && b != std::floor(b)) fail("complex numbers are not supported");
    return std::pow(a, b);
  }
  if (b == 0) fail("division by zero");
  if (symbol == "/") return a / b;
  const double rest = std::fmod(a, b);
  const double modulo = rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
  return symbol == "%" ? modulo : std::round((a - modulo) / b);
}

bool is_array(const Value& value) {
  return value.sequence() != nullptr &&
         (value.sequence()->kind == Sequence::Kind::list || value.sequence()->kind == Sequence::Kind::tuple);
}

Value repeated(const Value& value, std::int64_t count) {
  count = std::max<std::int64_t>(count, 0);
  const auto check = [&](std::size_t size) {
    if (size > 0 && static_cast<std::size_t>(count) > max_size / size)
      fail("'*' makes more than {} elements", max_size);
  };
  if (const std::string* text = value.text()) {
    check(text->size());
    std::string result;
    for (std::int64_t i = 0; i < count; ++i) result += *text;
    return result;
  }
  Sequence result{value.sequence()->kind};
  check(value.sequence()->elements.size());
  for (std::int64_t i = 0; i < count; ++i) {
    result.elements.insert(result.elements.end(), value.sequence()->elements.begin(), value.sequence()->elements.end());
  }
  return result;
}

Value added(const Value& left, const Value& right) {
  if (left.text() != nullptr && right.text() != nullptr) return *left.text() + *right.text();
  if (is_array(left) && is_array(right) && left.sequence()->kind == right.sequence()->kind) {
    Sequence result{left.sequence()->kind, left.sequence()->elements};
    const Items& more = right.sequence()->elements;
    if (result.elements.size() + more.size() > max_size) fail("'+' makes more than {} elements", max_size);
    result.elements.insert(result.elements.end(), more.begin(), more.end());
    return result;
  }
  unsupported("+", left, right);
}

/// The place of an index in `size` elements; nothing where there is none.
std::optional<std::size_t> place(std::int64_t index, std::size_t size) {
  if (index < 0) index += static_cast<std::int64_t>(size);
  if (index < 0 || index >= static_cast<std::int64_t>(size)) return std::nullopt;
  return static_cast<std::size_t>(index);
}

/// Python's object[key]; nothing where it raises.
std::optional<Value> subscript(const Value& object, const Value& key) {
  if (const Dict* dict = object.dict()) {
    const Value* found = dict->find(key);
    return found == nullptr ? std::nullopt : std::optional(*found);
  }
  const auto index = key.integer();
  if (!index) return std::nullopt;
  if (const std::string* text = object.text()) {
    const std::u32string points = code_points(*text);
    const auto at = place(*index, points.size());
    return at ? std::optional<Value>(to_utf8({&points[*at], 1})) : std::nullopt;
  }
  if (is_array(object) || (object.sequence() != nullptr && object.sequence()->kind == Sequence::Kind::range)) {
    const auto at = place(*index, object.sequence()->elements.size());
    return at ? std::optional(object.sequence()->elements[*at]) : std::nullopt;
  }
  return std::nullopt;
}

Value method(std::string name, Function::Body body) {
  return std::static_pointer_cast<Object>(std::make_shared<Function>(std::move(name), std::move(body)));
}

bool is_one_of(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::ranges::find(names, name) != names.end();
}

std::optional<Value> dict_attribute(const std::shared_ptr<const Dict>& dict, const std::string& name) {
  using Kind = Sequence::Kind;
  if (is_one_of(name, {"clear", "pop", "popitem", "setdefault", "update"})) {
    fail("access to attribute '{}' of 'dict' object is unsafe.", name);
  }
  if (name == "fromkeys") fail("the attribute 'fromkeys' of dict is not supported");
  if (!is_one_of(name, {"get", "items", "keys", "values", "copy"})) return std::nullopt;
  return method(name, [dict, name](const Arguments& arguments) -> Value {
    if (name == "get") {
      const Bound given("get", arguments, {"key", "default"}, 1);
      const Value* found = dict->find(given[0]);
      return found != nullptr ? *found : given.find(1) != nullptr ? given[1] : Value();
    }
    const Bound none(name, arguments, {});
    if (name == "copy") return *dict;
    Sequence view{name == "keys" ? Kind::keys : name == "values" ? Kind::values : Kind::items};
    for (const auto& [key, value] : dict->entries) {
      view.elements.push_back(name == "keys" ? key : name == "values" ? value : Value::tuple({key, value}));
    }
    return view;
  });
}

std::optional<Value> sequence_attribute(const std::shared_ptr<Sequence>& sequence, const std::string& name) {
  const auto field = std::ranges::find(sequence->names, name);
  if (field != sequence->names.end())
    return sequence->elements[static_cast<std::size_t>(field - sequence->names.begin())];
  if (sequence->kind == Sequence::Kind::list &&
      is_one_of(name, {"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"})) {
    fail("access to attribute '{}' of 'list' object is unsafe.", name);
  }
  const bool array = sequence->kind == Sequence::Kind::list || sequence->kind == Sequence::Kind::tuple;
  if (!array || !is_one_of(name, {"count", "index", "copy"})) return std::nullopt;
  return method(name, [sequence, name](const Arguments& arguments) -> Value {
    if (name == "copy") return Sequence{sequence->kind, sequence->elements};
    const Bound given(name, arguments, {"value"}, 1);
    const auto same = [&](const Value& value) { return equal(value, given[0]); };
    if (name == "count") return static_cast<std::int64_t>(std::ranges::count_if(sequence->elements, same));
    const auto found = std::ranges::find_if(sequence->elements, same);
    if (found == sequence->elements.end()) fail("{} is not in list", repr(given[0]));
    return static_cast<std::int64_t>(found - sequence->elements.begin());
  });
}

std::optional<Value> text_attribute(const std::string& text, const std::string& name) {
  static constexpr std::array<std::string_view, 47> names = {
      "capitalize", "casefold",     "center",       "count",   "encode",     "endswith",    "expandtabs",
      "find",       "format",       "format_map",   "index",   "isalnum",    "isalpha",     "isascii",
      "isdecimal",  "isdigit",      "isidentifier", "islower", "isnumeric",  "isprintable", "isspace",
      "istitle",    "isupper",      "join",         "ljust",   "lower",      "lstrip",      "maketrans",
      "partition",  "removeprefix", "removesuffix", "replace", "rfind",      "rindex",      "rjust",
      "rpartition", "rsplit",       "rstrip",       "split",   "splitlines", "startswith",  "strip",
      "swapcase",   "title",        "translate",    "upper",   "zfill"};
  if (std::ranges::find(names, name) == names.end()) return std::nullopt;
  return method(name, [text, name](const Arguments& arguments) { return call_text_method(text, name, arguments); });
}

/// Python's getattr(); nothing where it raises AttributeError.
std::optional<Value> attribute_of(const Value& object, const std::string& name) {
  if (const Undefined* nothing = object.undefined()) fail("{}", nothing->complaint);
  if (object.is<Markup>()) soft_text(object);
  if (name.starts_with("__")) {
    if (object.dict() != nullptr && object.dict()->find_text(name) != nullptr) return std::nullopt;
    fail("access to attribute '{}' of '{}' object is unsafe.", name, type_of(object));
  }
  if (object.object() != nullptr) return object.object()->attribute(name);
  if (const std::string* text = object.text()) return text_attribute(*text, name);
  if (object.dict() != nullptr) return dict_attribute(std::get<std::shared_ptr<const Dict>>(object.data()), name);
  if (object.sequence() != nullptr) return sequence_attribute(std::get<std::shared_ptr<Sequence>>(object.data()), name);
  if (object.number() &&
      is_one_of(name, {"as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator", "from_bytes",
                       "fromhex", "hex", "imag", "is_integer", "numerator", "real", "to_bytes"})) {
    fail("the attribute '{}' of {} is not supported", name, type_of(object));
  }
  return std::nullopt;
}

Value missing(const Value& object, std::string_view name) {
  const std::string type = object.is<None>() ? "None" : type_of(object) + " object";
  return Undefined{std::format("'{}' has no attribute '{}'", type, name)};
}

}  // namespace

Value binary(std::string_view symbol, const Value& left, const Value& right) {
  if (symbol == "~") return soft_text(left) + soft_text(right);
  if (symbol == "%" && left.text() != nullptr) return percent_format(*left.text(), right);
  if (left.number() && right.number()) {
    if (left.integer() && right.integer()) {
      if (const auto result = whole(symbol, *left.integer(), *right.integer())) return *result;
    }
    return real(symbol, *left.number(), *right.number());
  }
  if (symbol == "+") return added(left, right);
  const auto repeats = [](const Value& value) { return value.text() != nullptr || is_array(value); };
  if (symbol == "*" && repeats(left) && right.integer()) return repeated(left, *right.integer());
  if (symbol == "*" && repeats(right) && left.integer()) return repeated(right, *left.integer());
  unsupported(symbol, left, right);
}

Value negative(const Value& value) {
  if (const auto number = value.integer()) return *number == INT64_MIN ? too_large(), 0 : -*number;
  if (const auto number = value.number()) return -*number;
  if (const Undefined* nothing = value.undefined()) fail("{}", nothing->complaint);
  fail("bad operand type for unary -: '{}'", type_of(value));
}

bool contains(const Value& container, const Value& value) {
  if (const std::string* text = container.text()) {
    if (value.text() == nullptr) fail("'in <string>' requires string as left operand, not {}", type_of(value));
    return text->find(*value.text()) != std::string::npos;
  }
  if (const Dict* dict = container.dict()) return dict->find(value) != nullptr;
  return std::ranges::any_of(elements_of(container), [&](const Value& element) { return equal(element, value); });
}

bool compares(std::string_view symbol, const Value& left, const Value& right) {
  if (symbol == "==") return equal(left, right);
  if (symbol == "!=") return !equal(left, right);
  if (symbol == "in") return contains(right, left);
  if (symbol == "not in") return !contains(right, left);
  if (symbol == "<") return less(left, right);
  if (symbol == ">") return less(right, left);
  const bool equals = equal(left, right);
  return symbol == "<=" ? less(left, right) || equals : less(right, left) || equals;
}

Value get_attribute(const Value& object, const std::string& name) {
  if (auto found = attribute_of(object, name)) return *std::move(found);
  if (auto found = subscript(object, name)) return *std::move(found);
  return missing(object, name);
}

Value get_own_attribute(const Value& object, const std::string& name) {
  auto found = attribute_of(object, name);
  return found ? *std::move(found) : missing(object, name);
}

Value get_item(const Value& object, const Value& key) {
  if (const Undefined* nothing = object.undefined()) fail("{}", nothing->complaint);
  if (object.is<Markup>()) soft_text(object);
  if (auto found = subscript(object, key)) return *std::move(found);
  if (const std::string* name = key.text()) {
    if (auto found = attribute_of(object, *name)) return *std::move(found);
  }
  return missing(object, key.undefined() != nullptr ? "Undefined" : to_string(key));
}

Value slice(const Value& object, const Value* start, const Value* stop, const Value* step) {
  if (const Undefined* nothing = object.undefined()) fail("{}", nothing->complaint);
  const auto bound = [](const Value* value, std::int64_t otherwise) {
    if (value == nullptr || value->is<None>()) return otherwise;
    if (const auto number = value->integer()) return *number;
    fail("slice indices must be integers or None, not {}", type_of(*value));
  };
  if (object.text() == nullptr && !is_array(object)) fail("a slice of a {} is not supported", type_of(object));
  const std::u32string points = object.text() != nullptr ? code_points(*object.text()) : std::u32string();
  const auto size = object.text() != nullptr ? std::ssize(points) : std::ssize(object.sequence()->elements);
  const std::int64_t stride = bound(step, 1);
  if (stride == 0) fail("slice step cannot be zero");
  const std::int64_t low = stride > 0 ? 0 : -1;
  const std::int64_t high = stride > 0 ? size : size - 1;
  const auto clamped = [&](std::int64_t index) {
    return std::clamp<std::int64_t>(index < 0 ? std::max(index, -size - 1) + size : index, low, high);
  };
  const bool has_start = start != nullptr && !start->is<None>();
  const bool has_stop = stop != nullptr && !stop->is<None>();
  const std::int64_t begin = has_start ? clamped(bound(start, 0)) : stride > 0 ? 0 : size - 1;
  const std::int64_t end = has_stop ? clamped(bound(stop, 0)) : stride > 0 ? size : -1;
  std::u32string text;
  Sequence items{object.text() != nullptr ? Sequence::Kind::list : object.sequence()->kind};
  for (std::int64_t i = begin; stride > 0 ? i < end : i > end;) {
    if (object.text() != nullptr)
      text += points[static_cast<std::size_t>(i)];
    else
      items.elements.push_back(object.sequence()->elements[static_cast<std::size_t>(i)]);
    if (stride > size || stride < -size) break;
    i += stride;
  }
  if (object.text() != nullptr) return to_utf8(text);
  return items;
}

Value follow(const Value& object, const Value& path) {
  if (path.integer()) return get_item(object, path);
  if (path.text() == nullptr) fail("an attribute of the type {} is not supported", type_of(path));
  Value value = object;
  for (std::string_view rest = *path.text();;) {
    const std::string part(rest.substr(0, rest.find('.')));
    const bool number = !part.empty() && part.find_first_not_of("0123456789") == std::string::npos && part.size() < 10;
    value = get_item(value, number ? Value(std::stoi(part)) : Value(part));
    if (part.size() == rest.size()) return value;
    rest.remove_prefix(part.size() + 1);
  }
}

}  // namespace grist::text::jinja
