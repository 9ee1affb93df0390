// Normalizers, pre-tokenizers and decoders of tokenizer.json.
#include <grist/text/tokenizer_json.hpp>

#include <grist/core/errors.hpp>
#include <grist/io/json_fields.hpp>
#include <grist/text/bpe.hpp>
#include <grist/text/byte_alphabet.hpp>
#include <grist/text/unicode.hpp>

#include <algorithm>
#include <cstdint>
#include <format>

namespace grist::text {
namespace {

using io::json_field;
using io::json_field_or;
using io::json_member;
using nlohmann::json;
using JsonType = json::value_t;

constexpr int max_nesting = 16;

std::string type_of(const json& object, const std::string& where) {
  return json_field<std::string>(object, "type", where);
}

/// Calls f with every element of a Sequence, or with the object itself; with nothing for null.
template <class F>
void for_each_step(const json& object, const char* list, const std::string& where, F f, int depth = 0) {
  if (object.is_null()) return;
  if (depth > max_nesting) throw InputError("{}: Sequences nested deeper than {}", where, max_nesting);
  if (type_of(object, where) != "Sequence") return f(object);
  for (const json& step : json_member(object, list, JsonType::array, where))
    for_each_step(step, list, where, f, depth + 1);
}

/// The pattern of a step, {"String": ...} or {"Regex": ...}: the text of a literal, or nothing.
std::optional<std::string> literal(const json& step, const std::string& where) {
  const json& pattern = json_member(step, "pattern", JsonType::object, where);
  if (pattern.contains("Regex")) return std::nullopt;
  auto text = json_field<std::string>(pattern, "String", where + ": 'pattern'");
  if (text.empty()) throw InputError("{}: {} has an empty pattern", where, type_of(step, where));
  return text;
}

Regex regex_of(const json& step, const std::string& where) {
  if (const auto text = literal(step, where)) return Regex::literal(*text, where);
  return {json_field<std::string>(step.at("pattern"), "Regex", where + ": 'pattern'"), where};
}

std::string base64_decoded(const std::string& text, const std::string& where) {
  static constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    if (c == '=') break;
    const std::size_t digit = digits.find(c);
    if (digit == std::string_view::npos) throw InputError("{}: precompiled_charsmap is not base64", where);
    bits = bits << 6 | static_cast<std::uint32_t>(digit);
    count += 6;
    if (count >= 8) bytes += static_cast<char>(bits >> (count -= 8) & 0xFF);
  }
  return bytes;
}

NormalizerStep read_normalizer_step(const json& step, const std::string& where) {
  const std::string type = type_of(step, where);
  if (type == "Prepend") return Prepend{json_field<std::string>(step, "prepend", where)};
  if (type == "Replace") {
    auto content = json_field<std::string>(step, "content", where);
    if (auto text = literal(step, where)) return Replace{*std::move(text), std::move(content)};
    return ReplaceMatches{regex_of(step, where), std::move(content)};
  }
  if (type == "NFC") return NormalForm::nfc;
  if (type == "NFD") return NormalForm::nfd;
  if (type == "NFKC") return NormalForm::nfkc;
  if (type == "NFKD") return NormalForm::nfkd;
  if (type == "Lowercase") return Rewrite::lowercase;
  if (type == "StripAccents") return Rewrite::strip_accents;
  if (type == "Nmt") return Rewrite::nmt;
  if (type == "ByteLevel") return Rewrite::byte_alphabet;
  if (type == "Strip") {
    return StripSpace{json_field_or(step, "strip_left", where, true), json_field_or(step, "strip_right", where, true)};
  }
  if (type == "BertNormalizer") {
    const bool lowercase = json_field_or(step, "lowercase", where, true);
    return BertNormalizer{.clean_text = json_field_or(step, "clean_text", where, true),
                          .handle_chinese_chars = json_field_or(step, "handle_chinese_chars", where, true),
                          .strip_accents = json_field_or(step, "strip_accents", where, lowercase),
                          .lowercase = lowercase};
  }
  if (type == "Precompiled") {
    return CharacterMap(base64_decoded(json_field<std::string>(step, "precompiled_charsmap", where), where), where);
  }
  throw InputError("{}: the normalizer '{}' is not supported", where, type);
}

SplitBehavior behavior_of(const json& step, const std::string& where, const std::string& otherwise) {
  const auto name = json_field_or<std::string>(step, "behavior", where, otherwise);
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  throw InputError("{}: {} has the behavior '{}', which is not supported", where, type_of(step, where), name);
}

void add_metaspace(std::vector<PreTokenizerStep>& steps, const json& step, const std::string& where) {
  const auto mark = json_field<std::string>(step, "replacement", where);
  if (count_code_points(mark) != 1)
    throw InputError("{}: Metaspace replaces by '{}', expected one character", where, mark);
  const bool old_prefix = json_field_or(step, "add_prefix_space", where, true);
  auto scheme = json_field_or<std::string>(step, "prepend_scheme", where, "always");
  if (!old_prefix) scheme = "never";
  steps.emplace_back(Replace{" ", mark});
  if (scheme == "always" || scheme == "first") {
    steps.emplace_back(Prepend{.text = mark, .unless_there = true, .first_only = scheme == "first"});
  } else if (scheme != "never") {
    throw InputError("{}: Metaspace has the prepend_scheme '{}', expected always, first or never", where, scheme);
  }
  if (json_field_or(step, "split", where, true)) {
    steps.emplace_back(Split{Regex::literal(mark, where), SplitBehavior::merged_with_next});
  }
}

void add_byte_level(PreTokenizer& result, const json& step, const std::string& where) {
  if (json_field_or(step, "add_prefix_space", where, true)) {
    result.steps.emplace_back(Prepend{.text = " ", .unless_there = true});
  }
  if (json_field_or(step, "use_regex", where, true)) {
    result.steps.emplace_back(Split{Regex(std::string(gpt2_pattern), where)});
  }
  result.byte_level = true;
}

constexpr std::string_view space_pattern = R"(\s)";
constexpr std::string_view punctuation_pattern = R"([\p{P}\$\+<=>\^`\|~])";  // ASCII's and Unicode's

void add_pre_tokenizer_step(PreTokenizer& result, const json& step, const std::string& where) {
  std::vector<PreTokenizerStep>& steps = result.steps;
  const auto split = [&](std::string_view pattern, SplitBehavior behavior, bool invert = false) {
    steps.emplace_back(Split{Regex(std::string(pattern), where), behavior, invert});
  };
  const std::string type = type_of(step, where);
  if (type == "ByteLevel") {
    add_byte_level(result, step, where);
  } else if (type == "Split") {
    steps.emplace_back(
        Split{regex_of(step, where), behavior_of(step, where, ""), json_field_or(step, "invert", where, false)});
  } else if (type == "Digits") {
    split(R"(\p{N})",
          json_field_or(step, "individual_digits", where, false) ? SplitBehavior::isolated : SplitBehavior::contiguous);
  } else if (type == "Punctuation") {
    split(punctuation_pattern, behavior_of(step, where, "Isolated"));
  } else if (type == "Metaspace") {
    add_metaspace(steps, step, where);
  } else if (type == "Whitespace") {
    split(R"([\w\x{200C}\x{200D}]+|[^\w\s\x{200C}\x{200D}]+)", SplitBehavior::removed,
          true);  // Rust's \w has the joiners
  } else if (type == "WhitespaceSplit") {
    split(space_pattern, SplitBehavior::removed);
  } else if (type == "BertPreTokenizer") {
    split(space_pattern, SplitBehavior::removed);
    split(punctuation_pattern, SplitBehavior::isolated);
  } else if (type == "CharDelimiterSplit") {
    const auto delimiter = json_field<std::string>(step, "delimiter", where);
    if (delimiter.empty()) throw InputError("{}: CharDelimiterSplit has an empty delimiter", where);
    steps.emplace_back(Split{Regex::literal(delimiter, where), SplitBehavior::removed});
  } else if (type == "UnicodeScripts") {
    steps.emplace_back(SplitByScript{});
  } else {
    throw InputError("{}: the pre-tokenizer '{}' is not supported", where, type);
  }
}

/// Builds a decoder step by step.
class DecoderReader {
public:
  DecoderReader(const std::vector<std::string>& pieces, const std::string& where) : pieces_(pieces), where_(where) {}

