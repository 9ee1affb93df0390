#include <grist/text/tokenizer_json.hpp>

#include <grist/core/errors.hpp>
#include <grist/io/json_fields.hpp>
#include <grist/text/bpe.hpp>

#include <algorithm>
#include <format>

namespace grist::text {
namespace {

using io::json_field;
using io::json_field_or;
using io::json_member;
using io::json_value;
using io::read_json;
using nlohmann::json;
using JsonType = json::value_t;

void add_template(const json& step, const std::string& where, std::vector<int>& before, std::vector<int>& after) {
  const json& special = json_member(step, "special_tokens", JsonType::object, where);
  bool seen = false;
  for (const json& item : json_member(step, "single", JsonType::array, where)) {
    if (item.contains("Sequence")) {
      const json& sequence = json_member(item, "Sequence", JsonType::object, where);
      if (seen || json_field<std::string>(sequence, "id", where) != "A") {
        throw InputError("{}: TemplateProcessing has another sequence than one A, which is not supported", where);
      }
      seen = true;
      continue;
    }
    const auto name = json_field<std::string>(json_member(item, "SpecialToken", JsonType::object, where), "id", where);
    const json& token = json_member(special, name.c_str(), JsonType::object, where);
    for (const json& id : json_member(token, "ids", JsonType::array, where)) {
      (seen ? after : before).push_back(json_value<int>(id, where));
    }
  }
  if (!seen) throw InputError("{}: TemplateProcessing has no sequence A", where);
}

/// The id of a pair such as ["[SEP]", 102].
int id_of_pair(const json& step, const char* key, const std::string& where) {
  const json& pair = json_member(step, key, JsonType::array, where);
  if (pair.size() != 2)
    throw InputError("{}: '{}' has {} elements, expected a token and its id", where, key, pair.size());
  return json_value<int>(pair[1], where);
}

void read_post_processor(const json& post_processor, const std::string& where, TokenizerParts& parts) {
  if (post_processor.is_null()) return;
  const auto type = json_field<std::string>(post_processor, "type", where);
  if (type == "Sequence") {
    for (const json& step : json_member(post_processor, "processors", JsonType::array, where)) {
      if (json_field<std::string>(step, "type", where) == "Sequence")
        throw InputError("{}: nested Sequences are not supported", where);
      read_post_processor(step, where, parts);
    }
    return;
  }
  if (type == "ByteLevel") return;  // changes offsets only
  std::vector<int> before, after;
  if (type == "TemplateProcessing") {
    add_template(post_processor, where, before, after);
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    before = {id_of_pair(post_processor, "cls", where)};
    after = {id_of_pair(post_processor, "sep", where)};
  } else {
    throw InputError("{}: the post-processor '{}' is not supported", where, type);
  }
  if (!parts.prefix.empty() || !parts.suffix.empty()) {
    throw InputError("{}: {} after a post-processor that adds tokens is not supported", where, type);
  }
  parts.prefix = std::move(before);
  parts.suffix = std::move(after);
}

std::vector<AddedToken> read_added_tokens(const json& root, const std::string& where) {
  std::vector<AddedToken> tokens;
  if (!root.contains("added_tokens")) return tokens;
  for (const json& entry : json_member(root, "added_tokens", JsonType::array, where)) {
    tokens.push_back(read_added_token(entry, json_field<int>(entry, "id", where), where));
  }
  return tokens;
}

/// Before tokenizers 0.20 a merge was "left right", since then it is ["left", "right"].
PiecePair read_merge(const json& merge, const std::string& where) {
  if (merge.is_string()) return split_merge(merge.get<std::string>(), where);
  if (merge.is_array() && merge.size() == 2) {
    return {json_value<std::string>(merge[0], where), json_value<std::string>(merge[1], where)};
  }
  throw InputError("{}: found a merge that is {}, expected a string or an array of two", where, merge.type_name());
}

struct Vocabulary {
  StringMap<int> ids;
  std::vector<std::string> pieces;
};

Vocabulary read_vocabulary(const json& model, const std::string& where) {
  Vocabulary result;
  const json& vocab = json_member(model, "vocab", JsonType::object, where);
  result.ids.reserve(vocab.size());
  for (const auto& [piece, value] : vocab.items()) {
    const int id = json_value<int>(value, where + ": vocab: '" + piece + "'");
    if (id >= max_ids) throw InputError("{}: '{}' has the id {}, expected one below {}", where, piece, id, max_ids);
    const auto index = static_cast<std::size_t>(id);
    if (index >= result.pieces.size()) result.pieces.resize(index + 1);
    if (!result.pieces[index].empty())
      throw InputError("{}: '{}' and '{}' have the same id {}", where, result.pieces[index], piece, id);
    result.pieces[index] = piece;
    result.ids.emplace(piece, id);
  }
  return result;
}

/// The id of unk_token; -1 where the model names none.
int unknown_id(const json& model, const StringMap<int>& vocab, const std::string& where) {
  const auto unknown = json_field_or<std::string>(model, "unk_token", where, "");
  if (unknown.empty()) return -1;
  if (const auto found = vocab.find(unknown); found != vocab.end()) return found->second;
  throw InputError("{}: unk_token '{}' is not in the vocabulary", where, unknown);
}

std::unique_ptr<TextModel> read_bpe(const json& model, Vocabulary vocabulary, PreTokenizer pre,
                                    const std::string& where) {
  BpeParts bpe;
  bpe.vocab = std::move(vocabulary.ids);
  if (const auto dropout = model.find("dropout"); dropout != model.end() && !dropout->is_null() && *dropout != 0.0) {
    throw InputError("{}: dropout is {}, which makes ids random; supported is none", where, dropout->dump());
  }
  bpe.inner_prefix = json_field_or<std::string>(model, "continuing_subword_prefix", where, "");
  bpe.word_suffix = json_field_or<std::string>(model, "end_of_word_suffix", where, "");
  if (pre.byte_level && !(bpe.inner_prefix.empty() && bpe.word_suffix.empty())) {  // these want words in the alphabet
    pre.steps.emplace_back(WriteBytes{});
    pre.byte_level = false;
  }
  std::vector<PiecePair> merges;
  for (const json& merge : json_member(model, "merges", JsonType::array, where)) {
    merges.push_back(read_merge(merge, where + ": merges"));
  }
  bpe.merges = merges_in_order(bpe.vocab, merges, where, bpe.inner_prefix);
  bpe.unknown = unknown_id(model, bpe.vocab, where);
  bpe.fuse_unknown = json_field_or(model, "fuse_unk", where, false);
  bpe.byte_fallback = json_field_or(model, "byte_fallback", where, false);
  bpe.ignore_merges = json_field_or(model, "ignore_merges", where, false);
  bpe.byte_level = pre.byte_level;
  bpe.pre_tokenizer = std::move(pre.steps);
  return make_bpe(std::move(bpe));
}

std::unique_ptr<TextModel> read_unigram(const json& model, PreTokenizer pre, TokenizerParts& parts,
                                        const std::string& where) {
  UnigramParts unigram;
  for (const json& entry : json_member(model, "vocab", JsonType::array, where)) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number()) {
      throw InputError("{}: vocab: found {}, expected a piece and its score", where, entry.type_name());
    }
    unigram.vocab.insert_or_assign(entry[0].get<std::string>(), static_cast<int>(unigram.scores.size()));
    parts.pieces.push_back(entry[0].get<std::string>());
    unigram.scores.push_back(entry[1].get<double>());
    if (parts.pieces.size() > max_ids) throw InputError("{}: vocab has more than {} pieces", where, max_ids);
  }
  unigram.unknown = json_field_or(model, "unk_id", where, -1);
  if (unigram.unknown >= static_cast<int>(unigram.scores.size()))
    throw InputError("{}: unk_id {} has no piece", where, unigram.unknown);
  unigram.byte_fallback = json_field_or(model, "byte_fallback", where, false);
  unigram.pre_tokenizer = std::move(pre.steps);
  return make_unigram(std::move(unigram));
}

