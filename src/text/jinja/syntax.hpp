// The syntax tree of a Jinja template. Expressions give values, statements write text.
#pragma once

#include <grist/text/jinja/value.hpp>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace grist::text::jinja {

class Scope;

struct Expression {
  virtual ~Expression() = default;
  [[nodiscard]] virtual Value evaluate(Scope& scope) const = 0;
};
using ExpressionPtr = std::unique_ptr<const Expression>;

enum class Flow { on, leave_loop, next_iteration };

struct Statement {
  int line = 0;
  virtual ~Statement() = default;
  virtual Flow render(Scope& scope, std::string& out) const = 0;
};
using Block = std::vector<std::unique_ptr<const Statement>>;

/// Renders one after the other; a Failure learns its line.
Flow render(const Block& block, Scope& scope, std::string& out);

struct CallArguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> keywords;
  ExpressionPtr more_positional;  // *args
  ExpressionPtr more_keywords;    // **kwargs

  [[nodiscard]] Arguments evaluate(Scope& scope) const;
};

// ---- expressions ----

struct Constant final : Expression {
  Value value;
  explicit Constant(Value v) : value(std::move(v)) {}
  [[nodiscard]] Value evaluate(Scope& scope) const override;
};

struct Name final : Expression {
  std::string name;
  explicit Name(std::string n) : name(std::move(n)) {}
  [[nodiscard]] Value evaluate(Scope& scope) const override;
};

struct Array final : Expression {
  std::vector<ExpressionPtr> items;
  bool tuple = false;
  [[nodiscard]] Value evaluate(Scope& scope) const override;
};

struct DictLiteral final : Expression {
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> entries;
  [[nodiscard]] Value evaluate(Scope& scope) const override;
};

struct Unary final : Expression {
  enum class Kind { minus, plus, logical_not } kind = Kind::minus;
  ExpressionPtr operand;
  [[nodiscard]] Value evaluate(Scope& scope) const override;
};

struct Binary final : Expression {
  std::string symbol;  // + - * / // % ** ~ and or
  ExpressionPtr left, right;
  [[nodiscard]] Value evaluate(Scope& scope) const override;
};

/// a < b <= c: every neighbouring pair holds.
struct Comparison final : Expression {
  ExpressionPtr first;
  std::vector<std::pair<std::string, ExpressionPtr>> others;
  [[nodiscard]] Value evaluate(Scope& scope) const override;
};

struct Conditional final : Expression {
  ExpressionPtr condition, then, otherwise;  // otherwise may be null
  [[nodiscard]] Value evaluate(Scope& scope) const override;
};

struct GetAttribute final : Expression {
  ExpressionPtr object;
  std::string name;
  [[nodiscard]] Value evaluate(Scope& scope) const override;
};

struct GetItem final : Expression {
  ExpressionPtr object, key;
  [[nodiscard]] Value evaluate(Scope& scope) const override;
};

struct Slice final : Expression {
  ExpressionPtr object, start, stop, step;  // the last three may be null
  [[nodiscard]] Value evaluate(Scope& scope) const override;
};

struct Call final : Expression {
  ExpressionPtr function;
  CallArguments arguments;
  [[nodiscard]] Value evaluate(Scope& scope) const override;
};

struct FilterCall final : Expression {
  ExpressionPtr operand;  // of a block's first filter null, of its next one the filter before
  std::string name;
  CallArguments arguments;
  [[nodiscard]] Value evaluate(Scope& scope) const override;
  /// The filters of a block, applied to its text.
  [[nodiscard]] Value apply(Scope& scope, Value text) const;
};

struct TestCall final : Expression {
  ExpressionPtr operand;
  std::string name;
  CallArguments arguments;
  bool negated = false;
  [[nodiscard]] Value evaluate(Scope& scope) const override;
};

// ---- statements ----

/// Where a value goes: one name, an attribute of a namespace, or several targets.
struct Target {
  std::string name;
  std::string attribute;
  std::vector<Target> several;
  bool unpacks = false;

  void assign(Scope& scope, const Value& value) const;
};

struct Data final : Statement {
  std::string text;
  Flow render(Scope& scope, std::string& out) const override;
};

struct Print final : Statement {
  ExpressionPtr value;
  Flow render(Scope& scope, std::string& out) const override;
};

struct If final : Statement {
  std::vector<std::pair<ExpressionPtr, Block>> branches;
  Block otherwise;
  Flow render(Scope& scope, std::string& out) const override;
};

struct For final : Statement {
  Target target;
  ExpressionPtr over, condition;  // condition may be null
  Block body, otherwise;
  bool recursive = false;
  Flow render(Scope& scope, std::string& out) const override;
  void run(Scope& scope, const Value& items, int depth, std::string& out) const;
};

struct LoopControl final : Statement {
  Flow flow = Flow::leave_loop;
  Flow render(Scope& scope, std::string& out) const override;
};

struct Set final : Statement {
  Target target;
  ExpressionPtr value;   // null: the block's text
  ExpressionPtr filter;  // of the block's text, may be null
  Block body;
  Flow render(Scope& scope, std::string& out) const override;
};

struct MacroBody {
  std::string name;
  std::vector<std::string> parameters;
  std::vector<ExpressionPtr> defaults;  // of the last parameters
  Block body;
  bool uses_caller = false, uses_varargs = false, uses_kwargs = false;
};

struct MacroStatement final : Statement {
  MacroBody macro;
  Flow render(Scope& scope, std::string& out) const override;
};

struct CallBlock final : Statement {
  ExpressionPtr call;  // a Call
  MacroBody caller;
  Flow render(Scope& scope, std::string& out) const override;
};

struct FilterBlock final : Statement {
  ExpressionPtr filter;
  Block body;
  Flow render(Scope& scope, std::string& out) const override;
};

/// {% with %} and transformers' {% generation %}: a scope of its own.
struct With final : Statement {
  std::vector<std::pair<Target, ExpressionPtr>> variables;
  Block body;
  Flow render(Scope& scope, std::string& out) const override;
};

}  // namespace grist::text::jinja
