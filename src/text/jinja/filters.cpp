// Jinja2's filters, and transformers' tojson.
#include <grist/text/jinja/builtins.hpp>
#include <grist/text/jinja/filters.hpp>

#include <grist/text/unicode.hpp>

#include <algorithm>
#include <map>
#include <set>

namespace grist::text::jinja {
namespace {

using Filter = Value (*)(const Value& value, const Arguments& arguments);

Value lowered(const Value& value) { return value.text() == nullptr ? value : Value(to_lower(*value.text())); }

/// The value that an element is sorted, grouped or summed by. `attribute` and `otherwise` may be null.
Value key_of(const Value& element, const Value* attribute, const Value* otherwise, bool case_sensitive) {
  Value key = attribute == nullptr || attribute->is<None>() ? element : follow(element, *attribute);
  if (key.is<Undefined>() && otherwise != nullptr) key = *otherwise;
  return case_sensitive ? key : lowered(key);
}

Value length(const Value& value, const Arguments& arguments) {
  const Bound none("length", arguments, {});
  return length_of(value);
}

Value default_value(const Value& value, const Arguments& arguments) {
  const Bound given("default", arguments, {"default_value", "boolean"});
  const bool missing = value.is<Undefined>() || (given.flag(1, false) && !truth(value));
  return !missing ? value : given.find(0) != nullptr ? given[0] : Value("");
}

Value join(const Value& value, const Arguments& arguments) {
  const Bound given("join", arguments, {"d", "attribute"});
  const std::string separator = given.text(0, "");
  std::string text;
  bool first = true;
  for (const Value& element : elements_of(value)) {
    if (!std::exchange(first, false)) text += separator;
    text += soft_text(key_of(element, given.find(1), nullptr, true));
  }
  return text;
}

Value first(const Value& value, const Arguments& arguments) {
  const Bound none("first", arguments, {});
  const Items items = elements_of(value);
  return items.empty() ? Value(Undefined{"No first item, sequence was empty."}) : items.front();
}

Value last(const Value& value, const Arguments& arguments) {
  const Bound none("last", arguments, {});
  if (value.sequence() != nullptr && value.sequence()->kind == Sequence::Kind::iterator)
    fail("'generator' object is not reversible");
  if (const Undefined* nothing = value.undefined()) fail("{}", nothing->complaint);
  const Items items = elements_of(value);
  return items.empty() ? Value(Undefined{"No last item, sequence was empty."}) : items.back();
}

Value reverse(const Value& value, const Arguments& arguments) {
  const Bound none("reverse", arguments, {});
  if (const std::string* text = value.text()) {
    std::u32string points = code_points(*text);
    std::ranges::reverse(points);
    return to_utf8(points);
  }
  if (value.is<Undefined>()) return Value::list({});
  const bool again = value.sequence() != nullptr && value.sequence()->kind == Sequence::Kind::iterator;
  Items items = elements_of(value);
  std::ranges::reverse(items);
  return again ? Value::list(std::move(items)) : Value::iterator(std::move(items));
}

Value sorted(const Value& value, const Arguments& arguments) {
  const Bound given("sort", arguments, {"reverse", "case_sensitive", "attribute"});
  if (given.find(2) != nullptr && given[2].text() != nullptr && given[2].text()->find(',') != std::string::npos) {
    fail("sort by several attributes is not supported");
  }
  const bool down = given.flag(0, false);
  const bool exact = given.flag(1, false);
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& element : elements_of(value)) {
    Value key = key_of(element, given.find(2), nullptr, exact);
    keyed.emplace_back(std::move(key), std::move(element));
  }
  std::ranges::stable_sort(
      keyed, [&](const auto& a, const auto& b) { return down ? less(b.first, a.first) : less(a.first, b.first); });
  Items items;
  for (auto& entry : keyed) items.push_back(std::move(entry.second));
  return Value::list(std::move(items));
}

Value unique(const Value& value, const Arguments& arguments) {
  const Bound given("unique", arguments, {"case_sensitive", "attribute"});
  Items seen, items;
  for (Value& element : elements_of(value)) {
    Value key = key_of(element, given.find(1), nullptr, given.flag(0, false));
    if (std::ranges::any_of(seen, [&](const Value& other) { return equal(other, key); })) continue;
    seen.push_back(std::move(key));
    items.push_back(std::move(element));
  }
  return Value::iterator(std::move(items));
}

Value grouped(const Value& value, const Arguments& arguments) {
  const Bound given("groupby", arguments, {"attribute", "default", "case_sensitive"}, 1);
  const bool exact = given.flag(2, false);
  const auto key = [&](const Value& element, bool case_sensitive) {
    return key_of(element, given.find(0), given.find(1), case_sensitive);
  };
  Items items = elements_of(value);
  std::ranges::stable_sort(items, [&](const Value& a, const Value& b) { return less(key(a, exact), key(b, exact)); });
  Items groups;
  for (std::size_t begin = 0, end = 0; begin < items.size(); begin = end) {
    while (end < items.size() && equal(key(items[begin], exact), key(items[end], exact))) ++end;
    Value group = Value::list(
        Items(items.begin() + static_cast<std::ptrdiff_t>(begin), items.begin() + static_cast<std::ptrdiff_t>(end)));
    groups.push_back(Sequence{Sequence::Kind::tuple, {key(items[begin], true), std::move(group)}, {"grouper", "list"}});
  }
  return Value::list(std::move(groups));
}

Value extreme(const Value& value, const Arguments& arguments, const char* name, bool largest) {
  const Bound given(name, arguments, {"case_sensitive", "attribute"});
  const Items items = elements_of(value);
  if (items.empty()) return Undefined{"No aggregated item, sequence was empty."};
  const Value* best = &items[0];
  const auto key = [&](const Value& element) { return key_of(element, given.find(1), nullptr, given.flag(0, false)); };
  for (const Value& element : items) {
    if (largest ? less(key(*best), key(element)) : less(key(element), key(*best))) best = &element;
  }
  return *best;
}

Value sum(const Value& value, const Arguments& arguments) {
  const Bound given("sum", arguments, {"attribute", "start"});
  Value total = given.find(1) != nullptr ? given[1] : Value(0);
  if (total.text() != nullptr) fail("sum() can't sum strings");
  for (const Value& element : elements_of(value))
    total = binary("+", total, key_of(element, given.find(0), nullptr, true));
  return total;
}

Value batch(const Value& value, const Arguments& arguments) {
  const Bound given("batch", arguments, {"linecount", "fill_with"}, 1);
  const std::int64_t size = given.integer(0, 1);
  if (size < 1 || size > 1 << 20) fail("batch of {} is not supported", size);
  Items batches, now;
  for (Value& element : elements_of(value)) {
    if (std::ssize(now) == size) batches.push_back(Value::list(std::exchange(now, {})));
    now.push_back(std::move(element));
  }
  if (!now.empty()) {
    if (given.find(1) != nullptr && !given[1].is<None>()) now.resize(static_cast<std::size_t>(size), given[1]);
    batches.push_back(Value::list(std::move(now)));
  }
  return Value::iterator(std::move(batches));
}

Value sliced(const Value& value, const Arguments& arguments) {
  const Bound given("slice", arguments, {"slices", "fill_with"}, 1);
  const std::int64_t count = given.integer(0, 1);
  if (count < 1 || count > 1 << 16) fail("slice into {} is not supported", count);
  const Items items = elements_of(value);
  const auto size = std::ssize(items) / count;
  const auto longer = std::ssize(items) % count;  // slices that have one element more
  Items slices;
  auto next = items.begin();
  for (std::int64_t i = 0; i < count; ++i) {
    const auto end = next + size + (i < longer ? 1 : 0);
    Items slice(next, end);
    if (given.find(1) != nullptr && !given[1].is<None>() && i >= longer) slice.push_back(given[1]);
    slices.push_back(Value::list(std::move(slice)));
    next = end;
  }
  return Value::iterator(std::move(slices));
}

/// The arguments after the first `count`.
Arguments rest_of(const Arguments& arguments, std::size_t count) {
  Arguments rest = arguments;
  rest.positional.erase(rest.positional.begin(),
                        rest.positional.begin() + static_cast<std::ptrdiff_t>(std::min(count, rest.positional.size())));
  return rest;
}

Value map(const Value& value, const Arguments& arguments) {
  Items items;
  if (arguments.positional.empty()) {
    const Bound given("map", arguments, {"attribute", "default"}, 1);
    for (const Value& element : elements_of(value))
      items.push_back(key_of(element, given.find(0), given.find(1), true));
  } else {
    const std::string name = soft_text(arguments.positional[0]);
    for (const Value& element : elements_of(value)) items.push_back(apply_filter(name, element, rest_of(arguments, 1)));
  }
  return Value::iterator(std::move(items));
}

Value chosen(const Value& value, const Arguments& arguments, const char* name, bool by_attribute, bool keep) {
  const std::size_t skipped = by_attribute ? 1 : 0;
  if (arguments.positional.size() < skipped) fail("{}: missing attribute name", name);
  const bool tests = arguments.positional.size() > skipped;
  Items items;
  for (Value& element : elements_of(value)) {
    const Value subject = by_attribute ? follow(element, arguments.positional[0]) : element;
    const bool holds =
        tests ? apply_test(soft_text(arguments.positional[skipped]), subject, rest_of(arguments, skipped + 1))
              : truth(subject);
    if (holds == keep) items.push_back(std::move(element));
  }
  return Value::iterator(std::move(items));
}

Value sorted_dict(const Value& value, const Arguments& arguments) {
  const Bound given("dictsort", arguments, {"case_sensitive", "by", "reverse"});
  if (value.dict() == nullptr) fail("dictsort of a {}", type_of(value));
  const bool by_value = given.text(1, "key") == "value";
  const auto key = [&](const auto& entry) {
    const Value& chosen_one = by_value ? entry.second : entry.first;
    return given.flag(0, false) ? chosen_one : lowered(chosen_one);
  };
  auto entries = value.dict()->entries;
  const bool down = given.flag(2, false);
  std::ranges::stable_sort(
      entries, [&](const auto& a, const auto& b) { return down ? less(key(b), key(a)) : less(key(a), key(b)); });
  Items items;
  for (auto& [name, entry] : entries) items.push_back(Value::tuple({std::move(name), std::move(entry)}));
  return Value::list(std::move(items));
}

Value pass(const char* method, const Value& value, const Arguments& arguments) {
  return call_text_method(soft_text(value), method, arguments);
}

const std::map<std::string_view, Filter>& filters() {
  static const std::map<std::string_view, Filter> table = {
      {"abs", absolute},
      {"attr",
       [](const Value& v, const Arguments& a) -> Value {
         return get_own_attribute(v, Bound("attr", a, {"name"}, 1).text(0, ""));
       }},
      {"batch", batch},
      {"capitalize", [](const Value& v, const Arguments& a) { return pass("capitalize", v, a); }},
      {"center",
       [](const Value& v, const Arguments& a) {
         return pass("center", v, Arguments{{Bound("center", a, {"width"}).integer(0, 80)}});
       }},
      {"count", length},
      {"d", default_value},
      {"default", default_value},
      {"dictsort", sorted_dict},
      {"e", escaped},
      {"escape", escaped},
      {"first", first},
      {"float", to_real},
      {"format", formatted},
      {"groupby", grouped},
      {"indent", indented},
      {"int", to_integer},
      {"items", dict_items},
      {"join", join},
      {"last", last},
      {"length", length},
      {"list",
       [](const Value& v, const Arguments& a) -> Value { return Bound("list", a, {}), Value::list(elements_of(v)); }},
      {"lower", [](const Value& v, const Arguments& a) { return pass("lower", v, a); }},
      {"map", map},
      {"max", [](const Value& v, const Arguments& a) { return extreme(v, a, "max", true); }},
      {"min", [](const Value& v, const Arguments& a) { return extreme(v, a, "min", false); }},
      {"reject", [](const Value& v, const Arguments& a) { return chosen(v, a, "reject", false, false); }},
      {"rejectattr", [](const Value& v, const Arguments& a) { return chosen(v, a, "rejectattr", true, false); }},
      {"replace",
       [](const Value& v, const Arguments& a) -> Value {
         const Bound given("replace", a, {"old", "new", "count"}, 2);
         return pass("replace", v, Arguments{{soft_text(given[0]), soft_text(given[1]), given.integer(2, -1)}});
       }},
      {"reverse", reverse},
      {"round", rounded},
      {"safe", [](const Value& v, const Arguments& a) -> Value { return Bound("safe", a, {}), Markup{soft_text(v)}; }},
      {"select", [](const Value& v, const Arguments& a) { return chosen(v, a, "select", false, true); }},
      {"selectattr", [](const Value& v, const Arguments& a) { return chosen(v, a, "selectattr", true, true); }},
      {"slice", sliced},
      {"sort", sorted},
      {"string", [](const Value& v, const Arguments& a) -> Value { return Bound("string", a, {}), soft_text(v); }},
      {"sum", sum},
      {"title", titled},
      {"tojson", json},
      {"trim",
       [](const Value& v, const Arguments& a) -> Value {
         return strip(soft_text(v), Bound("trim", a, {"chars"}).find(0), true, true);
       }},
      {"truncate", truncated},
      {"unique", unique},
      {"urlencode", url_encoded},
      {"filesizeformat", file_size},
      {"upper", [](const Value& v, const Arguments& a) { return pass("upper", v, a); }},
      {"wordcount", word_count},
  };
  return table;
}

}  // namespace

Value dict_items(const Value& value, const Arguments& arguments) {
  const Bound none("items", arguments, {});
  if (value.is<Undefined>()) return Value::iterator({});
  if (value.dict() == nullptr) fail("Can only get item pairs from a mapping.");
  Items items;
  for (const auto& [key, entry] : value.dict()->entries) items.push_back(Value::tuple({key, entry}));
  return Value::iterator(std::move(items));
}

bool is_jinja_filter(std::string_view name) {
  static const std::set<std::string_view> others = {"forceescape", "pprint",   "random", "striptags",
                                                    "urlize",      "wordwrap", "xmlattr"};
  return filters().contains(name) || others.contains(name);
}

Value apply_filter(const std::string& name, const Value& value, const Arguments& arguments) {
  const auto found = filters().find(name);
  if (found != filters().end()) return found->second(value, arguments);
  if (is_jinja_filter(name)) fail("the filter '{}' is not supported", name);
  fail("No filter named '{}'.", name);
}

}  // namespace grist::text::jinja