/// Files of old name no type.
std::string model_type(const json& model, const std::string& where) {
  if (model.contains("type")) return json_field<std::string>(model, "type", where);
  if (model.contains("merges")) return "BPE";
  if (model.contains("max_input_chars_per_word")) return "WordPiece";
  return model.contains("vocab") && model.at("vocab").is_array() ? "Unigram" : "none";
}

std::unique_ptr<TextModel> read_model(const json& model, PreTokenizer pre, TokenizerParts& parts,
                                      std::size_t& vocab_size, const std::string& where) {
  const std::string type = model_type(model, where);
  if (type != "BPE" && pre.byte_level) {
    pre.steps.emplace_back(WriteBytes{});
    pre.byte_level = false;
  }
  if (type == "Unigram") {
    auto unigram = read_unigram(model, std::move(pre), parts, where);
    vocab_size = parts.pieces.size();
    return unigram;
  }
  if (type != "BPE" && type != "WordPiece" && type != "WordLevel")
    throw InputError("{}: the model '{}' is not supported", where, type);
  Vocabulary vocabulary = read_vocabulary(model, where);
  parts.pieces = vocabulary.pieces;
  vocab_size = vocabulary.ids.size();
  if (type == "BPE") return read_bpe(model, std::move(vocabulary), std::move(pre), where);
  if (type == "WordLevel") {
    const auto name = json_field_or<std::string>(model, "unk_token", where, "");
    const auto unknown = vocabulary.ids.find(name);
    return make_word_level(vocabulary.ids, unknown == vocabulary.ids.end() ? -1 : unknown->second,
                           std::move(pre.steps));
  }
  WordPieceParts piece{.unknown = unknown_id(model, vocabulary.ids, where)};
  if (piece.unknown < 0) throw InputError("{}: WordPiece has no unk_token", where);
  piece.prefix = json_field_or<std::string>(model, "continuing_subword_prefix", where, "##");
  piece.max_characters = static_cast<std::size_t>(json_field_or(model, "max_input_chars_per_word", where, 100));
  piece.vocab = std::move(vocabulary.ids);
  piece.pre_tokenizer = std::move(pre.steps);
  return make_word_piece_model(std::move(piece));
}

}  // namespace

