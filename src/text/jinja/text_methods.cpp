// The methods of Python's str, over code points.
#include <grist/text/jinja/builtins.hpp>

#include <grist/text/unicode.hpp>

#include <algorithm>
#include <functional>
#include <map>

namespace grist::text::jinja {
namespace {

using Points = std::u32string;
using Method = Value (*)(const Points& text, const Arguments& arguments);

Points points_of(const Value& value, std::string_view what) {
  if (value.text() == nullptr) fail("{}: found {}, expected str", what, type_of(value));
  return code_points(*value.text());
}

/// The part of a text between optional start and stop.
std::pair<std::size_t, std::size_t> window(const Bound& given, std::size_t first, std::size_t size) {
  const auto place = [&](std::size_t parameter, std::int64_t otherwise) {
    const Value* value = given.find(parameter);
    std::int64_t at = value == nullptr || value->is<None>() ? otherwise : given.integer(parameter, 0);
    if (at < 0) at = std::max<std::int64_t>(at + static_cast<std::int64_t>(size), 0);
    return static_cast<std::size_t>(at);
  };
  return {place(first, 0), std::min(place(first + 1, static_cast<std::int64_t>(size)), size)};
}

Value find(const Points& text, const Arguments& arguments, const char* name, bool last, bool must) {
  const Bound given(name, arguments, {"sub", "start", "end"}, 1);
  const Points sought = points_of(given[0], name);
  const auto [begin, end] = window(given, 1, text.size());
  std::size_t found = Points::npos;
  if (begin <= end) {
    const Points part = text.substr(begin, end - begin);
    found = last ? part.rfind(sought) : part.find(sought);
  }
  if (found == Points::npos && must) fail("substring not found");
  return found == Points::npos ? Value(-1) : Value(begin + found);
}

Value begins_or_ends(const Points& text, const Arguments& arguments, const char* name, bool ends) {
  const Bound given(name, arguments, {"prefix", "start", "end"}, 1);
  const auto [begin, end] = window(given, 1, text.size());
  if (begin > end) return false;
  const Points part = text.substr(begin, end - begin);
  const auto matches = [&](const Value& value) {
    const Points sought = points_of(value, name);
    return ends ? part.ends_with(sought) : part.starts_with(sought);
  };
  const Sequence* several = given[0].sequence();
  if (several != nullptr && several->kind == Sequence::Kind::tuple) {
    return std::ranges::any_of(several->elements, matches);
  }
  return matches(given[0]);
}

/// Without a separator: words between white space.
Value split_words(const Points& text, std::int64_t most, bool from_right) {
  std::vector<Points> words;
  if (!from_right) {
    for (std::size_t at = 0;;) {
      while (at < text.size() && is_space(text[at])) ++at;
      if (at == text.size()) break;
      std::size_t end = at;
      while (end < text.size() && !is_space(text[end])) ++end;
      if (most >= 0 && static_cast<std::int64_t>(words.size()) == most) end = text.size();
      words.push_back(text.substr(at, end - at));
      at = end;
    }
  } else {
    for (std::size_t end = text.size();;) {
      while (end > 0 && is_space(text[end - 1])) --end;
      if (end == 0) break;
      std::size_t at = end;
      while (at > 0 && !is_space(text[at - 1])) --at;
      if (most >= 0 && static_cast<std::int64_t>(words.size()) == most) at = 0;
      words.insert(words.begin(), text.substr(at, end - at));
      end = at;
    }
  }
  Items items;
  for (const Points& word : words) items.emplace_back(to_utf8(word));
  return Value::list(std::move(items));
}

Value split(const Points& text, const Arguments& arguments, const char* name, bool from_right) {
  const Bound given(name, arguments, {"sep", "maxsplit"});
  const std::int64_t most = given.integer(1, -1);
  if (given.find(0) == nullptr || given[0].is<None>()) return split_words(text, most, from_right);
  const Points separator = points_of(given[0], name);
  if (separator.empty()) fail("empty separator");
  std::vector<Points> parts;
  Points rest = text;
  while (most < 0 || static_cast<std::int64_t>(parts.size()) < most) {
    const std::size_t found = from_right ? rest.rfind(separator) : rest.find(separator);
    if (found == Points::npos) break;
    const Points after = rest.substr(found + separator.size());
    const Points before = rest.substr(0, found);
    parts.push_back(from_right ? after : before);
    rest = from_right ? before : after;
  }
  parts.push_back(rest);
  if (from_right) std::ranges::reverse(parts);
  Items items;
  for (const Points& part : parts) items.emplace_back(to_utf8(part));
  return Value::list(std::move(items));
}

Value partition(const Points& text, const Arguments& arguments, const char* name, bool last) {
  const Bound given(name, arguments, {"sep"}, 1);
  const Points separator = points_of(given[0], name);
  if (separator.empty()) fail("empty separator");
  const std::size_t found = last ? text.rfind(separator) : text.find(separator);
  const auto part = [](Points points) { return Value(to_utf8(points)); };
  if (found == Points::npos) return last ? Value::tuple({"", "", part(text)}) : Value::tuple({part(text), "", ""});
  return Value::tuple({part(text.substr(0, found)), part(separator), part(text.substr(found + separator.size()))});
}

Value replace(const Points& text, const Arguments& arguments) {
  const Bound given("replace", arguments, {"old", "new", "count"}, 2);
  const Points from = points_of(given[0], "replace");
  const Points to = points_of(given[1], "replace");
  std::int64_t left = given.integer(2, -1);
  Points result;
  std::size_t at = 0;
  if (from.empty()) {
    for (; left != 0 && at <= text.size(); ++at, --left) {
      result += to;
      if (at < text.size()) result += text[at];
    }
    return to_utf8(at < text.size() ? result + text.substr(at) : result);
  }
  for (std::size_t found = 0; left != 0 && (found = text.find(from, at)) != Points::npos; --left) {
    result += text.substr(at, found - at) + to;
    at = found + from.size();
  }
  return to_utf8(result + text.substr(at));
}

Value justified(const Points& text, const Arguments& arguments, const char* name, int side) {
  const Bound given(name, arguments, {"width", "fillchar"}, 1);
  const std::int64_t width = given.integer(0, 0);
  const Points fill = given.find(1) == nullptr ? U" " : points_of(given[1], name);
  if (fill.size() != 1) fail("The fill character must be exactly one character long");
  if (width > 1 << 20) fail("{}: a width of {} is not supported", name, width);
  const std::int64_t room = std::max<std::int64_t>(width - std::ssize(text), 0);
  // Where both sides cannot have as much, Python gives more to the left of texts of odd width.
  const std::int64_t left = side < 0 ? 0 : side > 0 ? room : room / 2 + (room & width & 1);
  return to_utf8(Points(static_cast<std::size_t>(left), fill[0]) + text +
                 Points(static_cast<std::size_t>(room - left), fill[0]));
}

Value zero_filled(const Points& text, const Arguments& arguments) {
  const Bound given("zfill", arguments, {"width"}, 1);
  const std::int64_t width = std::min<std::int64_t>(given.integer(0, 0), 1 << 20);
  const std::size_t sign = !text.empty() && (text[0] == '-' || text[0] == '+') ? 1 : 0;
  const std::int64_t room = std::max<std::int64_t>(width - std::ssize(text), 0);
  return to_utf8(text.substr(0, sign) + Points(static_cast<std::size_t>(room), U'0') + text.substr(sign));
}

Value join(const Points& text, const Arguments& arguments) {
  const Bound given("join", arguments, {"iterable"}, 1);
  const std::string separator = to_utf8(text);
  std::string result;
  bool first = true;
  for (const Value& item : elements_of(given[0])) {
    if (item.text() == nullptr) fail("sequence item: expected str instance, {} found", type_of(item));
    if (!std::exchange(first, false)) result += separator;
    result += *item.text();
  }
  return result;
}

Value title(const Points& text, const Arguments& arguments) {
  const Bound none("title", arguments, {});
  std::string result;
  bool inside = false;
  for (const char32_t point : text) {
    result += inside ? to_lower(to_utf8({&point, 1})) : to_title(point);
    inside = is_cased(point);
  }
  return result;
}

Value swap_case(const Points& text, const Arguments& arguments) {
  const Bound none("swapcase", arguments, {});
  std::string result;
  for (const char32_t point : text) {
    const std::string one = to_utf8({&point, 1});
    result += is_upper(point) ? to_lower(one) : is_lower(point) ? to_upper(one) : one;
  }
  return result;
}

bool all(const Points& text, bool (*holds)(char32_t)) { return !text.empty() && std::ranges::all_of(text, holds); }

bool has_case(const Points& text, bool (*right)(char32_t), bool (*wrong)(char32_t)) {
  return std::ranges::any_of(text, right) && std::ranges::none_of(text, wrong);
}

Value strip_points(const Points& text, const Arguments& arguments, const char* name, bool left, bool right) {
  const Bound given(name, arguments, {"chars"});
  return strip(to_utf8(text), given.find(0), left, right);
}

Value without(const Points& text, const Arguments& arguments, const char* name, bool at_end) {
  const Bound given(name, arguments, {"affix"}, 1);
  const Points affix = points_of(given[0], name);
  if (at_end) return to_utf8(text.ends_with(affix) ? text.substr(0, text.size() - affix.size()) : text);
  return to_utf8(text.starts_with(affix) ? text.substr(affix.size()) : text);
}

Value count(const Points& text, const Arguments& arguments) {
  const Bound given("count", arguments, {"sub", "start", "end"}, 1);
  const Points sought = points_of(given[0], "count");
  const auto [begin, end] = window(given, 1, text.size());
  if (begin > end) return 0;
  if (sought.empty()) return end - begin + 1;
  const Points part = text.substr(begin, end - begin);
  std::int64_t times = 0;
  for (std::size_t at = 0; (at = part.find(sought, at)) != Points::npos; at += sought.size()) ++times;
  return times;
}

Value split_lines(const Points& text, const Arguments& arguments) {
  const Bound given("splitlines", arguments, {"keepends"});
  Items items;
  for (const std::string& line : lines_of(to_utf8(text), given.flag(0, false))) items.emplace_back(line);
  return Value::list(std::move(items));
}

template <bool (*holds)(char32_t)>
Value every(const Points& text, const Arguments& arguments) {
  const Bound none("a test of characters", arguments, {});
  return all(text, holds);
}

template <std::string (*change)(std::string_view)>
Value changed(const Points& text, const Arguments& arguments) {
  const Bound none("a change of case", arguments, {});
  return change(to_utf8(text));
}

const std::map<std::string_view, Method>& methods() {
  static const std::map<std::string_view, Method> table = {
      {"upper", changed<to_upper>},
      {"lower", changed<to_lower>},
      {"casefold", changed<to_fold>},
      {"title", title},
      {"swapcase", swap_case},
      {"capitalize",
       [](const Points& t, const Arguments& a) -> Value {
         return Bound("capitalize", a, {}), capitalized(to_utf8(t));
       }},
      {"strip", [](const Points& t, const Arguments& a) { return strip_points(t, a, "strip", true, true); }},
      {"lstrip", [](const Points& t, const Arguments& a) { return strip_points(t, a, "lstrip", true, false); }},
      {"rstrip", [](const Points& t, const Arguments& a) { return strip_points(t, a, "rstrip", false, true); }},
      {"split", [](const Points& t, const Arguments& a) { return split(t, a, "split", false); }},
      {"rsplit", [](const Points& t, const Arguments& a) { return split(t, a, "rsplit", true); }},
      {"splitlines", split_lines},
      {"partition", [](const Points& t, const Arguments& a) { return partition(t, a, "partition", false); }},
      {"rpartition", [](const Points& t, const Arguments& a) { return partition(t, a, "rpartition", true); }},
      {"replace", replace},
      {"join", join},
      {"count", count},
      {"find", [](const Points& t, const Arguments& a) { return find(t, a, "find", false, false); }},
      {"rfind", [](const Points& t, const Arguments& a) { return find(t, a, "rfind", true, false); }},
      {"index", [](const Points& t, const Arguments& a) { return find(t, a, "index", false, true); }},
      {"rindex", [](const Points& t, const Arguments& a) { return find(t, a, "rindex", true, true); }},
      {"startswith", [](const Points& t, const Arguments& a) { return begins_or_ends(t, a, "startswith", false); }},
      {"endswith", [](const Points& t, const Arguments& a) { return begins_or_ends(t, a, "endswith", true); }},
      {"removeprefix", [](const Points& t, const Arguments& a) { return without(t, a, "removeprefix", false); }},
      {"removesuffix", [](const Points& t, const Arguments& a) { return without(t, a, "removesuffix", true); }},
      {"ljust", [](const Points& t, const Arguments& a) { return justified(t, a, "ljust", -1); }},
      {"rjust", [](const Points& t, const Arguments& a) { return justified(t, a, "rjust", 1); }},
      {"center", [](const Points& t, const Arguments& a) { return justified(t, a, "center", 0); }},
      {"zfill", zero_filled},
      {"isalpha", every<is_alphabetic>},
      {"isalnum", every<is_alphanumeric>},
      {"isdecimal", every<is_decimal>},
      {"isdigit", every<is_digit>},
      {"isnumeric", every<is_numeric>},
      {"isspace", every<is_space>},
      {"isprintable", [](const Points& t, const Arguments&) -> Value { return std::ranges::all_of(t, is_printable); }},
      {"isascii",
       [](const Points& t, const Arguments&) -> Value {
         return std::ranges::all_of(t, [](char32_t c) { return c < 128; });
       }},
      {"isupper", [](const Points& t, const Arguments&) -> Value { return has_case(t, is_upper, is_lower); }},
      {"islower", [](const Points& t, const Arguments&) -> Value { return has_case(t, is_lower, is_upper); }},
  };
  return table;
}

}  // namespace

std::string strip(const std::string& text, const Value* characters, bool left, bool right) {
  std::function<bool(char32_t)> goes = is_space;
  if (characters != nullptr && !characters->is<None>()) {
    goes = [set = points_of(*characters, "strip")](char32_t point) { return set.find(point) != Points::npos; };
  }
  const Points points = code_points(text);
  std::size_t begin = 0;
  std::size_t end = points.size();
  while (left && begin < end && goes(points[begin])) ++begin;
  while (right && begin < end && goes(points[end - 1])) --end;
  return to_utf8(std::u32string_view(points).substr(begin, end - begin));
}

std::string capitalized(const std::string& text) {
  const Points points = code_points(text);
  return points.empty() ? "" : to_title(points[0]) + to_lower(to_utf8(std::u32string_view(points).substr(1)));
}

std::vector<std::string> lines_of(const std::string& text, bool keep_ends) {
  static constexpr std::u32string_view ends = U"\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029";
  std::vector<std::string> lines;
  const Points points = code_points(text);
  for (std::size_t at = 0; at < points.size();) {
    std::size_t end = points.find_first_of(ends, at);
    std::size_t next = end == Points::npos ? points.size() : end + 1;
    end = std::min(end, points.size());
    if (next < points.size() && points[next - 1] == '\r' && points[next] == '\n') ++next;
    lines.push_back(to_utf8(std::u32string_view(points).substr(at, (keep_ends ? next : end) - at)));
    at = next;
  }
  return lines;
}

Value call_text_method(const std::string& text, const std::string& name, const Arguments& arguments) {
  if (name == "format") return brace_format(text, arguments);
  const auto found = methods().find(name);
  if (found == methods().end()) fail("the method '{}' of str is not supported", name);
  return found->second(code_points(text), arguments);
}

}  // namespace grist::text::jinja
