#include <grist/text/jinja/parser.hpp>

#include <grist/text/jinja/expression_parser.hpp>

#include <set>

namespace grist::text::jinja {
namespace {

template <class T>
std::unique_ptr<T> node() {
  return std::make_unique<T>();
}

class Parser final : ExpressionParser {
public:
  explicit Parser(std::vector<Token> tokens) : ExpressionParser(std::move(tokens)) {}

  Block run() {
    try {
      Block block = parse_block({});
      return block;
    } catch (Failure& failure) {
      if (failure.line == 0) failure.line = now().line;
      throw;
    }
  }

private:
  /// Statements up to a tag that begins with one of `ends`; that word is not taken. With none, up to the end.
  Block parse_block(Words ends) {
    const Depth depth(depth_);
    Block block;
    while (now().kind != Kind::end) {
      const int line = now().line;
      links_ = 0;
      if (now().kind == Kind::data) {
        auto data = node<Data>();
        data->text = take().value;
        data->line = line;
        block.push_back(std::move(data));
      } else if (now().kind == Kind::begin_print) {
        take();
        auto print = node<Print>();
        print->line = line;
        print->value = parse_tuple();
        expect(Kind::end_print, "the end of the expression");
        block.push_back(std::move(print));
      } else {
        take();  // begin_block
        if (is_word(ends)) return block;
        auto statement = parse_statement();
        statement->line = line;
        block.push_back(std::move(statement));
        expect(Kind::end_block, "the end of the tag");
      }
    }
    if (ends.size() > 0) unexpected(std::string("the tag ") + std::string(*(ends.end() - 1)));
    return block;
  }

  /// The body of a tag: from the end of its tag to one of `ends`.
  Block parse_body(Words ends) {
    skip_symbol(":");
    expect(Kind::end_block, "the end of the tag");
    return parse_block(ends);
  }

  std::unique_ptr<Statement> parse_statement() {
    const std::string tag = take_name();
    if (tag == "for") return parse_for();
    if (tag == "if") return parse_if();
    if (tag == "set") return parse_set();
    if (tag == "macro") return parse_macro();
    if (tag == "call") return parse_call_block();
    if (tag == "filter") return parse_filter_block();
    if (tag == "with") return parse_with();
    if (tag == "print") {
      auto all = node<With>();
      do {
        auto print = node<Print>();
        print->value = parse_expression();
        all->body.push_back(std::move(print));
      } while (skip_symbol(","));
      return all;
    }
    if (tag == "generation") {
      auto body = node<With>();
      const Branch hard(in_branch_, false);
      body->body = parse_inner_body({"endgeneration"});
      return body;
    }
    if (tag == "break" || tag == "continue") {
      if (loops_ == 0) fail("'{}' outside of a loop", tag);
      auto control = node<LoopControl>();
      control->flow = tag == "break" ? Flow::leave_loop : Flow::next_iteration;
      return control;
    }
    static const std::set<std::string, std::less<>> known = {"block",  "extends", "include",
                                                             "import", "from",    "autoescape"};
    if (known.contains(tag)) fail("the tag '{}' is not supported", tag);
    fail("Encountered unknown tag '{}'", tag);
  }

  std::unique_ptr<Statement> parse_for() {
    auto loop = node<For>();
    loop->target = parse_target(false);
    expect_word("in");
    loop->over = parse_tuple(false, {"recursive"});
    const Branch hard(in_branch_, false);
    if (skip_word("if")) loop->condition = parse_expression();
    loop->recursive = skip_word("recursive");
    ++loops_;
    loop->body = parse_body({"else", "endfor"});
    --loops_;
    if (take().value == "else") {
      loop->otherwise = parse_body({"endfor"});
      take();
    }
    return loop;
  }

  std::unique_ptr<Statement> parse_if() {
    const Branch soft(in_branch_, true);
    auto choice = node<If>();
    for (;;) {
      auto condition = parse_tuple(false);
      choice->branches.emplace_back(std::move(condition), parse_body({"elif", "else", "endif"}));
      const std::string word = take().value;
      if (word == "elif") continue;
      if (word == "else") {
        choice->otherwise = parse_body({"endif"});
        take();
      }
      return choice;
    }
  }