std::vector<AddedToken> place_added_tokens(const std::vector<AddedToken>& tokens,
                                           const std::vector<std::string>& pieces, std::size_t vocab_size) {
  StringMap<int> ids;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    if (!pieces[i].empty()) ids.emplace(pieces[i], static_cast<int>(i));
  }
  std::vector<AddedToken> placed;
  int largest = -1;
  for (AddedToken token : tokens) {
    if (token.content.empty()) continue;
    const auto known = ids.find(token.content);
    const int size = static_cast<int>(vocab_size);
    token.id = known != ids.end()             ? known->second
               : largest < 0                  ? size
               : largest >= size || size == 0 ? largest + 1
                                              : size;
    largest = std::max(largest, token.id);
    ids.emplace(token.content, token.id);
    const auto before = std::ranges::find(placed, token.id, &AddedToken::id);
    if (before == placed.end())
      placed.push_back(std::move(token));
    else
      *before = std::move(token);
  }
  return placed;
}

TokenizerParts read_tokenizer_json(const std::filesystem::path& file, std::optional<bool> add_prefix_space) {
  const std::string path = file.string();
  const json root = read_json(file);
  const json& model = json_member(root, "model", JsonType::object, path);
  const auto part = [&](const char* key) { return root.value(key, json()); };
  TokenizerParts parts;
  std::size_t vocab_size = 0;
  json words = part("pre_tokenizer");
  if (add_prefix_space && words.is_object() && words.value("type", json()) == "ByteLevel")
    words["add_prefix_space"] = *add_prefix_space;
  PreTokenizer pre = read_pre_tokenizer(words, path + ": pre_tokenizer");
  parts.model = read_model(model, std::move(pre), parts, vocab_size, path + ": model");
  parts.added = place_added_tokens(read_added_tokens(root, path + ": added_tokens"), parts.pieces, vocab_size);
  parts.normalizer = read_normalizer(part("normalizer"), path + ": normalizer");
  parts.decoder = read_decoder(part("decoder"), parts.pieces, path + ": decoder");
  read_post_processor(part("post_processor"), path + ": post_processor", parts);
  for (const std::vector<int>* ids : {&parts.prefix, &parts.suffix}) {
    for (const int id : *ids) {
      const bool known = static_cast<std::size_t>(id) < parts.pieces.size() ||
                         std::ranges::find(parts.added, id, &AddedToken::id) != parts.added.end();
      if (!known) throw InputError("{}: post_processor: adds the id {}, which no token has", path, id);
    }
  }
  return parts;
}

}  // namespace grist::text
