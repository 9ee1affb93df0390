#include <grist/text/chat_template.hpp>

#include <grist/core/errors.hpp>
#include <grist/text/jinja/interpreter.hpp>
#include <grist/text/jinja/parser.hpp>
#include <grist/text/utf8.hpp>

#include <algorithm>

namespace grist::text {

std::string apply_chat_template(std::string_view source, const std::vector<Message>& messages,
                                bool add_generation_prompt, const SpecialTokens& special_tokens) {
  using namespace jinja;
  if (const auto at = find_invalid_utf8(source)) throw InputError("chat template: not UTF-8 at offset {}", *at);
  Items conversation;
  for (const Message& message : messages) {
    conversation.emplace_back(Dict{{{"role", message.role}, {"content", message.content}}});
  }
  std::map<std::string, Value, std::less<>> variables{{"messages", Value::list(std::move(conversation))},
                                                      {"tools", None{}},
                                                      {"documents", None{}},
                                                      {"add_generation_prompt", add_generation_prompt}};
  for (const auto& [name, text] : special_tokens) variables.emplace(name, text);
  try {
    return render_template(parse(source), std::move(variables));
  } catch (const Failure& failure) {
    std::string complaint = failure.what();
    std::ranges::replace(complaint, '\n', ' ');
    throw InputError("chat template, line {}: {}", failure.line, complaint);
  }
}

}  // namespace grist::text
