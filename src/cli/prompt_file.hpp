// A file of prompts for batch inference: JSON Lines, one request each.
#pragma once

#include <grist/generate/request.hpp>
#include <grist/text/chat_template.hpp>

#include <nlohmann/json.hpp>

#include <functional>
#include <string>
#include <vector>

namespace grist::cli {

/// One line. `id` is a string or an integer, the line's number from 0 where the line has none.
struct PromptLine {
  nlohmann::json id;
  Request request;
  std::string settings{};  // a hash of what else decides its answer: the model's files, types of numbers, options
};

/// What the model says of a prompt: the tokens of a text or a conversation, and whether it can be served.
struct PromptReader {
  std::function<std::vector<int>(const std::string& text)> encode;
  std::function<std::vector<int>(const std::vector<text::Message>& messages)> encode_messages;
  std::function<void(const Request& request)> check;  // throws where it cannot
};

/// What a line does not say: by the command line, else by the model's files, else the default. A line that sets its
/// temperature to 0 leaves what the model's files say.
struct PromptDefaults {
  Request otherwise, greedy;
};

/// Lines with one of `prompt`, `prompt_ids` and `messages`; with `id`, `max_new_tokens`, `temperature`, `top_k`,
/// `top_p`, `min_p`, `repetition_penalty`, `seed`, `stop` (a text or a list), `ignore_eos` where they differ from
/// the defaults. Empty lines are skipped. Throws InputError naming file and line: for what is no such line, for an
/// unknown key, an id that came before, a value out of range.
std::vector<PromptLine> read_prompts(const std::string& file, const PromptDefaults& defaults,
                                     const PromptReader& reader);

}  // namespace grist::cli
