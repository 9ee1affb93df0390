// Python's two ways to format: "%s" % values, and "{}".format(values).
#include <grist/text/jinja/builtins.hpp>

#include <grist/text/unicode.hpp>

#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdio>

namespace grist::text::jinja {
namespace {

constexpr int max_width = 1 << 16;

/// A number as C's printf writes it, which agrees with Python for these kinds.
std::string printed(double number, char kind, int precision) {
  const std::array<char, 5> format = {'%', '.', '*', kind, 0};
  std::array<char, 1024> text{};
  const int length = std::snprintf(text.data(), text.size(), format.data(), precision, number);
  if (length < 0 || static_cast<std::size_t>(length) >= text.size())
    fail("a number with {} digits is not supported", precision);
  return text.data();
}

struct Field {
  bool left = false, center = false, zero = false, plus = false, space = false, comma = false;
  char fill = ' ';
  int width = 0, precision = -1;
};

int read_number(std::string_view text, std::size_t& at, int otherwise) {
  int number = otherwise;
  const auto [end, error] = std::from_chars(text.data() + at, text.data() + text.size(), number);
  if (error == std::errc::result_out_of_range || number > max_width) fail("a format's width is above {}", max_width);
  at = static_cast<std::size_t>(end - text.data());
  return number;
}

/// Fills a text up to the field's width.
std::string padded(std::string text, const Field& field, bool number) {
  const auto size = static_cast<int>(count_code_points(text));
  if (size >= field.width) return text;
  const auto room = static_cast<std::size_t>(field.width - size);
  if (field.zero && number && !field.left) {
    const std::size_t sign = !text.empty() && (text[0] == '-' || text[0] == '+' || text[0] == ' ') ? 1 : 0;
    return text.insert(sign, room, '0');
  }
  if (field.left) return text + std::string(room, field.fill);
  if (field.center) return std::string(room / 2, field.fill) + text + std::string(room - room / 2, field.fill);
  return std::string(room, field.fill) + text;
}

std::string with_sign(std::string number, const Field& field) {
  if (number.starts_with('-')) return number;
  return (field.plus ? "+" : field.space ? " " : "") + number;
}

std::string with_commas(std::string number) {
  const std::size_t start = number.starts_with('-') ? 1 : 0;
  std::size_t end = std::min(number.find('.'), number.size());
  while (end > start + 3) number.insert(end -= 3, 1, ',');
  return number;
}

std::string in_base(std::int64_t number, char kind) {
  std::array<char, 80> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number,
                                 kind == 'o'   ? 8
                                 : kind == 'b' ? 2
                                               : 16);
  std::string text(digits.data(), end.ptr);
  if (kind == 'X') text = to_upper(text);
  return text;
}

std::string cut(const std::string& text, int precision) {
  const std::u32string points = code_points(text);
  return precision < 0 || points.size() <= static_cast<std::size_t>(precision)
             ? text
             : to_utf8(std::u32string_view(points).substr(0, static_cast<std::size_t>(precision)));
}

std::string percent_value(const Value& value, char kind, const Field& field) {
  const auto wrong = [&](const char* wanted) {
    fail("%{} format: {} is required, not {}", kind, wanted, type_of(value));
  };
  switch (kind) {
    case 's':
      return padded(cut(soft_text(value), field.precision), field, false);
    case 'r':
      return padded(cut(repr(value), field.precision), field, false);
    case 'd':
    case 'i':
    case 'u': {
      if (!value.number()) wrong("a real number");
      if (field.precision >= 0) fail("a precision of '%{}' is not supported", kind);
      if (!value.integer() && std::abs(*value.number()) > 9e18)
        fail("a number does not fit 64 bits, which is not supported");
      const std::int64_t number = value.integer() ? *value.integer() : static_cast<std::int64_t>(*value.number());
      return padded(with_sign(std::to_string(number), field), field, true);
    }
    case 'x':
    case 'X':
    case 'o':
      if (!value.integer()) wrong("an integer");
      return padded(with_sign(in_base(*value.integer(), kind), field), field, true);
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
      if (!value.number()) wrong("a real number");
      return padded(with_sign(printed(*value.number(), kind, field.precision < 0 ? 6 : field.precision), field), field,
                    true);
    default:
      fail("unsupported format character '{}'", kind);
  }
}

Value element(const Value& value, std::size_t index) { return value.sequence()->elements[index]; }

/// A value in a format such as ">10.2f".
std::string brace_value(const Value& value, std::string_view spec) {
  if (spec.empty()) return soft_text(value);
  Field field;
  std::size_t at = 0;
  const auto is_alignment = [&](std::size_t i) {
    return i < spec.size() && std::string_view("<>^=").find(spec[i]) != std::string_view::npos;
  };
  const bool number = value.number().has_value();
  field.left = !number;
  if (static_cast<unsigned char>(spec[0]) >= 0x80) fail("the format '{}' is not supported", spec);
  if (is_alignment(1)) field.fill = spec[at++];
  if (is_alignment(at)) {
    field.left = spec[at] == '<';
    field.center = spec[at] == '^';
    field.zero = spec[at] == '=';
    if (field.zero) fail("the format '{}' is not supported", spec);
    ++at;
  }
  const auto take = [&](char c) { return at < spec.size() && spec[at] == c && (++at, true); };
  field.plus = take('+');
  field.space = take(' ');
  take('-');
  field.zero = number && take('0');
  field.width = read_number(spec, at, 0);
  field.comma = take(',');
  if (take('.')) field.precision = read_number(spec, at, -1);
  const char kind = at < spec.size() ? spec[at++] : number ? (value.integer() ? 'd' : '?') : 's';
  if (at != spec.size() || value.is<bool>()) fail("the format '{}' of a {} is not supported", spec, type_of(value));
  if (kind == 's' && value.text() != nullptr && !field.comma)
    return padded(cut(*value.text(), field.precision), field, false);
  std::string text;
  if (value.integer() && (kind == 'd' || kind == 'x' || kind == 'X' || kind == 'o' || kind == 'b') &&
      field.precision < 0) {
    text = kind == 'd' ? std::to_string(*value.integer()) : in_base(*value.integer(), kind);
  } else if (number && (kind == 'f' || kind == 'F' || kind == 'e' || kind == 'E' || kind == '%')) {
    const double scaled = *value.number() * (kind == '%' ? 100 : 1);
    text =
        printed(scaled, kind == '%' ? 'f' : kind, field.precision < 0 ? 6 : field.precision) + (kind == '%' ? "%" : "");
  } else {
    fail("the format '{}' of a {} is not supported", spec, type_of(value));
  }
  if (field.comma && (kind == 'd' || kind == 'f'))
    text = with_commas(std::move(text));
  else if (field.comma || (field.zero && field.center))
    fail("the format '{}' is not supported", spec);
  return padded(with_sign(std::move(text), field), field, true);
}

Value named(const Arguments& values, std::string_view name) {
  for (const auto& [key, value] : values.keywords) {
    if (key == name) return value;
  }
  fail("format: there is no argument '{}'", name);
}

}  // namespace

