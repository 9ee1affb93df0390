// The tokens of a Jinja template, read as Jinja2 reads them with trim_blocks and lstrip_blocks, as transformers sets
// them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace grist::text::jinja {

struct Token {
  enum class Kind { data, begin_print, end_print, begin_block, end_block, name, text, integer, real, symbol, end };
  Kind kind = Kind::end;
  std::string value{};  // of data, names, symbols; a text's characters; a number's digits
  int line = 1;
};

/// Throws Failure. The last token is `end`.
std::vector<Token> tokenize(std::string_view source);

}  // namespace grist::text::jinja