  void add(const json& step) {
    const std::string type = type_of(step, where_);
    any_ = true;
    if (type == "ByteLevel") {
      if (idle())
        decoder_ = Decoder();  // as transformers writes it of a GGUF file
      else
        need_whole_text();
      decoder_.add(make_byte_level());
      fused_ = true;
    } else if (type == "Fuse") {
      fused_ = true;
    } else if (type == "Replace") {
      add_replace(step);
    } else if (type == "Strip") {
      add_strip(step);
    } else {
      need_whole_text();
      busy_ |= type != "ByteFallback";
      if (type == "ByteFallback")
        decoder_.add(make_byte_fallback());
      else
        decoder_.add(other(type, step));
    }
    has_fallback_ |= type == "ByteFallback";
  }

  Decoder finish() {
    if (!any_) decoder_.add(make_spaces());
    return std::move(decoder_);
  }

private:
  /// Steps that are no function of single characters must see the whole text once it is fused.
  void need_whole_text() {
    if (fused_ && !whole_) decoder_.add(make_whole_text());
    whole_ |= fused_;
  }

  void add_replace(const json& step) {
    auto content = json_field<std::string>(step, "content", where_);
    if (auto text = literal(step, where_)) {
      if (count_code_points(*text) > 1) need_whole_text();
      literals_.push_back(*text);
      decoder_.add(make_replace(Replace{*std::move(text), std::move(content)}));
    } else {
      need_whole_text();
      busy_ = true;
      decoder_.add(make_replace(ReplaceMatches{regex_of(step, where_), std::move(content)}));
    }
  }

