#include <grist/text/jinja/value.hpp>

#include <grist/text/unicode.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace grist::text::jinja {
namespace {

constexpr std::size_t max_text = std::size_t{1} << 26;

std::string joined(const Items& items, std::string_view open, std::string_view close) {
  std::string text(open);
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) text += ", ";
    text += repr(items[i]);
    if (text.size() > max_text) fail("a text of the template passes {} bytes", max_text);
  }
  return text.append(close);
}

std::string sequence_text(const Sequence& sequence) {
  using Kind = Sequence::Kind;
  const Items& items = sequence.elements;
  switch (sequence.kind) {
    case Kind::list:
      return joined(items, "[", "]");
    case Kind::tuple:
      return items.size() == 1 ? joined(items, "(", ",)") : joined(items, "(", ")");
    case Kind::keys:
      return joined(items, "dict_keys([", "])");
    case Kind::values:
      return joined(items, "dict_values([", "])");
    case Kind::items:
      return joined(items, "dict_items([", "])");
    case Kind::range:
      fail("a range as a text is not supported");
    case Kind::iterator:
      fail("an iterator as a text has no stable form: put |list behind it");
  }
  return {};
}

std::string dict_text(const Dict& dict) {
  std::string text = "{";
  for (const auto& [key, value] : dict.entries) {
    if (text.size() > 1) text += ", ";
    text += repr(key) + ": " + repr(value);
    if (text.size() > max_text) fail("a text of the template passes {} bytes", max_text);
  }
  return text + "}";
}

bool equal_dicts(const Dict& a, const Dict& b) {
  return a.entries.size() == b.entries.size() && std::ranges::all_of(a.entries, [&](const auto& entry) {
           const Value* other = b.find(entry.first);
           return other != nullptr && equal(entry.second, *other);
         });
}

bool is_array(const Value& value, Sequence::Kind kind) {
  return value.sequence() != nullptr && value.sequence()->kind == kind;
}

/// Lists and tuples are compared element by element.
bool same_order(const Value& a, const Value& b) {
  using Kind = Sequence::Kind;
  return (is_array(a, Kind::list) && is_array(b, Kind::list)) || (is_array(a, Kind::tuple) && is_array(b, Kind::tuple));
}

}  // namespace

const Value* Dict::find(const Value& key) const {
  const auto found = std::ranges::find_if(entries, [&](const auto& entry) { return equal(entry.first, key); });
  return found == entries.end() ? nullptr : &found->second;
}

const Value* Dict::find_text(std::string_view key) const {
  const auto found = std::ranges::find_if(
      entries, [&](const auto& entry) { return entry.first.text() != nullptr && *entry.first.text() == key; });
  return found == entries.end() ? nullptr : &found->second;
}

void Dict::set(Value key, Value value) {
  if (auto* known = const_cast<Value*>(find(key))) {
    *known = std::move(value);
  } else {
    entries.emplace_back(std::move(key), std::move(value));
  }
}

std::optional<std::int64_t> Value::integer() const {
  if (const auto* number = std::get_if<std::int64_t>(&data_)) return *number;
  if (const auto* truth = std::get_if<bool>(&data_)) return *truth ? 1 : 0;
  return std::nullopt;
}

std::optional<double> Value::number() const {
  if (const auto* number = std::get_if<double>(&data_)) return *number;
  if (const auto whole = integer()) return static_cast<double>(*whole);
  return std::nullopt;
}

Value Object::call(const Arguments& /*arguments*/) { fail("'{}' object is not callable", type()); }

std::optional<Value> Object::attribute(std::string_view /*name*/) { return std::nullopt; }

std::string type_of(const Value& value) {
  static constexpr std::array<std::string_view, 10> names = {"Undefined", "NoneType", "bool", "int",  "float",
                                                             "str",       "Markup",   "list", "dict", "object"};
  static constexpr std::array<std::string_view, 7> sequences = {"list",        "tuple",      "range",    "dict_keys",
                                                                "dict_values", "dict_items", "generator"};
  if (const Sequence* sequence = value.sequence())
    return std::string(sequences[static_cast<std::size_t>(sequence->kind)]);
  if (const Object* object = value.object()) return object->type();
  return std::string(names[value.data().index()]);
}

bool truth(const Value& value) {
  if (value.is<Undefined>() || value.is<None>()) return false;
  if (const auto number = value.number()) return *number != 0;
  if (const std::string* text = value.text()) return !text->empty();
  if (const auto* markup = std::get_if<Markup>(&value.data())) return !markup->text.empty();
  if (const Dict* dict = value.dict()) return !dict->entries.empty();
  if (const Sequence* sequence = value.sequence()) {
    return sequence->kind == Sequence::Kind::iterator || !sequence->elements.empty();
  }
  return true;
}

std::string repr(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number > 0 ? "inf" : "-inf";
  std::array<char, 400> digits{};
  char* const end = digits.data() + digits.size();
  const auto scientific = std::to_chars(digits.data(), end, number, std::chars_format::scientific);
  const std::string text(digits.data(), scientific.ptr);
  const int exponent = std::stoi(text.substr(text.find('e') + 1));
  if (number != 0 && (exponent < -4 || exponent >= 16)) return text;
  std::string plain(digits.data(), std::to_chars(digits.data(), end, number, std::chars_format::fixed).ptr);
  return plain.find('.') == std::string::npos ? plain + ".0" : plain;
}

