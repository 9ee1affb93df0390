// Chat templates: the Jinja program that turns a conversation into a prompt.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace grist::io {

struct Message {
  std::string role;  // system, user, assistant
  std::string content;
};

/// The prompt that a template makes of a conversation. Throws InputError with the template's own complaint.
std::string apply_chat_template(std::string_view jinja, const std::vector<Message>& messages, bool add_generation_prompt,
                                std::string_view bos_text, std::string_view eos_text);

}  // namespace grist::io
