#include <grist/text/jinja/interpreter.hpp>

#include <grist/text/jinja/builtins.hpp>

#include <algorithm>
#include <deque>

namespace grist::text::jinja {
namespace {

struct Deeper {
  Run& run;
  explicit Deeper(Run& r) : run(r) {
    if (++run.depth > Run::max_depth) fail("macros and loops call themselves more than {} times", Run::max_depth);
  }
  ~Deeper() { --run.depth; }
};

class Macro final : public Object {
public:
  Macro(const MacroBody& body, Scope& scope) : body_(body), scope_(scope), alive_(scope.alive()) {}
  [[nodiscard]] std::string type() const override { return "Macro"; }
  [[nodiscard]] bool callable() const override { return true; }
  std::optional<Value> attribute(std::string_view name) override {
    fail("the attribute '{}' of a macro is not supported", name);
  }

  Value call(const Arguments& given) override {
    if (!*alive_)
      fail("the macro '{}' is called outside of the block that defines it, which is not supported", body_.name);
    const Deeper deeper(scope_.run());
    Scope inner(scope_);
    Arguments rest = given;
    const Value caller = take(rest, "caller").value_or(Undefined{"'caller' is undefined"});
    for (std::size_t i = 0; i < body_.parameters.size(); ++i) inner.set(body_.parameters[i], parameter(i, rest, inner));
    const std::size_t taken = std::min(rest.positional.size(), body_.parameters.size());
    rest.positional.erase(rest.positional.begin(), rest.positional.begin() + static_cast<std::ptrdiff_t>(taken));
    pass_rest(inner, rest, caller);
    std::string out;
    render(body_.body, inner, out);
    return out;
  }

private:
  static std::optional<Value> take(Arguments& arguments, std::string_view name) {
    const auto found = std::ranges::find(arguments.keywords, name, [](const auto& entry) { return entry.first; });
    if (found == arguments.keywords.end()) return std::nullopt;
    Value value = std::move(found->second);
    arguments.keywords.erase(found);
    return value;
  }

  Value parameter(std::size_t i, Arguments& given, Scope& inner) const {
    const std::string& name = body_.parameters[i];
    if (i < given.positional.size()) {
      if (take(given, name)) fail("macro '{}' got multiple values for argument '{}'", body_.name, name);
      return given.positional[i];
    }
    if (auto value = take(given, name)) return *std::move(value);
    const std::size_t first_default = body_.parameters.size() - body_.defaults.size();
    if (i >= first_default) return body_.defaults[i - first_default]->evaluate(inner);
    return Undefined{std::format("parameter '{}' was not provided", name)};
  }

  void pass_rest(Scope& inner, const Arguments& rest, const Value& caller) const {
    if (body_.uses_caller) {
      inner.set("caller", caller);
    } else if (!caller.is<Undefined>()) {
      fail("macro '{}' was invoked with two values for the special caller argument, or does not use it", body_.name);
    }
    if (body_.uses_varargs) {
      inner.set("varargs", Value::tuple(rest.positional));
    } else if (!rest.positional.empty()) {
      fail("macro '{}' takes not more than {} argument(s)", body_.name, body_.parameters.size());
    }
    if (body_.uses_kwargs) {
      Dict dict;
      for (const auto& [name, value] : rest.keywords) dict.set(name, value);
      inner.set("kwargs", std::move(dict));
    } else if (!rest.keywords.empty()) {
      fail("macro '{}' takes no keyword argument '{}'", body_.name, rest.keywords[0].first);
    }
  }

  const MacroBody& body_;
  Scope& scope_;
  std::shared_ptr<const bool> alive_;
};

/// A loop's `loop`. Elements are looked at no earlier than Jinja looks at them: a condition may change as the loop
/// runs.
class Loop final : public Object {
public:
  using Accepts = std::function<bool(const Value&)>;
  using Again = std::function<Value(const Value& items, int depth)>;
  Loop(Items items, Accepts accepts, Again again, int depth)
      : items_(std::move(items)), accepts_(std::move(accepts)), again_(std::move(again)), depth_(depth) {}

  /// Goes on to the next element; false at the end.
  bool advance() {
    if (!look_ahead(1)) return false;
    previous_ = std::exchange(current_, std::move(ahead_.front()));
    ahead_.pop_front();
    ++index_;
    return true;
  }
  [[nodiscard]] const Value& current() const { return current_; }
  /// The loop has ended: what it refers to may go.
  void close() { closed_ = true; }

