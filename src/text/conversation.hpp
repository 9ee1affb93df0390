// A conversation as training reads it: the tokens that the chat template makes of it, and which are the assistant's.
#pragma once

#include <grist/text/tokenizer.hpp>

#include <vector>

namespace grist::text {

struct Conversation {
  std::vector<int> ids;
  std::vector<char> trained;  // for each id: 1 in an answer and what the template puts behind it (the end of turn)
};

/// Encodes a conversation as `grist chat` does. An answer is what rendering the conversation up to and with it adds to
/// the prompt before it; a token across that border counts as the answer's. Throws InputError where there is no
/// template or no answer, and where the template writes earlier messages otherwise once others follow.
Conversation encode_conversation(const Tokenizer& tokenizer, const std::vector<Message>& messages);

}  // namespace grist::text
