#include "prompt_file.hpp"

#include "json_lines.hpp"
#include "request_options.hpp"

#include <grist/core/errors.hpp>

#include <algorithm>
#include <format>
#include <limits>
#include <map>
#include <utility>

namespace grist::cli {
namespace {

using nlohmann::json;

/// Whether a JSON integer is one of T's. (JSON's are compared modulo 2^64.)
template <class T>
bool is_in_range(const json& value) {
  return value.is_number_unsigned() ? std::in_range<T>(value.get<std::uint64_t>())
                                    : std::in_range<T>(value.get<std::int64_t>());
}

/// The keys of one line, each of which is asked for once.
class Line {
public:
  explicit Line(json& object) : object_(object) {}

  [[nodiscard]] bool is_zero(const char* key) const {
    const auto found = object_.find(key);
    return found != object_.end() && found->is_number() && found->get<double>() == 0;
  }
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
    if constexpr (std::is_floating_point_v<T>) {
      if (!value.is_number()) refuse(key, value, "a number");
    } else {
      if (!value.is_number_integer()) refuse(key, value, "an integer");
      if (!is_in_range<T>(value))
        refuse(key, value, std::format("an integer from {} to {}", std::numeric_limits<T>::min(),
                                       std::numeric_limits<T>::max()));
    }
    to = value.template get<T>();
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
  [[noreturn]] static void refuse(const char* key, const json& value, std::string_view expected) {
    throw InputError("'{}' is {}, expected {}", key, value.dump(), expected);
  }
  /// Throws where a key was not asked for.
  void expect_nothing_left() const {
    if (object_.empty()) return;
    std::string known = "id, prompt, prompt_ids, messages";
    for_each_option(Request(), [&](const char* name, const auto&) { known += std::string(", ") + name; });
    throw InputError("unknown key '{}'; known are {}", object_.begin().key(), known);
  }

private:
  json& object_;
};

std::vector<int> ids_of(const json& value) {
  if (!value.is_array()) Line::refuse("prompt_ids", value, "a list of token ids");
  for (const auto& id : value)
    if (!id.is_number_integer() || !is_in_range<int>(id)) Line::refuse("prompt_ids", id, "a token id");
  return value.get<std::vector<int>>();
}

std::vector<int> prompt_of(Line& line, const PromptReader& reader) {
  const json text = line.take("prompt"), ids = line.take("prompt_ids"), messages = line.take("messages");
  if ((text.is_null() ? 0 : 1) + (ids.is_null() ? 0 : 1) + (messages.is_null() ? 0 : 1) != 1)
    throw InputError("expected one of 'prompt', 'prompt_ids' and 'messages'");
  if (!ids.is_null()) return ids_of(ids);
  if (!messages.is_null()) return reader.encode_messages(messages_of(messages));
  if (!text.is_string()) Line::refuse("prompt", text, "a text");
  return reader.encode(text.get<std::string>());
}

/// What is said of options, said of a line's keys: --top-k is its 'top_k'.
std::string of_keys(std::string text) {
  const auto rename = [&](const std::string& key) {
    std::string option = "--" + key;
    std::ranges::replace(option, '_', '-');
    for (std::size_t at = 0; (at = text.find(option, at)) != std::string::npos;)
      text.replace(at, option.size(), "'" + key + "'");
  };
  for_each_option(Request(), [&](const char* name, const auto&) { rename(name); });
  rename("prompt_ids");
  return text;
}

PromptLine line_of(Line line, Index number, const PromptDefaults& defaults, const PromptReader& reader) {
  PromptLine prompt{line.take("id"), line.is_zero("temperature") ? defaults.greedy : defaults.otherwise};
  if (prompt.id.is_null()) prompt.id = number;
  if (!prompt.id.is_string() && !prompt.id.is_number_integer()) line.refuse("id", prompt.id, "a text or an integer");
  for_each_option(prompt.request, [&](const char* name, auto& value) { line.take(name, value); });
  prompt.request.prompt = prompt_of(line, reader);
  line.expect_nothing_left();
  return prompt;
}

}  // namespace

std::vector<PromptLine> read_prompts(const std::string& file, const PromptDefaults& defaults,
                                     const PromptReader& reader) {
  std::vector<PromptLine> prompts;
  std::map<json, Index> ids;
  std::map<std::pair<std::vector<int>, std::uint64_t>, int> copies;  // of a prompt with a seed
  each_json_line(file, [&](json& object, Index number) {
    try {
      prompts.push_back(line_of(Line(object), number - 1, defaults, reader));
      reader.check(prompts.back().request);
    } catch (const Error& error) {
      throw InputError("{}", of_keys(error.what()));
    }
    PromptLine& last = prompts.back();
    const auto [before, first] = ids.emplace(last.id, number);
    if (!first) throw InputError("id {} is that of line {} too", last.id.dump(), before->second);
    last.request.copy = copies[{last.request.prompt, last.request.sampling.seed}]++;
    return true;
  });
  return prompts;
}

}  // namespace grist::cli
