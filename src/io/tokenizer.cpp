#include <grist/io/tokenizer.hpp>

#include <grist/core/errors.hpp>
#include <grist/io/gguf_tokenizer.hpp>
#include <grist/io/json_fields.hpp>
#include <grist/io/sentencepiece_tokenizer.hpp>
#include <grist/io/tokenizer_json.hpp>

#include <algorithm>
#include <charconv>
#include <iterator>

namespace grist::io {
namespace {

using nlohmann::json;
using std::filesystem::path;

/// tokenizer_config.json and the like: what stands beside the vocabulary.
struct Companions {
  std::string bos;
  std::string eos;
  std::string chat_template;
  bool add_bos = true;
  bool add_eos = false;
  std::vector<AddedToken> added{};
};

/// A special token is written as a string or as {"content": ...}; null where there is none.
std::string special_token(const json& config, const char* key, const std::string& where) {
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) return {};
  if (found->is_object()) return json_field<std::string>(*found, "content", where + ": '" + key + "'");
  return json_value<std::string>(*found, where + ": '" + key + "'");
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

Companions read_companions(const path& folder) {
  const path file = folder / "tokenizer_config.json";
  const std::string where = file.string();
  const json config = read_object(file);
  Companions result;
  result.bos = special_token(config, "bos_token", where);
  result.eos = special_token(config, "eos_token", where);
  result.add_bos = json_field_or(config, "add_bos_token", where, true);
  result.add_eos = json_field_or(config, "add_eos_token", where, false);
  result.chat_template = chat_template(config, where);
  if (config.contains("added_tokens_decoder")) {
    const json& added = json_member(config, "added_tokens_decoder", json::value_t::object, where);
    for (const auto& [id, entry] : added.items()) {
      result.added.push_back(read_added_token(entry, id_from(id, where), where));
    }
  }

  const path map_file = folder / "special_tokens_map.json";
  const json map = read_object(map_file);
  if (!config.contains("bos_token")) result.bos = special_token(map, "bos_token", map_file.string());
  if (!config.contains("eos_token")) result.eos = special_token(map, "eos_token", map_file.string());

  if (std::ifstream jinja(folder / "chat_template.jinja", std::ios::binary); jinja) {
    result.chat_template.assign(std::istreambuf_iterator<char>(jinja), {});
  }
  return result;
}

int id_of(const TokenizerParts& parts, const std::string& content) {
  if (content.empty()) return -1;
  const auto added = std::ranges::find(parts.added, content, &AddedToken::content);
  if (added != parts.added.end()) return added->id;
  const auto piece = std::ranges::find(parts.pieces, content);
  return piece == parts.pieces.end() ? -1 : static_cast<int>(piece - parts.pieces.begin());
}

std::unique_ptr<Tokenizer> make_tokenizer(TokenizerParts parts, const Companions& companions) {
  const int bos = id_of(parts, companions.bos);
  const int eos = id_of(parts, companions.eos);
  const auto make_special = [&](int id, const std::string& content) {
    if (id < 0) return;
    const auto known = std::ranges::find(parts.added, id, &AddedToken::id);
    if (known != parts.added.end()) {
      known->special = true;
    } else {
      parts.added.push_back({.id = id, .content = content, .special = true});
    }
  };
  make_special(bos, companions.bos);
  make_special(eos, companions.eos);
  auto tokenizer = std::make_unique<PieceTokenizer>(std::move(parts));
  tokenizer->bos = bos;
  if (eos >= 0) tokenizer->eos = {eos};
  tokenizer->bos_text = companions.bos;
  tokenizer->eos_text = companions.eos;
  tokenizer->chat_template = companions.chat_template;
  return tokenizer;
}

std::unique_ptr<Tokenizer> load_sentencepiece(const path& file, Companions companions) {
  SentencePieceParts found = read_sentencepiece(file);
  TokenizerParts& parts = found.parts;
  for (AddedToken& token : companions.added) {
    const auto known = std::ranges::find(parts.added, token.id, &AddedToken::id);
    if (known == parts.added.end()) {
      parts.added.push_back(std::move(token));
    } else {
      *known = std::move(token);
    }
  }
  if (companions.bos.empty()) companions.bos = found.bos;
  if (companions.eos.empty()) companions.eos = found.eos;
  const int bos = id_of(parts, companions.bos);
  const int eos = id_of(parts, companions.eos);
  if (companions.add_bos && bos >= 0) parts.prefix = {bos};
  if (companions.add_eos && eos >= 0) parts.suffix = {eos};
  return make_tokenizer(std::move(parts), companions);
}

std::unique_ptr<Tokenizer> load_gguf(const path& file) {
  const Gguf gguf = open_gguf(file);
  if (!gguf.metadata.contains("tokenizer.ggml.model")) return nullptr;
  TokenizerParts parts = read_gguf_tokenizer(gguf);
  const auto id = [&](std::string_view key) { return gguf_token_id(gguf, key, parts.pieces.size()); };
  const auto text = [&](int token) {
    return token < 0 ? std::string() : parts.pieces[static_cast<std::size_t>(token)];
  };
  const int eot = id("tokenizer.ggml.eot_token_id");
  const Companions companions{.bos = text(id("tokenizer.ggml.bos_token_id")),
                              .eos = text(id("tokenizer.ggml.eos_token_id")),
                              .chat_template = gguf.get_or<std::string>("tokenizer.chat_template", "")};
  auto tokenizer = make_tokenizer(std::move(parts), companions);
  if (eot >= 0 && tokenizer->eos != std::vector{eot}) tokenizer->eos.push_back(eot);
  return tokenizer;
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const path& model) {
  if (!is_directory(model)) return load_gguf(model);
  if (const path file = model / "tokenizer.json"; exists(file)) {
    return make_tokenizer(read_tokenizer_json(file), read_companions(model));
  }
  if (const path file = model / "tokenizer.model"; exists(file)) {
    return load_sentencepiece(file, read_companions(model));
  }
  return nullptr;
}

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(tokenizer), skip_special_(skip_special) {}

std::string StreamDecoder::put(int id) { return tokenizer_.decode_next(state_, id, skip_special_); }

std::string StreamDecoder::finish() { return tokenizer_.decode_end(state_); }

}  // namespace grist::io
