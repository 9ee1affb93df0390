// The values of expressions.
#include <grist/text/jinja/builtins.hpp>
#include <grist/text/jinja/interpreter.hpp>

namespace grist::text::jinja {
namespace {

Value make_namespace(Run& run, const Arguments& arguments) {
  auto space = std::make_shared<Namespace>();
  if (arguments.positional.size() > 1) fail("namespace takes one mapping at most");
  for (const Value& mapping : arguments.positional) {
    if (mapping.dict() == nullptr) fail("namespace of a {} is not supported", type_of(mapping));
    for (const auto& [key, value] : mapping.dict()->entries) space->values.insert_or_assign(to_string(key), value);
  }
  for (const auto& [name, value] : arguments.keywords) space->values.insert_or_assign(name, value);
  run.namespaces.push_back(space);
  return std::static_pointer_cast<Object>(space);
}

}  // namespace

Value Constant::evaluate(Scope& /*scope*/) const { return value; }

Value Name::evaluate(Scope& scope) const {
  if (const Value* found = scope.find(name)) return *found;
  if (name == "namespace") {
    return std::static_pointer_cast<Object>(std::make_shared<Function>(
        name, [&run = scope.run()](const Arguments& arguments) { return make_namespace(run, arguments); }));
  }
  if (auto function = global_function(name)) return *std::move(function);
  return Undefined{std::format("'{}' is undefined", name)};
}

Value Array::evaluate(Scope& scope) const {
  Items values;
  for (const auto& item : items) values.push_back(item->evaluate(scope));
  return tuple ? Value::tuple(std::move(values)) : Value::list(std::move(values));
}

Value DictLiteral::evaluate(Scope& scope) const {
  Dict dict;
  for (const auto& [key, value] : entries) {
    Value name = key->evaluate(scope);
    if (name.dict() != nullptr || (name.sequence() != nullptr && name.sequence()->kind == Sequence::Kind::list)) {
      fail("unhashable type: '{}'", type_of(name));
    }
    dict.set(std::move(name), value->evaluate(scope));
  }
  return dict;
}

Value Unary::evaluate(Scope& scope) const {
  const Value value = operand->evaluate(scope);
  if (kind == Kind::logical_not) return !truth(value);
  if (kind == Kind::minus) return negative(value);
  return negative(negative(value));
}

Value Binary::evaluate(Scope& scope) const {
  Value first = left->evaluate(scope);
  if (symbol == "and") return truth(first) ? right->evaluate(scope) : first;
  if (symbol == "or") return truth(first) ? first : right->evaluate(scope);
  return binary(symbol, first, right->evaluate(scope));
}

Value Comparison::evaluate(Scope& scope) const {
  Value left = first->evaluate(scope);
  for (const auto& [symbol, operand] : others) {
    Value right = operand->evaluate(scope);
    if (!compares(symbol, left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Conditional::evaluate(Scope& scope) const {
  if (truth(condition->evaluate(scope))) return then->evaluate(scope);
  if (otherwise) return otherwise->evaluate(scope);
  return Undefined{"the inline if-expression evaluated to false and no else section was defined."};
}

Value GetAttribute::evaluate(Scope& scope) const { return get_attribute(object->evaluate(scope), name); }

Value GetItem::evaluate(Scope& scope) const { return get_item(object->evaluate(scope), key->evaluate(scope)); }

Value Slice::evaluate(Scope& scope) const {
  const Value whole = object->evaluate(scope);
  std::optional<Value> a, b, c;
  if (start) a = start->evaluate(scope);
  if (stop) b = stop->evaluate(scope);
  if (step) c = step->evaluate(scope);
  return slice(whole, a ? &*a : nullptr, b ? &*b : nullptr, c ? &*c : nullptr);
}

Arguments CallArguments::evaluate(Scope& scope) const {
  Arguments arguments;
  for (const auto& value : positional) arguments.positional.push_back(value->evaluate(scope));
  if (more_positional) {
    for (Value& value : elements_of(more_positional->evaluate(scope))) arguments.positional.push_back(std::move(value));
  }
  for (const auto& [name, value] : keywords) arguments.keywords.emplace_back(name, value->evaluate(scope));
  if (more_keywords) {
    const Value more = more_keywords->evaluate(scope);
    if (more.dict() == nullptr) fail("argument after ** must be a mapping, not {}", type_of(more));
    for (const auto& [key, value] : more.dict()->entries) arguments.keywords.emplace_back(to_string(key), value);
  }
  return arguments;
}

Value Call::evaluate(Scope& scope) const {
  const Value called = function->evaluate(scope);
  if (const Undefined* nothing = called.undefined()) fail("{}", nothing->complaint);
  if (called.object() == nullptr) fail("'{}' object is not callable", type_of(called));
  return called.object()->call(arguments.evaluate(scope));
}

Value FilterCall::evaluate(Scope& scope) const {
  return apply_filter(name, operand->evaluate(scope), arguments.evaluate(scope));
}

Value FilterCall::apply(Scope& scope, Value text) const {
  if (operand) text = static_cast<const FilterCall&>(*operand).apply(scope, std::move(text));
  return apply_filter(name, text, arguments.evaluate(scope));
}

Value TestCall::evaluate(Scope& scope) const {
  return apply_test(name, operand->evaluate(scope), arguments.evaluate(scope)) != negated;
}

}  // namespace grist::text::jinja
