// Chat templates: the Jinja program that turns a conversation into a prompt.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace grist::text {

struct Message {
  std::string role;  // system, user, assistant
  std::string content;
};

/// Texts of the special tokens that a model has, by transformers' names: bos_token, eos_token, pad_token ...
using SpecialTokens = std::map<std::string, std::string, std::less<>>;

/// The prompt that a template makes of a conversation, as transformers renders it: without tools or documents. Throws
/// InputError with the template's own complaint, or the name of what is not supported, and the line.
std::string apply_chat_template(std::string_view source, const std::vector<Message>& messages,
                                bool add_generation_prompt, const SpecialTokens& special_tokens);

}  // namespace grist::text