std::string percent_format(const std::string& format, const Value& values) {
  const bool tuple = values.sequence() != nullptr && values.sequence()->kind == Sequence::Kind::tuple;
  std::size_t used = 0;
  bool by_name = false;
  const auto next = [&]() -> Value {
    if (!tuple) {
      if (used++ > 0) fail("not enough arguments for format string");
      return values;
    }
    if (used >= values.sequence()->elements.size()) fail("not enough arguments for format string");
    return element(values, used++);
  };
  std::string result;
  for (std::size_t at = 0; at < format.size();) {
    if (format[at] != '%') {
      result += format[at++];
      continue;
    }
    Field field;
    std::optional<Value> value;
    if (++at < format.size() && format[at] == '(') {
      const std::size_t close = format.find(')', at);
      if (close == std::string::npos) fail("incomplete format key");
      if (values.dict() == nullptr) fail("format requires a mapping");
      const Value* found = values.dict()->find_text(std::string_view(format).substr(at + 1, close - at - 1));
      if (found == nullptr) fail("'{}' is not in the mapping", format.substr(at + 1, close - at - 1));
      value = *found;
      by_name = true;
      at = close + 1;
    }
    for (; at < format.size() && std::string_view("-+ 0#").find(format[at]) != std::string_view::npos; ++at) {
      if (format[at] == '#') fail("the flag '#' of a format is not supported");
      (format[at] == '-'   ? field.left
       : format[at] == '+' ? field.plus
       : format[at] == ' ' ? field.space
                           : field.zero) = true;
    }
    if (at < format.size() && format[at] == '*') fail("'*' in a format is not supported");
    field.width = read_number(format, at, 0);
    if (at < format.size() && format[at] == '.') field.precision = read_number(format, ++at, 0);
    if (at >= format.size()) fail("incomplete format");
    const char kind = format[at++];
    if (kind == '%') {
      result += '%';
      continue;
    }
    if (!value) value = next();
    result += percent_value(*value, kind, field);
  }
  const bool left = tuple ? used < values.sequence()->elements.size() : used == 0 && values.dict() == nullptr;
  if (left && !by_name && values.sequence() == nullptr) fail("not all arguments converted during string formatting");
  if (left && tuple) fail("not all arguments converted during string formatting");
  return result;
}

std::string brace_format(const std::string& format, const Arguments& values) {
  std::string result;
  std::size_t next = 0;
  for (std::size_t at = 0; at < format.size(); ++at) {
    const char c = format[at];
    const bool twice = at + 1 < format.size() && format[at + 1] == c;
    if (c != '{' && c != '}') {
      result += c;
      continue;
    }
    if (twice) {
      result += c;
      ++at;
      continue;
    }
    const std::size_t close = format.find('}', at);
    if (c == '}' || close == std::string::npos) fail("Single '{}' encountered in format string", c);
    const std::string_view field = std::string_view(format).substr(at + 1, close - at - 1);
    at = close;
    const std::size_t colon = std::min(field.find(':'), field.size());
    std::string_view name = field.substr(0, colon);
    char conversion = 's';
    bool converts = false;
    if (const std::size_t mark = name.find('!'); mark != std::string_view::npos) {
      converts = true;
      if (mark + 2 != name.size() || (name[mark + 1] != 's' && name[mark + 1] != 'r'))
        fail("the field '{}' is not supported", field);
      conversion = name[mark + 1];
      name = name.substr(0, mark);
    }
    if (name.find_first_of(".[{") != std::string_view::npos || field.find('{') != std::string_view::npos) {
      fail("the field '{}' of a format is not supported", field);
    }
    Value value;
    const bool digits = !name.empty() && name.find_first_not_of("0123456789") == std::string_view::npos;
    if (name.empty() || digits) {
      if (digits && next > 0) fail("cannot switch from automatic field numbering to manual field specification");
      std::size_t start = 0;
      const std::size_t index = name.empty() ? next++ : static_cast<std::size_t>(read_number(name, start, 0));
      if (index >= values.positional.size()) fail("Replacement index {} out of range for positional args tuple", index);
      value = values.positional[index];
    } else {
      value = named(values, name);
    }
    if (converts) value = conversion == 'r' ? repr(value) : soft_text(value);
    result += brace_value(value, colon < field.size() ? field.substr(colon + 1) : std::string_view());
  }
  return result;
}

}  // namespace grist::text::jinja
