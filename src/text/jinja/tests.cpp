// Jinja2's tests ("is defined"), the functions that templates call, and how arguments meet parameters.
#include <grist/text/jinja/builtins.hpp>

#include <grist/text/unicode.hpp>

#include <algorithm>
#include <ctime>
#include <iomanip>
#include <locale>
#include <map>
#include <set>
#include <sstream>

namespace grist::text::jinja {
namespace {

using Test = bool (*)(const Value& value, const Arguments& arguments);

const Value& only(const Arguments& arguments) {
  if (arguments.positional.size() != 1 || !arguments.keywords.empty()) fail("a test takes one argument");
  return arguments.positional[0];
}

std::int64_t whole(const Value& value) {
  if (const auto number = value.integer()) return *number;
  if (const Undefined* nothing = value.undefined()) fail("{}", nothing->complaint);
  fail("a test of integers got a {}", type_of(value));
}

template <const char* symbol>
bool compared(const Value& value, const Arguments& arguments) {
  return compares(symbol, value, only(arguments));
}
constexpr char eq[] = "==", ne[] = "!=", lt[] = "<", le[] = "<=", gt[] = ">", ge[] = ">=", in[] = "in";

bool is_truth(const Value& value, bool wanted) { return value.is<bool>() && truth(value) == wanted; }

bool same_as(const Value& value, const Arguments& arguments) {
  const Value& other = only(arguments);
  if (value.data().index() != other.data().index()) return false;
  if (value.is<None>()) return true;
  if (value.is<bool>()) return truth(value) == truth(other);
  fail("the test 'sameas' of a {} is not supported", type_of(value));
}

bool iterable(const Value& value, const Arguments& /*arguments*/) {
  return value.is<Undefined>() || value.text() != nullptr || value.dict() != nullptr || value.sequence() != nullptr;
}

bool sequence(const Value& value, const Arguments& /*arguments*/) {
  const Sequence* array = value.sequence();
  if (array == nullptr) return value.is<Undefined>() || value.text() != nullptr || value.dict() != nullptr;
  return array->kind == Sequence::Kind::list || array->kind == Sequence::Kind::tuple ||
         array->kind == Sequence::Kind::range;
}

const std::map<std::string_view, Test>& tests() {
  static const std::map<std::string_view, Test> table = {
      {"==", compared<eq>},
      {"eq", compared<eq>},
      {"equalto", compared<eq>},
      {"!=", compared<ne>},
      {"ne", compared<ne>},
      {"<", compared<lt>},
      {"lt", compared<lt>},
      {"lessthan", compared<lt>},
      {"<=", compared<le>},
      {"le", compared<le>},
      {">", compared<gt>},
      {"gt", compared<gt>},
      {"greaterthan", compared<gt>},
      {">=", compared<ge>},
      {"ge", compared<ge>},
      {"in", compared<in>},
      {"defined", [](const Value& v, const Arguments&) { return !v.is<Undefined>(); }},
      {"undefined", [](const Value& v, const Arguments&) { return v.is<Undefined>(); }},
      {"none", [](const Value& v, const Arguments&) { return v.is<None>(); }},
      {"boolean", [](const Value& v, const Arguments&) { return v.is<bool>(); }},
      {"true", [](const Value& v, const Arguments&) { return is_truth(v, true); }},
      {"false", [](const Value& v, const Arguments&) { return is_truth(v, false); }},
      {"integer", [](const Value& v, const Arguments&) { return v.is<std::int64_t>(); }},
      {"float", [](const Value& v, const Arguments&) { return v.is<double>(); }},
      {"number", [](const Value& v, const Arguments&) { return v.number().has_value(); }},
      {"string", [](const Value& v, const Arguments&) { return v.text() != nullptr || v.is<Markup>(); }},
      {"mapping", [](const Value& v, const Arguments&) { return v.dict() != nullptr; }},
      {"iterable", iterable},
      {"sequence", sequence},
      {"callable", [](const Value& v, const Arguments&) { return v.object() != nullptr && v.object()->callable(); }},
      {"sameas", same_as},
      {"odd", [](const Value& v, const Arguments&) { return whole(v) % 2 != 0; }},
      {"even", [](const Value& v, const Arguments&) { return whole(v) % 2 == 0; }},
      {"divisibleby",
       [](const Value& v, const Arguments& a) {
         if (whole(only(a)) == 0) fail("integer modulo by zero");
         return whole(v) % whole(only(a)) == 0;
       }},
      {"lower", [](const Value& v, const Arguments&) { return truth(call_text_method(soft_text(v), "islower", {})); }},
      {"upper", [](const Value& v, const Arguments&) { return truth(call_text_method(soft_text(v), "isupper", {})); }},
      {"filter", [](const Value& v, const Arguments&) { return is_jinja_filter(soft_text(v)); }},
      {"test", [](const Value& v, const Arguments&) { return is_jinja_test(soft_text(v)); }},
  };
  return table;
}

Value range(const Arguments& arguments) {
  if (arguments.positional.empty() || arguments.positional.size() > 3 || !arguments.keywords.empty()) {
    fail("range expected 1 to 3 arguments");
  }
  std::vector<std::int64_t> bounds;
  for (const Value& value : arguments.positional) bounds.push_back(whole(value));
  const std::int64_t start = bounds.size() > 1 ? bounds[0] : 0;
  const std::int64_t stop = bounds.size() > 1 ? bounds[1] : bounds[0];
  const std::int64_t step = bounds.size() > 2 ? bounds[2] : 1;
  if (step == 0) fail("range() arg 3 must not be zero");
  Sequence result{Sequence::Kind::range};
  for (std::int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (result.elements.size() >= 100'000)
      fail("Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).");
    result.elements.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return result;
}

Value make_dict(const Arguments& arguments) {
  Dict dict;
  if (arguments.positional.size() > 1) fail("dict expected at most 1 argument");
  for (const Value& given : arguments.positional) {
    if (given.dict() == nullptr) fail("dict of a {} is not supported", type_of(given));
    dict = *given.dict();
  }
  for (const auto& [name, value] : arguments.keywords) dict.set(name, value);
  return dict;
}

/// What transformers gives to templates that write today's date.
Value strftime_now(const Arguments& arguments) {
  const Bound given("strftime_now", arguments, {"format"}, 1);
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  std::ostringstream text;
  text.imbue(std::locale::classic());
  text << std::put_time(&local, given.text(0, "").c_str());
  return text.str();
}

class Cycler final : public Object {
public:
  explicit Cycler(Items items) : items_(std::move(items)) {}
  [[nodiscard]] std::string type() const override { return "Cycler"; }
  std::optional<Value> attribute(std::string_view name) override {
    if (name == "current") return items_[at_];
    if (name != "next" && name != "reset") return std::nullopt;
    const bool goes_on = name == "next";
    return std::static_pointer_cast<Object>(
        std::make_shared<Function>(std::string(name), [this, goes_on, alive = shared_from_this()](const Arguments&) {
          const Value now = items_[at_];
          at_ = goes_on ? (at_ + 1) % items_.size() : 0;
          return goes_on ? now : Value();
        }));
  }

private:
  Items items_;
  std::size_t at_ = 0;
};

Value cycler(const Arguments& arguments) {
  if (arguments.positional.empty()) fail("at least one item has to be provided");
  return std::static_pointer_cast<Object>(std::make_shared<Cycler>(arguments.positional));
}

Value joiner(const Arguments& arguments) {
  const std::string separator = Bound("joiner", arguments, {"sep"}).text(0, ", ");
  const auto join = [separator, used = std::make_shared<bool>(false)](const Arguments&) {
    return Value(std::exchange(*used, true) ? separator : "");
  };
  return std::static_pointer_cast<Object>(std::make_shared<Function>("joiner", join));
}

Value raise_exception(const Arguments& arguments) {
  const Bound given("raise_exception", arguments, {"message"}, 1);
  fail("{}", to_string(given[0]));
}

}  // namespace

bool is_jinja_test(std::string_view name) { return tests().contains(name) || name == "escaped"; }

bool apply_test(const std::string& name, const Value& value, const Arguments& arguments) {
  const auto found = tests().find(name);
  if (found != tests().end()) return found->second(value, arguments);
  if (is_jinja_test(name)) fail("the test '{}' is not supported", name);
  fail("No test named '{}'.", name);
}

std::optional<Value> global_function(std::string_view name) {
  static const std::map<std::string_view, Value (*)(const Arguments&)> functions = {
      {"range", range},   {"dict", make_dict}, {"strftime_now", strftime_now}, {"raise_exception", raise_exception},
      {"cycler", cycler}, {"joiner", joiner}};
  for (const std::string_view missing : {"lipsum", "self", "super"}) {
    if (name == missing) fail("the function '{}' is not supported", name);
  }
  const auto found = functions.find(name);
  if (found == functions.end()) return std::nullopt;
  return std::static_pointer_cast<Object>(std::make_shared<Function>(std::string(name), found->second));
}

Bound::Bound(std::string_view function, const Arguments& arguments, std::initializer_list<std::string_view> parameters,
             std::size_t required)
    : function_(function), values_(parameters.size(), nullptr) {
  if (arguments.positional.size() > parameters.size()) {
    fail("{} takes {} arguments at most, {} were given", function, parameters.size(), arguments.positional.size());
  }
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.keywords) {
    const auto* const found = std::ranges::find(parameters, std::string_view(name));
    if (found == parameters.end()) fail("{} takes no argument '{}'", function, name);
    auto& place = values_[static_cast<std::size_t>(found - parameters.begin())];
    if (place != nullptr) fail("{} got multiple values for the argument '{}'", function, name);
    place = &value;
  }
  for (std::size_t i = 0; i < required; ++i) {
    if (values_[i] == nullptr) fail("{} misses the argument '{}'", function, *(parameters.begin() + i));
  }
}

bool Bound::flag(std::size_t parameter, bool otherwise) const {
  return values_[parameter] == nullptr ? otherwise : truth(*values_[parameter]);
}

std::int64_t Bound::integer(std::size_t parameter, std::int64_t otherwise) const {
  if (values_[parameter] == nullptr) return otherwise;
  if (const auto number = values_[parameter]->integer()) return *number;
  fail("{}: found {}, expected an integer", function_, type_of(*values_[parameter]));
}

std::string Bound::text(std::size_t parameter, std::string_view otherwise) const {
  return values_[parameter] == nullptr ? std::string(otherwise) : soft_text(*values_[parameter]);
}

}  // namespace grist::text::jinja
