// Values of Jinja templates, with the meaning that Python gives them: texts are sequences of code points, undefined is
// not none, a tuple is not a list, and True is a kind of 1.
#pragma once

#include <cstdint>
#include <format>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace grist::text::jinja {

/// What Jinja would raise, or what grist does not have; `line` of the template, 0 where it is not known yet.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
  int line = 0;
};

template <class... Parts>
[[noreturn]] void fail(std::format_string<Parts...> text, Parts&&... parts) {
  throw Failure(std::format(text, std::forward<Parts>(parts)...));
}

class Value;
class Object;
using Items = std::vector<Value>;

struct Undefined {
  std::string complaint;  // of whoever uses it
};
struct None {};
/// A text that is already HTML. It can be printed; what else Python does with it is not supported.
struct Markup {
  std::string text;
};

struct Sequence {
  enum class Kind { list, tuple, range, keys, values, items, iterator };
  Kind kind = Kind::list;
  Items elements;
  std::vector<std::string> names;    // of a named tuple's fields
  bool spent = false;                // an iterator runs once
};

struct Dict {
  std::vector<std::pair<Value, Value>> entries;

  [[nodiscard]] const Value* find(const Value& key) const;
  [[nodiscard]] const Value* find_text(std::string_view key) const;
  void set(Value key, Value value);  // a key that is there keeps its place
};

class Value {
public:
  using Data = std::variant<Undefined, None, bool, std::int64_t, double, std::string, Markup, std::shared_ptr<Sequence>,
                            std::shared_ptr<const Dict>, std::shared_ptr<Object>>;

  Value() : data_(None{}) {}
  Value(None none) : data_(none) {}
  Value(Undefined undefined) : data_(std::move(undefined)) {}
  Value(bool truth) : data_(truth) {}
  Value(std::int64_t number) : data_(number) {}
  Value(int number) : data_(std::int64_t{number}) {}
  Value(std::size_t number) : data_(static_cast<std::int64_t>(number)) {}
  Value(double number) : data_(number) {}
  Value(std::string text) : data_(std::move(text)) {}
  Value(std::string_view text) : data_(std::string(text)) {}
  Value(const char* text) : data_(std::string(text)) {}
  Value(Markup markup) : data_(std::move(markup)) {}
  Value(Sequence sequence) : data_(std::make_shared<Sequence>(std::move(sequence))) {}
  Value(Dict dict) : data_(std::make_shared<const Dict>(std::move(dict))) {}
  Value(std::shared_ptr<Object> object) : data_(std::move(object)) {}

  static Value list(Items items) { return Sequence{Sequence::Kind::list, std::move(items)}; }
  static Value tuple(Items items) { return Sequence{Sequence::Kind::tuple, std::move(items)}; }
  static Value iterator(Items items) { return Sequence{Sequence::Kind::iterator, std::move(items)}; }

  template <class T>
  [[nodiscard]] bool is() const {
    return std::holds_alternative<T>(data_);
  }
  [[nodiscard]] const std::string* text() const { return std::get_if<std::string>(&data_); }
  [[nodiscard]] const Undefined* undefined() const { return std::get_if<Undefined>(&data_); }
  [[nodiscard]] Sequence* sequence() const { return pointer<Sequence>(); }
  [[nodiscard]] const Dict* dict() const { return pointer<const Dict>(); }
  [[nodiscard]] Object* object() const { return pointer<Object>(); }
  [[nodiscard]] const Data& data() const { return data_; }

  /// An int or a bool.
  [[nodiscard]] std::optional<std::int64_t> integer() const;
  /// An int, a bool or a float.
  [[nodiscard]] std::optional<double> number() const;

private:
  template <class T>
  [[nodiscard]] T* pointer() const {
    const auto* found = std::get_if<std::shared_ptr<T>>(&data_);
    return found == nullptr ? nullptr : found->get();
  }

  Data data_;
};

struct Arguments {
  Items positional{};
  std::vector<std::pair<std::string, Value>> keywords{};
};

/// A value with a behaviour of its own: functions, macros, namespaces, a loop's `loop`.
class Object : public std::enable_shared_from_this<Object> {
public:
  virtual ~Object() = default;
  [[nodiscard]] virtual std::string type() const = 0;
  [[nodiscard]] virtual bool callable() const { return false; }
  virtual Value call(const Arguments& arguments);
  /// Nothing where there is no such attribute.
  virtual std::optional<Value> attribute(std::string_view name);
};

class Function final : public Object {
public:
  using Body = std::function<Value(const Arguments&)>;
  Function(std::string name, Body body) : name_(std::move(name)), body_(std::move(body)) {}
  [[nodiscard]] std::string type() const override { return "function"; }
  [[nodiscard]] bool callable() const override { return true; }
  Value call(const Arguments& arguments) override { return body_(arguments); }

private:
  std::string name_;
  Body body_;
};

/// Python's name of a value's type.
std::string type_of(const Value& value);
bool truth(const Value& value);
/// Python's str(): what is printed. Undefined is empty.
std::string to_string(const Value& value);
std::string repr(const Value& value);
std::string repr(double number);
std::string repr(std::string_view text);
bool equal(const Value& a, const Value& b);
/// Whether a < b; fails where Python has no order.
bool less(const Value& a, const Value& b);
/// The elements that a loop runs over; an iterator is spent by it. Fails where Python cannot iterate.
Items elements_of(const Value& value);
/// Python's len().
std::int64_t length_of(const Value& value);
/// The text of what is none or Markup turned to text; filters of texts take anything.
std::string soft_text(const Value& value);

struct JsonStyle {
  bool ascii = false;
  std::optional<std::string> indent{};
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
};
/// Python's json.dumps().
std::string to_json(const Value& value, const JsonStyle& style);

}  // namespace grist::text::jinja
