#include <grist/text/companions.hpp>

#include <grist/core/errors.hpp>
#include <grist/io/json_fields.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>
#include <map>

namespace grist::text {
namespace {

using io::json_field;
using io::json_field_or;
using io::json_member;
using io::json_value;
using io::read_json;
using nlohmann::json;
using std::filesystem::path;

constexpr std::array special_names = {"bos_token", "eos_token", "unk_token", "pad_token",
                                      "sep_token", "cls_token", "mask_token"};

/// A token is written as a string or as {"content": ...}.
std::string token_text(const json& value, const std::string& where) {
  return value.is_object() ? json_field<std::string>(value, "content", where) : json_value<std::string>(value, where);
}

/// A string, or a list of {name, template} of which "default" is taken.
std::string chat_template(const json& config, const std::string& where) {
  const auto found = config.find("chat_template");
  if (found == config.end() || found->is_null()) return {};
  if (!found->is_array()) return json_value<std::string>(*found, where + ": 'chat_template'");
  for (const json& entry : *found) {
    if (json_field<std::string>(entry, "name", where) == "default") {
      return json_field<std::string>(entry, "template", where);
    }
  }
  return {};
}

json read_object(const path& file) {
  json object = exists(file) ? read_json(file) : json::object();
  if (!object.is_object()) throw InputError("{}: found {}, expected an object", file.string(), object.type_name());
  return object;
}

int id_from(const std::string& text, const std::string& where) {
  int id = -1;
  if (std::from_chars(text.data(), text.data() + text.size(), id).ptr != text.data() + text.size() || id < 0) {
    throw InputError("{}: found '{}', expected an id", where, text);
  }
  return id;
}

void read_special_tokens(const json& config, const std::string& where, Companions& result) {
  for (const char* const name : special_names) {
    const auto found = config.find(name);
    if (found == config.end() || found->is_null() || result.special_tokens.contains(name)) continue;
    const std::string text = token_text(*found, where + ": '" + name + "'");
    if (!text.empty()) result.special_tokens.emplace(name, text);
  }
  for (const char* const list : {"additional_special_tokens", "extra_special_tokens"}) {
    const auto found = config.find(list);
    if (found == config.end() || !found->is_array()) continue;
    for (const json& token : *found) result.more_special.push_back(token_text(token, where + ": '" + list + "'"));
  }
}

/// The whole of a file that may not be there.
std::string contents_of(const path& file) {
  std::ifstream in(file, std::ios::binary);
  return in ? std::string(std::istreambuf_iterator<char>(in), {}) : std::string();
}

void read_added_tokens(const json& config, const std::string& where, Companions& result) {
  if (!config.contains("added_tokens_decoder")) return;
  const json& added = json_member(config, "added_tokens_decoder", json::value_t::object, where);
  for (const auto& [id, entry] : added.items()) {
    result.added.push_back(read_added_token(entry, id_from(id, where), where));
  }
}

/// added_tokens.json, {"<|im_end|>": 32001}: tokens that tokenizer_config.json does not describe.
void read_added_tokens_file(const path& file, Companions& result) {
  const json added = read_object(file);
  for (const auto& [content, value] : added.items()) {
    const int id = json_value<int>(value, file.string() + ": '" + content + "'");
    if (id >= max_ids)
      throw InputError("{}: '{}' has the id {}, expected one below {}", file.string(), content, id, max_ids);
    if (std::ranges::find(result.added, id, &AddedToken::id) != result.added.end()) continue;
    const bool special =
        std::ranges::find(result.more_special, content) != result.more_special.end() ||
        std::ranges::any_of(result.special_tokens, [&](const auto& token) { return token.second == content; });
    result.added.push_back({.id = id, .content = content, .special = special});
  }
}

}  // namespace

Companions read_companions(const path& folder) {
  const path file = folder / "tokenizer_config.json";
  const std::string where = file.string();
  const json config = read_object(file);
  Companions result;
  result.tokenizer_class = json_field_or<std::string>(config, "tokenizer_class", where, "");
  if (result.tokenizer_class.ends_with("Fast")) result.tokenizer_class.resize(result.tokenizer_class.size() - 4);
  const auto flag = [&](const char* key) {
    const bool there = config.contains(key) && !config.at(key).is_null();
    return there ? std::optional(json_field<bool>(config, key, where)) : std::nullopt;
  };
  result.add_bos = flag("add_bos_token");
  result.add_eos = flag("add_eos_token");
  result.legacy = flag("legacy").value_or(true);
  result.add_prefix_space = flag("add_prefix_space");
  read_special_tokens(config, where, result);
  const path map_file = folder / "special_tokens_map.json";
  read_special_tokens(read_object(map_file), map_file.string(), result);
  read_added_tokens(config, where, result);
  result.described = result.added;
  read_added_tokens_file(folder / "added_tokens.json", result);
  std::ranges::sort(result.added, {}, &AddedToken::id);
  const path model_config = folder / "config.json";
  const json model = exists(model_config) ? read_object(model_config) : json::object();
  if (model.contains("model_type") && model.at("model_type").is_string()) result.model_type = model.at("model_type");

  const path template_json = folder / "chat_template.json";  // of a processor: where a tokenizer has none
  if (const json object = read_object(template_json); object.contains("chat_template"))
    result.chat_template = json_field<std::string>(object, "chat_template", template_json.string());
  if (auto own = chat_template(config, where); !own.empty()) result.chat_template = std::move(own);
  if (exists(folder / "chat_template.jinja")) result.chat_template = contents_of(folder / "chat_template.jinja");
  return result;
}

void complete(TokenizerParts& parts, const Companions& companions) {
  std::map<std::string, std::size_t, std::less<>> places;  // in parts.added
  int next = static_cast<int>(parts.pieces.size());
  for (std::size_t i = 0; i < parts.added.size(); ++i) {
    places.emplace(parts.added[i].content, i);
    next = std::max(next, parts.added[i].id + 1);
  }
  const auto add = [&](AddedToken token, int id) {
    token.id = id;
    places.emplace(token.content, parts.added.size());
    parts.added.push_back(std::move(token));
  };
  const auto piece = [&](const std::string& content) {
    const auto found = std::ranges::find(parts.pieces, content);
    return found == parts.pieces.end() ? -1 : static_cast<int>(found - parts.pieces.begin());
  };
  for (const AddedToken& token : companions.described) {
    const auto known = places.find(token.content);
    if (known == places.end()) continue;
    AddedToken& had = parts.added[known->second];
    const bool special = had.special || token.special;
    const int id = had.id;
    had = token;
    had.id = id;
    had.special = special;
  }
  for (const AddedToken& token : companions.added) {
    if (token.content.empty() || places.contains(token.content)) continue;
    const int id = piece(token.content);
    add(token, id >= 0 ? id : next++);
  }
  std::vector<std::string> special = companions.more_special;
  for (const auto& [name, text] : companions.special_tokens) special.push_back(text);
  for (const std::string& text : special) {
    if (text.empty()) continue;
    const auto known = places.find(text);
    if (known == places.end()) {
      if (const int id = piece(text); id >= 0) add({.content = text, .special = true}, id);
    } else if (std::ranges::find(companions.described, text, &AddedToken::content) != companions.described.end()) {
      parts.added[known->second].special = true;
    }
  }
}

}  // namespace grist::text
