#include <grist/text/conversation.hpp>

#include <grist/core/errors.hpp>

#include <algorithm>

namespace grist::text {
namespace {

/// The text of the first `count` messages.
std::string render(const Tokenizer& tokenizer, const std::vector<Message>& messages, std::size_t count, bool prompt) {
  const auto end = messages.begin() + static_cast<std::ptrdiff_t>(count);
  return apply_chat_template(tokenizer.chat_template, {messages.begin(), end}, prompt, tokenizer.special_tokens);
}

/// How many tokens of `ids` the text, which `ids` begins with, has.
std::size_t tokens_of(const Tokenizer& tokenizer, const std::string& text, const std::vector<int>& ids) {
  return static_cast<std::size_t>(std::ranges::mismatch(tokenizer.encode(text, false), ids).in2 - ids.begin());
}

}  // namespace

Conversation encode_conversation(const Tokenizer& tokenizer, const std::vector<Message>& messages) {
  if (tokenizer.chat_template.empty()) throw InputError("the model has no chat template, which messages need");
  const std::string whole = render(tokenizer, messages, messages.size(), false);
  Conversation conversation{.ids = tokenizer.encode(whole, false), .trained = {}};
  conversation.trained.resize(conversation.ids.size());
  bool any = false;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role != "assistant") continue;
    const std::string prompt = render(tokenizer, messages, i, true);
    const std::string answered = render(tokenizer, messages, i + 1, false);
    if (!answered.starts_with(prompt))
      throw InputError("messages[{}]: the chat template does not begin the answered conversation with its prompt", i);
    if (!whole.starts_with(answered))
      throw InputError("messages[{}]: the chat template writes it otherwise where messages follow", i);
    const std::size_t begin = tokens_of(tokenizer, prompt, conversation.ids);
    const std::size_t end = tokens_of(tokenizer, answered, conversation.ids);
    for (std::size_t t = begin; t < end; ++t) conversation.trained[t] = 1;
    any = any || begin < end;
  }
  if (!any) throw InputError("no message of the assistant's: there is nothing to train on");
  return conversation;
}

}  // namespace grist::text