  [[nodiscard]] std::string type() const override { return "LoopContext"; }
  [[nodiscard]] bool callable() const override { return static_cast<bool>(again_); }
  Value call(const Arguments& arguments) override {
    if (closed_ || !again_) fail("The loop must have the 'recursive' marker to be called recursively");
    const Bound given("loop", arguments, {"iterable"}, 1);
    return again_(given[0], depth_ + 1);
  }

  std::optional<Value> attribute(std::string_view name) override {
    if (closed_) fail("loop.{} after the loop's end is not supported", name);
    if (name == "index") return Value(index_ + 1);
    if (name == "index0") return Value(index_);
    if (name == "first") return Value(index_ == 0);
    if (name == "last") return Value(!look_ahead(1));
    if (name == "depth") return Value(depth_ + 1);
    if (name == "depth0") return Value(depth_);
    if (name == "length") return Value(length());
    if (name == "revindex") return Value(length() - index_);
    if (name == "revindex0") return Value(length() - index_ - 1);
    if (name == "previtem") return index_ == 0 ? Value(Undefined{"there is no previous item"}) : previous_;
    if (name == "nextitem") return look_ahead(1) ? ahead_.front() : Value(Undefined{"there is no next item"});
    if (name == "cycle")
      return function("cycle", [index = index_](const Arguments& given) -> Value {
        if (given.positional.empty()) fail("no items for cycling given");
        return given.positional[static_cast<std::size_t>(index) % given.positional.size()];
      });
    if (name == "changed") {
      return function("changed", [this, alive = shared_from_this()](const Arguments& given) -> Value {
        Value values = Value::tuple(given.positional);
        if (last_values_ && equal(*last_values_, values)) return false;
        last_values_ = std::move(values);
        return true;
      });
    }
    return std::nullopt;
  }

private:
  static Value function(std::string name, Function::Body body) {
    return Value(std::static_pointer_cast<Object>(std::make_shared<Function>(std::move(name), std::move(body))));
  }

  bool look_ahead(std::size_t count) {
    while (ahead_.size() < count && next_ < items_.size()) {
      Value& item = items_[next_++];
      if (!accepts_ || accepts_(item)) ahead_.push_back(std::move(item));
    }
    return ahead_.size() >= count;
  }

  std::int64_t length() {
    look_ahead(items_.size());
    return index_ + 1 + static_cast<std::int64_t>(ahead_.size());
  }