  void add_strip(const json& step) {
    auto content = json_field<std::string>(step, "content", where_);
    const int start = json_field<int>(step, "start", where_);
    const int stop = json_field<int>(step, "stop", where_);
    if (content.empty()) throw InputError("{}: Strip has an empty content", where_);
    if (stop > 0) need_whole_text();
    busy_ = true;
    decoder_.add(make_strip(std::move(content), start, stop, fused_ && !whole_));
  }

  std::unique_ptr<DecodeStep> other(const std::string& type, const json& step) const {
    if (type == "Metaspace") {
      const bool prefix = json_field_or(step, "add_prefix_space", where_, true);
      const auto scheme = json_field_or<std::string>(step, "prepend_scheme", where_, "always");
      return make_metaspace(json_field<std::string>(step, "replacement", where_), prefix && scheme != "never");
    }
    if (type == "WordPiece") {
      return make_word_piece(json_field_or<std::string>(step, "prefix", where_, "##"),
                             json_field_or(step, "cleanup", where_, true));
    }
    if (type == "BPEDecoder") return make_bpe_decoder(json_field_or<std::string>(step, "suffix", where_, "</w>"));
    throw InputError("{}: the decoder '{}' is not supported", where_, type);
  }

  /// Whether the steps so far find nothing to do in any piece.
  [[nodiscard]] bool idle() const {
    return !busy_ && std::ranges::none_of(pieces_, [&](const std::string& piece) {
      return (has_fallback_ && byte_of_piece(piece)) || std::ranges::any_of(literals_, [&](const std::string& text) {
               return piece.find(text) != std::string::npos;
             });
    });
  }

  const std::vector<std::string>& pieces_;
  const std::string& where_;
  Decoder decoder_;
  std::vector<std::string> literals_;
  bool any_ = false, fused_ = false, whole_ = false, busy_ = false, has_fallback_ = false;
};

}  // namespace

std::vector<NormalizerStep> read_normalizer(const json& normalizer, const std::string& where) {
  std::vector<NormalizerStep> steps;
  for_each_step(normalizer, "normalizers", where,
                [&](const json& step) { steps.push_back(read_normalizer_step(step, where)); });
  return steps;
}

PreTokenizer read_pre_tokenizer(const json& pre_tokenizer, const std::string& where) {
  PreTokenizer result;
  for_each_step(pre_tokenizer, "pretokenizers", where, [&](const json& step) {
    if (result.byte_level) result.steps.emplace_back(WriteBytes{});  // what follows sees the alphabet
    result.byte_level = false;
    const bool written =
        std::ranges::any_of(result.steps, [](const auto& s) { return std::holds_alternative<WriteBytes>(s); });
    add_pre_tokenizer_step(result, step, where);
    if (written && result.byte_level) throw InputError("{}: a second ByteLevel is not supported", where);
  });
  return result;
}

Decoder read_decoder(const json& decoder, const std::vector<std::string>& pieces, const std::string& where) {
  DecoderReader reader(pieces, where);
  for_each_step(decoder, "decoders", where, [&](const json& step) { reader.add(step); });
  return reader.finish();
}

}  // namespace grist::text