std::string repr(std::string_view text) {
  const char quote = text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string result(1, quote);
  for (const char32_t point : code_points(text)) {
    const auto number = static_cast<unsigned>(point);
    if (point == static_cast<char32_t>(quote) || point == '\\') {
      result += '\\';
      result += static_cast<char>(point);
    } else if (point == '\n' || point == '\r' || point == '\t') {
      result += point == '\n' ? "\\n" : point == '\r' ? "\\r" : "\\t";
    } else if (is_printable(point)) {
      append_utf8(result, point);
    } else {
      result += number < 0x100     ? std::format("\\x{:02x}", number)
                : number < 0x10000 ? std::format("\\u{:04x}", number)
                                   : std::format("\\U{:08x}", number);
    }
  }
  return result + quote;
}

std::string repr(const Value& value) {
  if (value.is<Undefined>()) return "Undefined";
  if (value.is<None>()) return "None";
  if (value.is<bool>()) return truth(value) ? "True" : "False";
  if (const auto whole = value.integer()) return std::to_string(*whole);
  if (const auto number = value.number()) return repr(*number);
  if (const std::string* text = value.text()) return repr(std::string_view(*text));
  if (const Sequence* sequence = value.sequence()) return sequence_text(*sequence);
  if (const Dict* dict = value.dict()) return dict_text(*dict);
  fail("a {} as a text is not supported", type_of(value));
}

std::string to_string(const Value& value) {
  if (value.is<Undefined>()) return {};
  if (const std::string* text = value.text()) return *text;
  if (const auto* markup = std::get_if<Markup>(&value.data())) return markup->text;
  return repr(value);
}

std::string soft_text(const Value& value) {
  if (value.is<Markup>()) fail("what follows the filters safe and escape is not supported, but printing it");
  return to_string(value);
}

bool equal(const Value& a, const Value& b) {
  if (const auto x = a.integer()) {
    if (const auto y = b.integer()) return *x == *y;
  }
  if (const auto x = a.number()) return b.number() && *x == *b.number();
  if (a.data().index() != b.data().index()) return false;
  if (a.is<Undefined>() || a.is<None>()) return true;
  if (const std::string* text = a.text()) return *text == *b.text();
  if (a.is<Markup>()) return soft_text(a) == soft_text(b);
  if (const Dict* dict = a.dict()) return dict == b.dict() || equal_dicts(*dict, *b.dict());
  if (a.object() != nullptr) return a.object() == b.object();
  if (a.sequence() == b.sequence()) return true;
  if (!same_order(a, b)) {
    if (a.sequence()->kind == b.sequence()->kind) fail("'==' between two {} is not supported", type_of(a));
    return false;
  }
  return std::ranges::equal(a.sequence()->elements, b.sequence()->elements,
                            [](const Value& x, const Value& y) { return equal(x, y); });
}

bool less(const Value& a, const Value& b) {
  if (a.integer() && b.integer()) return *a.integer() < *b.integer();
  if (a.number() && b.number()) return *a.number() < *b.number();
  if (a.text() != nullptr && b.text() != nullptr) return *a.text() < *b.text();  // UTF-8 keeps the order
  if (const Undefined* nothing = a.undefined() != nullptr ? a.undefined() : b.undefined())
    fail("{}", nothing->complaint);
  if (same_order(a, b)) {
    const Items& x = a.sequence()->elements;
    const Items& y = b.sequence()->elements;
    const auto [left, right] = std::ranges::mismatch(x, y, [](const Value& p, const Value& q) { return equal(p, q); });
    return right != y.end() && (left == x.end() || less(*left, *right));
  }
  fail("'<' not supported between instances of '{}' and '{}'", type_of(a), type_of(b));
}

Items elements_of(const Value& value) {
  if (value.is<Undefined>()) return {};
  if (const std::string* text = value.text()) {
    Items items;
    for (const char32_t point : code_points(*text)) items.emplace_back(to_utf8({&point, 1}));
    return items;
  }
  if (const Dict* dict = value.dict()) {
    Items items;
    for (const auto& [key, unused] : dict->entries) items.push_back(key);
    return items;
  }
  if (Sequence* sequence = value.sequence()) {
    if (sequence->kind != Sequence::Kind::iterator) return sequence->elements;
    if (std::exchange(sequence->spent, true)) return {};
    return sequence->elements;
  }
  fail("'{}' object is not iterable", type_of(value));
}

std::int64_t length_of(const Value& value) {
  if (value.is<Undefined>()) return 0;
  if (const std::string* text = value.text()) return static_cast<std::int64_t>(count_code_points(*text));
  if (const Dict* dict = value.dict()) return static_cast<std::int64_t>(dict->entries.size());
  const Sequence* sequence = value.sequence();
  if (sequence == nullptr || sequence->kind == Sequence::Kind::iterator) {
    fail("object of type '{}' has no len()", type_of(value));
  }
  return static_cast<std::int64_t>(sequence->elements.size());
}

}  // namespace grist::text::jinja