  Items items_;
  Accepts accepts_;
  Again again_;
  int depth_;
  bool closed_ = false;
  std::size_t next_ = 0;
  std::int64_t index_ = -1;
  Value current_, previous_;
  std::optional<Value> last_values_;  // that `changed` has seen
  std::deque<Value> ahead_;
};

}  // namespace

std::optional<Value> Namespace::attribute(std::string_view name) {
  const auto found = values.find(name);
  return found == values.end() ? std::nullopt : std::optional(found->second);
}

const Value* Scope::find(std::string_view name) const {
  for (const Scope* scope = this; scope != nullptr; scope = scope->outer_) {
    if (const auto found = scope->variables_.find(name); found != scope->variables_.end()) return &found->second;
  }
  return nullptr;
}

std::shared_ptr<const bool> Scope::alive() {
  if (!alive_) alive_ = std::make_shared<bool>(true);
  return alive_;
}

Flow render(const Block& block, Scope& scope, std::string& out) {
  for (const auto& statement : block) {
    if (++scope.run().steps > Run::max_steps) fail("the template takes more than {} steps", Run::max_steps);
    if (out.size() > Run::max_output) fail("the template writes more than {} bytes", Run::max_output);
    try {
      if (const Flow flow = statement->render(scope, out); flow != Flow::on) return flow;
    } catch (Failure& failure) {
      if (failure.line == 0) failure.line = statement->line;
      throw;
    }
  }
  return Flow::on;
}

void Target::assign(Scope& scope, const Value& value) const {
  if (unpacks) {
    const Items items = elements_of(value);
    if (items.size() != several.size()) fail("found {} values to unpack, expected {}", items.size(), several.size());
    for (std::size_t i = 0; i < items.size(); ++i) several[i].assign(scope, items[i]);
  } else if (attribute.empty()) {
    scope.set(name, value);
  } else {
    const Value* object = scope.find(name);
    auto* space = object == nullptr ? nullptr : dynamic_cast<Namespace*>(object->object());
    if (space == nullptr) fail("cannot assign attribute on non-namespace object");
    space->values.insert_or_assign(attribute, value);
  }
}

Flow Data::render(Scope& /*scope*/, std::string& out) const {
  out += text;
  return Flow::on;
}

Flow Print::render(Scope& scope, std::string& out) const {
  out += to_string(value->evaluate(scope));
  return Flow::on;
}

Flow If::render(Scope& scope, std::string& out) const {
  for (const auto& [condition, body] : branches) {
    if (truth(condition->evaluate(scope))) return jinja::render(body, scope, out);
  }
  return jinja::render(otherwise, scope, out);
}

Flow For::render(Scope& scope, std::string& out) const {
  run(scope, over->evaluate(scope), 0, out);
  return Flow::on;
}

void For::run(Scope& scope, const Value& items, int depth, std::string& out) const {
  const Deeper deeper(scope.run());
  Loop::Accepts accepts;
  if (condition) {
    accepts = [&](const Value& item) {
      Scope test(scope);
      target.assign(test, item);
      return truth(condition->evaluate(test));
    };
  }
  Loop::Again again;
  if (recursive) {
    again = [this, &scope](const Value& inner_items, int inner_depth) -> Value {
      std::string text;
      run(scope, inner_items, inner_depth, text);
      return text;
    };
  }
  const auto loop = std::make_shared<Loop>(elements_of(items), std::move(accepts), std::move(again), depth);
  bool any = false;
  while (loop->advance()) {
    any = true;
    Scope inner(scope);
    inner.set("loop", std::static_pointer_cast<Object>(loop));
    target.assign(inner, loop->current());
    if (++scope.run().steps > Run::max_steps) fail("the template takes more than {} steps", Run::max_steps);
    if (jinja::render(body, inner, out) == Flow::leave_loop) break;
  }
  loop->close();
  if (any) return;
  Scope inner(scope);
  jinja::render(otherwise, inner, out);
}

Flow LoopControl::render(Scope& /*scope*/, std::string& /*out*/) const { return flow; }

Flow Set::render(Scope& scope, std::string& /*out*/) const {
  if (value) {
    target.assign(scope, value->evaluate(scope));
    return Flow::on;
  }
  std::string text;
  Scope inner(scope);
  jinja::render(body, inner, text);
  Value result = std::move(text);
  if (filter) result = static_cast<const FilterCall&>(*filter).apply(scope, std::move(result));
  target.assign(scope, result);
  return Flow::on;
}

Flow MacroStatement::render(Scope& scope, std::string& /*out*/) const {
  scope.set(macro.name, std::static_pointer_cast<Object>(std::make_shared<Macro>(macro, scope)));
  return Flow::on;
}

Flow CallBlock::render(Scope& scope, std::string& out) const {
  const auto& calling = static_cast<const Call&>(*call);
  const Value function = calling.function->evaluate(scope);
  Arguments given = calling.arguments.evaluate(scope);
  given.keywords.emplace_back("caller", std::static_pointer_cast<Object>(std::make_shared<Macro>(caller, scope)));
  auto* macro = dynamic_cast<Macro*>(function.object());
  if (macro == nullptr) fail("the tag 'call' of a {} is not supported, only of a macro", type_of(function));
  out += to_string(macro->call(given));
  return Flow::on;
}

Flow FilterBlock::render(Scope& scope, std::string& out) const {
  std::string text;
  Scope inner(scope);
  jinja::render(body, inner, text);
  out += to_string(static_cast<const FilterCall&>(*filter).apply(scope, std::move(text)));
  return Flow::on;
}

Flow With::render(Scope& scope, std::string& out) const {
  Scope inner(scope);
  for (const auto& [target, value] : variables) target.assign(inner, value->evaluate(scope));
  return jinja::render(body, inner, out);
}

std::string render_template(const Block& block, std::map<std::string, Value, std::less<>> variables) {
  Run run;
  std::string out;
  Scope scope(run, std::move(variables));
  render(block, scope, out);
  return out;
}

}  // namespace grist::text::jinja
