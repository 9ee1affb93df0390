// Values as Python's json.dumps() writes them.
#include <grist/text/jinja/value.hpp>

#include <grist/text/unicode.hpp>

#include <algorithm>
#include <cmath>

namespace grist::text::jinja {
namespace {

constexpr std::size_t max_text = std::size_t{1} << 26;

bool is_array(const Value& value, Sequence::Kind kind) {
  return value.sequence() != nullptr && value.sequence()->kind == kind;
}

void append_json_text(std::string& out, std::string_view text, bool ascii) {
  out += '"';
  for (const char32_t point : code_points(text)) {
    switch (point) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\f':
        out += "\\f";
        break;
      case '\b':
        out += "\\b";
        break;
      default:
        if (point >= 0x10000 && ascii) {
          out += std::format("\\u{:04x}\\u{:04x}", 0xD800 + ((static_cast<unsigned>(point) - 0x10000) >> 10),
                             0xDC00 + (static_cast<unsigned>(point) & 0x3FF));
        } else if (point < 0x20 || (point >= 0x7F && ascii)) {
          if (point == 0x7F)
            out += '\x7F';
          else
            out += std::format("\\u{:04x}", static_cast<unsigned>(point));
        } else {
          append_utf8(out, point);
        }
    }
  }
  out += '"';
}

std::string json_key(const Value& key) {
  if (const std::string* text = key.text()) return *text;
  if (key.is<None>()) return "null";
  if (key.is<bool>()) return truth(key) ? "true" : "false";
  if (key.number()) return repr(key);
  fail("keys must be str, int, float, bool or None, not {}", type_of(key));
}

class JsonWriter {
public:
  explicit JsonWriter(const JsonStyle& style) : style_(style) {}

  void write(const Value& value, int depth) {
    if (depth > 100) fail("tojson: nested deeper than 100");
    if (value.is<None>()) {
      text += "null";
    } else if (value.is<bool>()) {
      text += truth(value) ? "true" : "false";
    } else if (const auto* number = std::get_if<double>(&value.data())) {
      text += std::isnan(*number)   ? "NaN"
              : std::isinf(*number) ? (*number > 0 ? "Infinity" : "-Infinity")
                                    : repr(*number);
    } else if (value.integer()) {
      text += repr(value);
    } else if (const std::string* words = value.text()) {
      append_json_text(text, *words, style_.ascii);
    } else if (is_array(value, Sequence::Kind::list) || is_array(value, Sequence::Kind::tuple)) {
      write_items(value.sequence()->elements, depth);
    } else if (const Dict* dict = value.dict()) {
      write_dict(*dict, depth);
    } else {
      fail("Object of type {} is not JSON serializable", type_of(value));
    }
    if (text.size() > max_text) fail("a text of the template passes {} bytes", max_text);
  }

  std::string text;

private:
  void new_line(int depth) {
    if (!style_.indent) return;
    text += '\n';
    for (int i = 0; i < depth; ++i) text += *style_.indent;
  }

  void write_items(const Items& items, int depth) {
    if (items.empty()) {
      text += "[]";
      return;
    }
    text += '[';
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) text += style_.item_separator;
      new_line(depth + 1);
      write(items[i], depth + 1);
    }
    new_line(depth);
    text += ']';
  }

  void write_dict(const Dict& dict, int depth) {
    if (dict.entries.empty()) {
      text += "{}";
      return;
    }
    auto entries = dict.entries;
    if (style_.sort_keys) {
      std::ranges::stable_sort(entries, [](const auto& a, const auto& b) { return less(a.first, b.first); });
    }
    text += '{';
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) text += style_.item_separator;
      new_line(depth + 1);
      append_json_text(text, json_key(entries[i].first), style_.ascii);
      text += style_.key_separator;
      write(entries[i].second, depth + 1);
    }
    new_line(depth);
    text += '}';
  }

  const JsonStyle& style_;
};

}  // namespace

std::string to_json(const Value& value, const JsonStyle& style) {
  JsonWriter writer(style);
  writer.write(value, 0);
  return std::move(writer.text);
}

}  // namespace grist::text::jinja
