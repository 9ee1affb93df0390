// Expressions of Jinja2's grammar, from the loosest binding to the tightest.
#pragma once

#include <grist/text/jinja/lexer.hpp>
#include <grist/text/jinja/syntax.hpp>

#include <algorithm>
#include <initializer_list>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace grist::text::jinja {

/// Reads expressions from a stream of tokens. Throws Failure.
class ExpressionParser {
protected:
  using Kind = Token::Kind;
  using Words = std::initializer_list<std::string_view>;
  static constexpr int max_depth = 150;
  static constexpr int max_links = 5000;  // operators, calls and filters of one tag

  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  /// Counts how deep the grammar's rules are nested.
  struct Depth {
    int& depth;
    explicit Depth(int& d) : depth(d) {
      if (++depth > max_depth) fail("nested deeper than {}", max_depth);
    }
    ~Depth() { --depth; }
  };
  /// Jinja lets branches of an `if` name filters that do not exist, until they are used.
  struct Branch {
    bool& in_branch;
    bool before;
    Branch(bool& flag, bool value) : in_branch(flag), before(flag) { flag = value; }
    ~Branch() { in_branch = before; }
  };

  // ---- the stream of tokens ----
  [[nodiscard]] const Token& now() const { return tokens_[at_]; }
  [[nodiscard]] const Token& after() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  [[nodiscard]] bool is_word(std::string_view word) const { return now().kind == Kind::name && now().value == word; }
  [[nodiscard]] bool is_word(Words words) const {
    return now().kind == Kind::name && std::ranges::find(words, now().value) != words.end();
  }
  [[nodiscard]] bool is_symbol(std::string_view symbol) const {
    return now().kind == Kind::symbol && now().value == symbol;
  }
  Token take() {
    Token token = now();
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool skip_word(std::string_view word) { return is_word(word) && (take(), true); }
  bool skip_symbol(std::string_view symbol) { return is_symbol(symbol) && (take(), true); }
  [[noreturn]] void unexpected(std::string_view wanted) const {
    const std::string found = now().kind == Kind::end ? "the template's end"
                              : now().kind == Kind::end_block || now().kind == Kind::end_print
                                  ? "the tag's end"
                                  : "'" + now().value + "'";
    fail("found {}, expected {}", found, wanted);
  }
  void expect_symbol(std::string_view symbol) {
    if (!skip_symbol(symbol)) unexpected("'" + std::string(symbol) + "'");
  }
  void expect_word(std::string_view word) {
    if (!skip_word(word)) unexpected(word);
  }
  void expect(Kind kind, std::string_view what) {
    if (now().kind != kind) unexpected(what);
    take();
  }
  std::string take_name() {
    if (now().kind != Kind::name || (now().value[0] >= '0' && now().value[0] <= '9')) unexpected("a name");
    return take().value;
  }

  // ---- expressions ----
  /// Chains are as deep as they are long.
  void link();
  ExpressionPtr binary(std::string symbol, ExpressionPtr left, ExpressionPtr right);
  /// Expressions between commas are a tuple; one alone is itself.
  ExpressionPtr parse_tuple(bool conditional = true, Words ends = {}, bool in_parentheses = false);
  ExpressionPtr parse_expression();
  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_comparison();
  [[nodiscard]] bool is_one_of(Words symbols) const;
  ExpressionPtr parse_sum();
  ExpressionPtr parse_concatenation();
  ExpressionPtr parse_product();
  ExpressionPtr parse_power();
  ExpressionPtr parse_unary(bool with_filter = true);
  ExpressionPtr parse_primary();
  static std::int64_t whole_number(const std::string& digits);
  ExpressionPtr parse_list();
  ExpressionPtr parse_dict();
  ExpressionPtr parse_postfix(ExpressionPtr value);
  ExpressionPtr parse_attribute(ExpressionPtr object);
  ExpressionPtr parse_subscript(ExpressionPtr object);
  CallArguments parse_arguments();
  ExpressionPtr parse_call(ExpressionPtr function);
  ExpressionPtr parse_filter(ExpressionPtr operand);
  /// Filters, tests and calls after a value.
  ExpressionPtr parse_filters(ExpressionPtr value);
  /// The filters of a block's text, from the first one's name.
  ExpressionPtr parse_block_filters();
  std::string parse_dotted_name();
  ExpressionPtr parse_test(ExpressionPtr operand);

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int depth_ = 0;
  int links_ = 0;
  bool in_branch_ = false;
  std::set<std::string, std::less<>> names_;  // that the macro being read asks for
};

}  // namespace grist::text::jinja