  std::unique_ptr<Statement> parse_set() {
    auto set = node<Set>();
    set->target = parse_target(true);
    if (skip_symbol("=")) {
      set->value = parse_tuple();
      return set;
    }
    if (skip_symbol("|")) set->filter = parse_block_filters();
    const Branch hard(in_branch_, false);
    set->body = parse_inner_body({"endset"});
    return set;
  }

  /// A body that breaks and continues no loop outside, up to its end tag.
  Block parse_inner_body(Words ends) {
    const int loops = std::exchange(loops_, 0);
    Block body = parse_body(ends);
    take();
    loops_ = loops;
    return body;
  }

  void parse_signature(MacroBody& macro) {
    expect_symbol("(");
    while (!is_symbol(")")) {
      if (!macro.parameters.empty()) expect_symbol(",");
      if (is_symbol(")")) break;
      macro.parameters.push_back(take_name());
      if (skip_symbol("=")) {
        macro.defaults.push_back(parse_expression());
      } else if (!macro.defaults.empty()) {
        fail("non-default argument follows default argument");
      }
    }
    take();
  }

  void parse_macro_body(MacroBody& macro, std::string_view end) {
    const auto outside = std::exchange(names_, {});
    const Branch hard(in_branch_, false);
    macro.body = parse_inner_body({end});
    macro.uses_caller = names_.contains("caller");
    macro.uses_varargs = names_.contains("varargs");
    macro.uses_kwargs = names_.contains("kwargs");
    names_ = outside;
  }

  std::unique_ptr<Statement> parse_macro() {
    auto statement = node<MacroStatement>();
    statement->macro.name = take_name();
    parse_signature(statement->macro);
    parse_macro_body(statement->macro, "endmacro");
    return statement;
  }

  std::unique_ptr<Statement> parse_call_block() {
    auto block = node<CallBlock>();
    block->caller.name = "caller";
    if (is_symbol("(")) parse_signature(block->caller);
    block->call = parse_expression();
    if (dynamic_cast<const Call*>(block->call.get()) == nullptr) fail("expected a call after the tag 'call'");
    parse_macro_body(block->caller, "endcall");
    return block;
  }

  std::unique_ptr<Statement> parse_filter_block() {
    auto block = node<FilterBlock>();
    block->filter = parse_block_filters();
    const Branch hard(in_branch_, false);
    block->body = parse_inner_body({"endfilter"});
    return block;
  }

  std::unique_ptr<Statement> parse_with() {
    auto with = node<With>();
    while (now().kind != Kind::end_block) {
      if (!with->variables.empty()) expect_symbol(",");
      Target target = parse_target(false);
      expect_symbol("=");
      with->variables.emplace_back(std::move(target), parse_expression());
    }
    const Branch hard(in_branch_, false);
    with->body = parse_body({"endwith"});
    take();
    return with;
  }

  Target parse_one_target(bool with_attribute) {
    Target target;
    if (skip_symbol("(")) {
      target = parse_target(with_attribute);
      expect_symbol(")");
      return target;
    }
    target.name = take_name();
    static const std::set<std::string, std::less<>> reserved = {"true", "false", "none", "True", "False", "None"};
    if (reserved.contains(target.name)) fail("can't assign to '{}'", target.name);
    if (with_attribute && skip_symbol(".")) target.attribute = take_name();
    return target;
  }

  Target parse_target(bool with_attribute) {
    Target first = parse_one_target(with_attribute);
    if (!is_symbol(",")) return first;
    Target all;
    all.unpacks = true;
    all.several.push_back(std::move(first));
    while (skip_symbol(",")) {
      if (is_word("in") || is_symbol("=") || is_symbol(")")) break;
      all.several.push_back(parse_one_target(with_attribute));
    }
    return all;
  }

  int loops_ = 0;  // around what is being read
};

}  // namespace

Block parse(std::string_view source) { return Parser(tokenize(source)).run(); }

}  // namespace grist::text::jinja
