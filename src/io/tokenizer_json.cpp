#include <grist/io/tokenizer_json.hpp>

#include <grist/core/errors.hpp>
#include <grist/io/bpe.hpp>
#include <grist/io/json_fields.hpp>

#include <algorithm>
#include <format>

namespace grist::io {
namespace {

using nlohmann::json;
using JsonType = json::value_t;

std::string type_of(const json& object, const std::string& where) {
  return json_field<std::string>(object, "type", where);
}

/// Calls f with every element of a Sequence, or with the object itself; with nothing for null.
template <class F>
void for_each_step(const json& object, const char* list, const std::string& where, F f) {
  if (object.is_null()) return;
  if (type_of(object, where) != "Sequence") return f(object);
  for (const json& step : json_member(object, list, JsonType::array, where)) for_each_step(step, list, where, f);
}

/// A pattern that is {"String": literal}.
std::string literal(const json& object, const std::string& where) {
  return json_field<std::string>(json_member(object, "pattern", JsonType::object, where), "String",
                                 where + ": 'pattern'");
}

Replace read_replace(const json& step, const std::string& where) {
  Replace replace{literal(step, where), json_field<std::string>(step, "content", where)};
  if (replace.from.empty()) throw InputError("{}: Replace has an empty pattern", where);
  return replace;
}

std::vector<NormalizerStep> read_normalizer(const json& normalizer, const std::string& where) {
  std::vector<NormalizerStep> steps;
  for_each_step(normalizer, "normalizers", where, [&](const json& step) {
    const std::string type = type_of(step, where);
    if (type == "Prepend") {
      steps.emplace_back(Prepend{json_field<std::string>(step, "prepend", where)});
    } else if (type == "Replace") {
      steps.emplace_back(read_replace(step, where));
    } else if (type == "NFC" || type == "NFD") {
      steps.emplace_back(type == "NFC" ? NormalForm::nfc : NormalForm::nfd);
    } else if (type == "NFKC" || type == "NFKD") {
      steps.emplace_back(type == "NFKC" ? NormalForm::nfkc : NormalForm::nfkd);
    } else {
      throw InputError("{}: the type '{}' is not supported (Prepend, Replace, NFC, NFD, NFKC, NFKD, Sequence are)",
                       where, type);
    }
  });
  return steps;
}

Split read_split(const json& step, const std::string& where) {
  const json& pattern = json_member(step, "pattern", JsonType::object, where);
  const std::string expression = pattern.contains("Regex") ? json_field<std::string>(pattern, "Regex", where)
                                                           : "\\Q" + literal(step, where) + "\\E";
  const auto behavior = json_field<std::string>(step, "behavior", where);
  const bool invert = json_field_or(step, "invert", where, false);
  if (behavior == "Isolated") return {Regex(expression, where)};
  if (behavior == "Removed") return {Regex(expression, where), invert, !invert};
  throw InputError("{}: Split has the behavior '{}', supported are Isolated and Removed", where, behavior);
}

void add_metaspace(std::vector<PreTokenizerStep>& steps, const json& step, const std::string& where) {
  const auto mark = json_field<std::string>(step, "replacement", where);
  if (mark != space_mark) {
    throw InputError("{}: Metaspace replaces by '{}', supported is '{}'", where, mark, space_mark);
  }
  const bool old_prefix = json_field_or(step, "add_prefix_space", where, true);
  const auto scheme = json_field_or<std::string>(step, "prepend_scheme", where, old_prefix ? "always" : "never");
  steps.emplace_back(Replace{" ", mark});
  if (scheme == "always" || scheme == "first") {
    steps.emplace_back(Prepend{.text = mark, .unless_there = true, .first_only = scheme == "first"});
  } else if (scheme != "never") {
    throw InputError("{}: Metaspace has the prepend_scheme '{}', expected always, first or never", where, scheme);
  }
  if (json_field_or(step, "split", where, true)) {
    steps.emplace_back(Split{Regex(std::format("{0}[^{0}]*|[^{0}]+", mark), where)});
  }
}

void read_pre_tokenizer(const json& pre_tokenizer, const std::string& where, BpeParts& parts) {
  std::vector<PreTokenizerStep>& steps = parts.pre_tokenizer;
  for_each_step(pre_tokenizer, "pretokenizers", where, [&](const json& step) {
    const std::string type = type_of(step, where);
    if (parts.byte_level) throw InputError("{}: {} after ByteLevel is not supported", where, type);
    if (type == "ByteLevel") {
      parts.byte_level = true;
      if (json_field_or(step, "add_prefix_space", where, true)) {
        steps.emplace_back(Prepend{.text = " ", .unless_there = true});
      }
      if (json_field_or(step, "use_regex", where, true)) {
        steps.emplace_back(Split{Regex(std::string(gpt2_pattern), where)});
      }
    } else if (type == "Split") {
      steps.emplace_back(read_split(step, where));
    } else if (type == "Digits") {
      steps.emplace_back(
          Split{Regex(json_field_or(step, "individual_digits", where, false) ? R"(\p{N})" : R"(\p{N}+)", where)});
    } else if (type == "Metaspace") {
      add_metaspace(steps, step, where);
    } else {
      throw InputError("{}: the type '{}' is not supported (ByteLevel, Split, Digits, Metaspace, Sequence are)", where,
                       type);
    }
  });
}

/// Steps before ByteLevel that find nothing to do in any piece, as transformers writes them of a GGUF file.
bool idle(const Decoding& decoding, const std::vector<Replace>& fused_replace, const std::vector<std::string>& pieces) {
  return std::ranges::none_of(pieces, [&](const std::string& piece) {
    const auto occurs = [&](const Replace& replace) { return piece.find(replace.from) != std::string::npos; };
    return (decoding.byte_fallback && byte_of_piece(piece)) || std::ranges::any_of(decoding.replace, occurs) ||
           std::ranges::any_of(fused_replace, occurs);
  });
}

Decoding read_decoder(const json& decoder, const std::vector<std::string>& pieces, const std::string& where) {
  Decoding decoding;
  std::vector<Replace> fused_replace;  // in the whole text: known where it is idle
  bool any = false;
  bool fused = false;
  for_each_step(decoder, "decoders", where, [&](const json& step) {
    const std::string type = type_of(step, where);
    any = true;
    if (decoding.byte_level) throw InputError("{}: {} after ByteLevel is not supported", where, type);
    if (type == "ByteLevel" && decoding.strip.empty() && idle(decoding, fused_replace, pieces)) {
      decoding = {.byte_level = true};
    } else if (type == "Replace" && decoding.strip.empty()) {
      (fused || decoding.byte_fallback ? fused_replace : decoding.replace).push_back(read_replace(step, where));
    } else if (type == "ByteFallback" && !fused) {
      decoding.byte_fallback = true;
    } else if (type == "Fuse") {
      fused = true;
    } else if (type == "Strip" && fused && decoding.strip.empty() && json_field<int>(step, "stop", where) == 0) {
      decoding.strip = json_field<std::string>(step, "content", where);
      decoding.strip_count = json_field<int>(step, "start", where);
      if (decoding.strip.empty()) throw InputError("{}: Strip has an empty content", where);
    } else {
      throw InputError(
          "{}: the type '{}' is not supported here (ByteLevel is, and the sequence Replace, ByteFallback, "
          "Fuse, Strip at the start)",
          where, type);
    }
  });
  if (!any) throw InputError("{}: found null, expected ByteLevel or a Sequence", where);
  if (!fused_replace.empty() && !decoding.byte_level)
    throw InputError("{}: Replace behind ByteFallback or Fuse is not supported", where);
  return decoding;
}

void read_post_processor(const json& post_processor, const std::string& where, TokenizerParts& parts) {
  for_each_step(post_processor, "processors", where, [&](const json& step) {
    const std::string type = type_of(step, where);
    if (type == "ByteLevel") return;  // changes offsets only
    if (type != "TemplateProcessing") {
      throw InputError("{}: the type '{}' is not supported (TemplateProcessing, ByteLevel, Sequence are)", where, type);
    }
    const json& special = json_member(step, "special_tokens", JsonType::object, where);
    bool after = false;
    for (const json& item : json_member(step, "single", JsonType::array, where)) {
      if (item.contains("Sequence")) {
        after = true;
        continue;
      }
      const auto name =
          json_field<std::string>(json_member(item, "SpecialToken", JsonType::object, where), "id", where);
      const json& token = json_member(special, name.c_str(), JsonType::object, where);
      for (const json& id : json_member(token, "ids", JsonType::array, where)) {
        (after ? parts.suffix : parts.prefix).push_back(json_value<int>(id, where));
      }
    }
  });
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

}  // namespace

TokenizerParts read_tokenizer_json(const std::filesystem::path& file) {
  const std::string path = file.string();
  const json root = read_json(file);
  const json& model = json_member(root, "model", JsonType::object, path);
  const std::string in_model = path + ": model";
  // Old files name no type.
  const auto type = json_field_or<std::string>(model, "type", in_model, model.contains("merges") ? "BPE" : "none");
  if (type != "BPE") throw InputError("{}: the type '{}' is not supported (BPE is)", in_model, type);
  for (const char* const unsupported : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const auto value = json_field_or<std::string>(model, unsupported, in_model, "");
    if (!value.empty()) throw InputError("{}: {} is '{}', supported is none", in_model, unsupported, value);
  }

  TokenizerParts parts;
  BpeParts bpe;
  parts.added = read_added_tokens(root, path + ": added_tokens");
  const json& vocab = json_member(model, "vocab", JsonType::object, in_model);
  bpe.vocab.reserve(vocab.size());
  for (const auto& [piece, value] : vocab.items()) {
    const int id = json_value<int>(value, in_model + ": vocab: '" + piece + "'");
    if (id >= max_ids) throw InputError("{}: '{}' has the id {}, expected one below {}", in_model, piece, id, max_ids);
    const auto index = static_cast<std::size_t>(id);
    if (index >= parts.pieces.size()) parts.pieces.resize(index + 1);
    if (!parts.pieces[index].empty())
      throw InputError("{}: '{}' and '{}' have the same id {}", in_model, parts.pieces[index], piece, id);
    parts.pieces[index] = piece;
    bpe.vocab.emplace(piece, id);
  }
  std::vector<PiecePair> merges;
  for (const json& merge : json_member(model, "merges", JsonType::array, in_model)) {
    merges.push_back(read_merge(merge, in_model + ": merges"));
  }
  bpe.merges = merges_in_order(bpe.vocab, merges, in_model);

  if (const auto unknown = json_field_or<std::string>(model, "unk_token", in_model, ""); !unknown.empty()) {
    const auto found = bpe.vocab.find(unknown);
    if (found == bpe.vocab.end()) throw InputError("{}: unk_token '{}' is not in the vocabulary", in_model, unknown);
    bpe.unknown = found->second;
  }
  bpe.fuse_unknown = json_field_or(model, "fuse_unk", in_model, false);
  bpe.byte_fallback = json_field_or(model, "byte_fallback", in_model, false);
  bpe.ignore_merges = json_field_or(model, "ignore_merges", in_model, false);
  const auto part = [&](const char* key) { return root.value(key, json()); };
  read_pre_tokenizer(part("pre_tokenizer"), path + ": pre_tokenizer", bpe);
  parts.normalizer = read_normalizer(part("normalizer"), path + ": normalizer");
  parts.decoding = read_decoder(part("decoder"), parts.pieces, path + ": decoder");
  read_post_processor(part("post_processor"), path + ": post_processor", parts);
  for (const std::vector<int>* ids : {&parts.prefix, &parts.suffix}) {
    for (const int id : *ids) {
      const bool known = static_cast<std::size_t>(id) < parts.pieces.size() ||
                         std::ranges::find(parts.added, id, &AddedToken::id) != parts.added.end();
      if (!known) throw InputError("{}: post_processor: adds the id {}, which no token has", path, id);
    }
  }
  parts.model = make_bpe(std::move(bpe));
  return parts;
}

}  // namespace grist::io
