#include "prompt_file.hpp"

#include "request_options.hpp"
#include "texts.hpp"

#include <grist/core/errors.hpp>

#include <format>
#include <map>
#include <sstream>

namespace grist::cli {
namespace {

using nlohmann::json;

/// The keys of one line, each of which is asked for once.
class Line {
public:
  Line(std::string place, const std::string& text) : place_(std::move(place)) {
    try {
      object_ = json::parse(text);
    } catch (const json::exception& error) {
      throw InputError("{}: no JSON: {}", place_, error.what());
    }
    if (!object_.is_object()) throw InputError("{}: expected an object, as {{\"prompt\": \"...\"}}", place_);
  }

  [[nodiscard]] const std::string& place() const { return place_; }
  [[nodiscard]] bool has(const char* key) const { return object_.contains(key); }

  /// The value of a key, which is taken; null where there is none.
  json take(const char* key) {
    const auto found = object_.find(key);
    if (found == object_.end()) return nullptr;
    json value = std::move(*found);
    object_.erase(found);
    return value;
  }
  template <class T>
    requires std::is_arithmetic_v<T>
  void take(const char* key, T& to) {
    const json value = take(key);
    if (value.is_null()) return;
    const bool fits = std::is_floating_point_v<T> ? value.is_number() : value.is_number_integer();
    if (!fits) refuse(key, value, std::is_floating_point_v<T> ? "a number" : "an integer");
    to = value.template get<T>();
    if constexpr (!std::is_floating_point_v<T>)
      if (json(to) != value) refuse(key, value, "an integer that is not so large");
  }
  void take(const char* key, bool& to) {
    const json value = take(key);
    if (value.is_null()) return;
    if (!value.is_boolean()) refuse(key, value, "true or false");
    to = value.get<bool>();
  }
  void take(const char* key, std::vector<std::string>& to) {
    const json value = take(key);
    if (value.is_null()) return;
    const json list = value.is_array() ? value : json::array({value});
    for (const auto& text : list)
      if (!text.is_string()) refuse(key, value, "a text or a list of texts");
    list.get_to(to);
  }
  [[noreturn]] void refuse(const char* key, const json& value, const char* expected) const {
    throw InputError("{}: '{}' is {}, expected {}", place_, key, value.dump(), expected);
  }
  /// Throws where a key was not asked for.
  void expect_nothing_left() const {
    if (object_.empty()) return;
    std::string known = "id, prompt, prompt_ids, messages";
    for_each_option(Request(), [&](const char* name, const auto&) { known += std::string(", ") + name; });
    throw InputError("{}: unknown key '{}'; known are {}", place_, object_.begin().key(), known);
  }

private:
  std::string place_;
  json object_;
};

std::vector<text::Message> messages_of(const Line& line, const json& value) {
  constexpr const char* expected = "a list of {\"role\": \"...\", \"content\": \"...\"}";
  if (!value.is_array() || value.empty()) line.refuse("messages", value, expected);
  std::vector<text::Message> messages;
  for (const auto& message : value) {
    const bool plain = message.is_object() && message.size() == 2 && message.contains("role") &&
                       message.contains("content") && message["role"].is_string() && message["content"].is_string();
    if (!plain) line.refuse("messages", message, expected);
    messages.push_back({message["role"].get<std::string>(), message["content"].get<std::string>()});
  }
  return messages;
}

std::vector<int> ids_of(const Line& line, const json& value) {
  if (!value.is_array()) line.refuse("prompt_ids", value, "a list of token ids");
  for (const auto& id : value)
    if (!id.is_number_integer() || json(id.get<int>()) != id) line.refuse("prompt_ids", id, "a token id");
  return value.get<std::vector<int>>();
}

std::vector<int> prompt_of(Line& line, const PromptReader& reader) {
  const json text = line.take("prompt"), ids = line.take("prompt_ids"), messages = line.take("messages");
  if ((text.is_null() ? 0 : 1) + (ids.is_null() ? 0 : 1) + (messages.is_null() ? 0 : 1) != 1)
    throw InputError("{}: expected one of 'prompt', 'prompt_ids' and 'messages'", line.place());
  try {
    if (!ids.is_null()) return ids_of(line, ids);
    if (!messages.is_null()) return reader.encode_messages(messages_of(line, messages));
    if (!text.is_string()) line.refuse("prompt", text, "a text");
    return reader.encode(text.get<std::string>());
  } catch (const InputError& error) {
    if (std::string(error.what()).starts_with(line.place())) throw;
    throw InputError("{}: {}", line.place(), error.what());
  }
}

PromptLine line_of(Line& line, Index number, const Request& otherwise, const PromptReader& reader) {
  PromptLine prompt{line.take("id"), otherwise};
  if (prompt.id.is_null()) prompt.id = number;
  if (!prompt.id.is_string() && !prompt.id.is_number_integer()) line.refuse("id", prompt.id, "a text or an integer");
  for_each_option(prompt.request, [&](const char* name, auto& value) { line.take(name, value); });
  prompt.request.prompt = prompt_of(line, reader);
  line.expect_nothing_left();
  return prompt;
}

}  // namespace

std::vector<PromptLine> read_prompts(const std::string& file, const Request& otherwise, const PromptReader& reader) {
  std::istringstream lines(read_text(file));
  std::vector<PromptLine> prompts;
  std::map<json, Index> ids;
  std::map<std::pair<std::vector<int>, std::uint64_t>, int> copies;  // of a prompt with a seed
  std::string text;
  for (Index number = 1; std::getline(lines, text); ++number) {
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    Line line(std::format("{} line {}", file, number), text);
    auto prompt = line_of(line, number - 1, otherwise, reader);
    const auto [before, first] = ids.emplace(prompt.id, number);
    if (!first) throw InputError("{}: id {} is that of line {} too", line.place(), prompt.id.dump(), before->second);
    try {
      reader.check(prompt.request);
    } catch (const Error& error) {
      throw InputError("{}: {}", line.place(), error.what());
    }
    prompt.request.copy = copies[{prompt.request.prompt, prompt.request.sampling.seed}]++;
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

}  // namespace grist::cli
