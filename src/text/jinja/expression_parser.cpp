#include <grist/text/jinja/expression_parser.hpp>

#include <grist/text/jinja/builtins.hpp>

namespace grist::text::jinja {
namespace {

template <class T>
std::unique_ptr<T> node() {
  return std::make_unique<T>();
}

}  // namespace

void ExpressionParser::link() {
  if (++links_ > max_links) fail("an expression has more than {} operators", max_links);
}

ExpressionPtr ExpressionParser::binary(std::string symbol, ExpressionPtr left, ExpressionPtr right) {
  link();
  auto result = node<Binary>();
  result->symbol = std::move(symbol);
  result->left = std::move(left);
  result->right = std::move(right);
  return result;
}

ExpressionPtr ExpressionParser::parse_tuple(bool conditional, Words ends, bool in_parentheses) {
  const Depth depth(depth_);
  auto tuple = node<Array>();
  tuple->tuple = true;
  bool comma = false;
  const auto at_end = [&] {
    return now().kind == Kind::end_print || now().kind == Kind::end_block || is_symbol(")") || is_word(ends);
  };
  for (;;) {
    if (!tuple->items.empty()) {
      if (!skip_symbol(",")) break;
      comma = true;
    }
    if (at_end()) break;
    tuple->items.push_back(conditional ? parse_expression() : parse_or());
    if (!is_symbol(",")) break;
  }
  if (!comma && tuple->items.size() == 1) return std::move(tuple->items[0]);
  if (tuple->items.empty() && !in_parentheses) unexpected("an expression");
  return tuple;
}

ExpressionPtr ExpressionParser::parse_expression() {
  const Depth depth(depth_);
  ExpressionPtr value = parse_or();
  while (skip_word("if")) {
    const Branch soft(in_branch_, true);
    auto choice = node<Conditional>();
    choice->then = std::move(value);
    choice->condition = parse_or();
    if (skip_word("else")) choice->otherwise = parse_expression();
    value = std::move(choice);
  }
  return value;
}

ExpressionPtr ExpressionParser::parse_or() {
  ExpressionPtr left = parse_and();
  while (skip_word("or")) left = binary("or", std::move(left), parse_and());
  return left;
}

ExpressionPtr ExpressionParser::parse_and() {
  ExpressionPtr left = parse_not();
  while (skip_word("and")) left = binary("and", std::move(left), parse_not());
  return left;
}

ExpressionPtr ExpressionParser::parse_not() {
  if (!skip_word("not")) return parse_comparison();
  const Depth depth(depth_);
  auto negation = node<Unary>();
  negation->kind = Unary::Kind::logical_not;
  negation->operand = parse_not();
  return negation;
}

ExpressionPtr ExpressionParser::parse_comparison() {
  auto comparison = node<Comparison>();
  comparison->first = parse_sum();
  for (;;) {
    std::string symbol;
    if (now().kind == Kind::symbol && is_one_of({"==", "!=", "<", "<=", ">", ">="})) {
      symbol = take().value;
    } else if (is_word("in")) {
      symbol = take().value;
    } else if (is_word("not") && after().kind == Kind::name && after().value == "in") {
      take();
      take();
      symbol = "not in";
    } else {
      break;
    }
    comparison->others.emplace_back(symbol, parse_sum());
  }
  if (comparison->others.empty()) return std::move(comparison->first);
  return comparison;
}

bool ExpressionParser::is_one_of(Words symbols) const {
  return now().kind == Kind::symbol && std::ranges::find(symbols, now().value) != symbols.end();
}

ExpressionPtr ExpressionParser::parse_sum() {
  ExpressionPtr left = parse_concatenation();
  while (is_one_of({"+", "-"})) {
    const std::string symbol = take().value;
    left = binary(symbol, std::move(left), parse_concatenation());
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_concatenation() {
  ExpressionPtr left = parse_product();
  while (skip_symbol("~")) left = binary("~", std::move(left), parse_product());
  return left;
}

ExpressionPtr ExpressionParser::parse_product() {
  ExpressionPtr left = parse_power();
  while (is_one_of({"*", "/", "//", "%"})) {
    const std::string symbol = take().value;
    left = binary(symbol, std::move(left), parse_power());
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_power() {
  ExpressionPtr left = parse_unary();
  while (skip_symbol("**")) left = binary("**", std::move(left), parse_unary());
  return left;
}

ExpressionPtr ExpressionParser::parse_unary(bool with_filter) {
  const Depth depth(depth_);
  ExpressionPtr value;
  if (is_one_of({"-", "+"})) {
    auto sign = node<Unary>();
    sign->kind = take().value == "-" ? Unary::Kind::minus : Unary::Kind::plus;
    sign->operand = parse_unary(false);
    value = std::move(sign);
  } else {
    value = parse_primary();
  }
  value = parse_postfix(std::move(value));
  return with_filter ? parse_filters(std::move(value)) : std::move(value);
}

ExpressionPtr ExpressionParser::parse_primary() {
  const Token token = now();
  switch (token.kind) {
    case Kind::name: {
      take();
      if (token.value == "true" || token.value == "True") return std::make_unique<Constant>(true);
      if (token.value == "false" || token.value == "False") return std::make_unique<Constant>(false);
      if (token.value == "none" || token.value == "None") return std::make_unique<Constant>(None{});
      names_.insert(token.value);
      return std::make_unique<Name>(token.value);
    }
    case Kind::text: {
      std::string text;
      while (now().kind == Kind::text) text += take().value;
      return std::make_unique<Constant>(text);
    }
    case Kind::integer:
      take();
      return std::make_unique<Constant>(whole_number(token.value));
    case Kind::real:
      take();
      return std::make_unique<Constant>(std::stod(token.value));
    default:
      break;
  }
  if (skip_symbol("(")) {
    ExpressionPtr value = parse_tuple(true, {}, true);
    expect_symbol(")");
    return value;
  }
  if (is_symbol("[")) return parse_list();
  if (is_symbol("{")) return parse_dict();
  unexpected("an expression");
}

std::int64_t ExpressionParser::whole_number(const std::string& digits) {
  try {
    return std::stoll(digits);
  } catch (const std::out_of_range&) {
    fail("the number {} does not fit 64 bits, which is not supported", digits);
  }
}

ExpressionPtr ExpressionParser::parse_list() {
  auto list = node<Array>();
  for (take(); !is_symbol("]");) {
    if (!list->items.empty()) expect_symbol(",");
    if (is_symbol("]")) break;
    list->items.push_back(parse_expression());
  }
  take();
  return list;
}

ExpressionPtr ExpressionParser::parse_dict() {
  auto dict = node<DictLiteral>();
  for (take(); !is_symbol("}");) {
    if (!dict->entries.empty()) expect_symbol(",");
    if (is_symbol("}")) break;
    ExpressionPtr key = parse_expression();
    expect_symbol(":");
    dict->entries.emplace_back(std::move(key), parse_expression());
  }
  take();
  return dict;
}

ExpressionPtr ExpressionParser::parse_postfix(ExpressionPtr value) {
  for (;; link()) {
    if (skip_symbol(".")) {
      value = parse_attribute(std::move(value));
    } else if (is_symbol("[")) {
      value = parse_subscript(std::move(value));
    } else if (is_symbol("(")) {
      value = parse_call(std::move(value));
    } else {
      return value;
    }
  }
}

ExpressionPtr ExpressionParser::parse_attribute(ExpressionPtr object) {
  if (now().kind == Kind::integer) {
    auto item = node<GetItem>();
    item->object = std::move(object);
    item->key = std::make_unique<Constant>(whole_number(take().value));
    return item;
  }
  auto attribute = node<GetAttribute>();
  attribute->object = std::move(object);
  attribute->name = take_name();
  return attribute;
}

ExpressionPtr ExpressionParser::parse_subscript(ExpressionPtr object) {
  take();
  const auto part = [&]() -> ExpressionPtr { return is_symbol(":") || is_symbol("]") ? nullptr : parse_expression(); };
  ExpressionPtr start = part();
  if (is_symbol(",")) fail("a subscript of several values is not supported");
  if (skip_symbol(":")) {
    auto slice = node<Slice>();
    slice->object = std::move(object);
    slice->start = std::move(start);
    slice->stop = part();
    if (skip_symbol(":")) slice->step = part();
    expect_symbol("]");
    return slice;
  }
  if (!start) unexpected("a subscript");
  expect_symbol("]");
  auto item = node<GetItem>();
  item->object = std::move(object);
  item->key = std::move(start);
  return item;
}

CallArguments ExpressionParser::parse_arguments() {
  CallArguments arguments;
  expect_symbol("(");
  for (bool first = true; !is_symbol(")"); first = false) {
    if (!first) expect_symbol(",");
    if (is_symbol(")")) break;
    if (skip_symbol("**")) {
      arguments.more_keywords = parse_expression();
    } else if (skip_symbol("*")) {
      arguments.more_positional = parse_expression();
    } else if (now().kind == Kind::name && after().kind == Kind::symbol && after().value == "=") {
      std::string name = take_name();
      take();
      arguments.keywords.emplace_back(std::move(name), parse_expression());
    } else {
      if (!arguments.keywords.empty() || arguments.more_keywords)
        fail("a positional argument follows a keyword argument");
      arguments.positional.push_back(parse_expression());
    }
  }
  take();
  return arguments;
}

ExpressionPtr ExpressionParser::parse_call(ExpressionPtr function) {
  auto call = node<Call>();
  call->function = std::move(function);
  call->arguments = parse_arguments();
  return call;
}

ExpressionPtr ExpressionParser::parse_filter(ExpressionPtr operand) {
  auto filter = node<FilterCall>();
  filter->operand = std::move(operand);
  filter->name = parse_dotted_name();
  if (!in_branch_ && !is_jinja_filter(filter->name)) fail("No filter named '{}'", filter->name);
  if (is_symbol("(")) filter->arguments = parse_arguments();
  return filter;
}

ExpressionPtr ExpressionParser::parse_filters(ExpressionPtr value) {
  for (;; link()) {
    if (skip_symbol("|")) {
      value = parse_filter(std::move(value));
    } else if (skip_word("is")) {
      value = parse_test(std::move(value));
    } else if (is_symbol("(")) {
      value = parse_call(std::move(value));
    } else {
      return value;
    }
  }
}

ExpressionPtr ExpressionParser::parse_block_filters() {
  ExpressionPtr filters = parse_filter(nullptr);
  for (; skip_symbol("|"); link()) filters = parse_filter(std::move(filters));
  return filters;
}

std::string ExpressionParser::parse_dotted_name() {
  std::string name = take_name();
  while (skip_symbol(".")) name += "." + take_name();
  return name;
}

ExpressionPtr ExpressionParser::parse_test(ExpressionPtr operand) {
  auto test = node<TestCall>();
  test->operand = std::move(operand);
  test->negated = skip_word("not");
  if (is_symbol("==") || is_symbol("!=")) unexpected("a test's name");
  test->name = parse_dotted_name();
  if (!in_branch_ && !is_jinja_test(test->name)) fail("No test named '{}'", test->name);
  if (is_symbol("(")) {
    test->arguments = parse_arguments();
  } else if ((now().kind == Kind::name && !is_word({"else", "or", "and"})) || now().kind == Kind::text ||
             now().kind == Kind::integer || now().kind == Kind::real || is_one_of({"[", "{"})) {
    if (is_word("is")) fail("You cannot chain multiple tests with is");
    test->arguments.positional.push_back(parse_postfix(parse_primary()));
  }
  return test;
}

}  // namespace grist::text::jinja
