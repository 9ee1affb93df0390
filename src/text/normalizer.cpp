#include <grist/text/normalizer.hpp>

#include <grist/core/errors.hpp>
#include <grist/text/byte_alphabet.hpp>
#include <grist/text/unicode.hpp>
#include <grist/text/utf8.hpp>

#include <unigbrk.h>
#include <uninorm.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace grist::text {
namespace {

void to_normal_form(std::string& text, NormalForm form) {
  // Below U+0300, which is CC 80 in UTF-8, everything is in NFC.
  const auto composed = [](unsigned char byte) { return byte < 0xCC; };
  if (form == NormalForm::nfc && std::ranges::all_of(text, composed)) return;
  if (text.empty()) return;
  const uninorm_t rules = form == NormalForm::nfc    ? UNINORM_NFC
                          : form == NormalForm::nfd  ? UNINORM_NFD
                          : form == NormalForm::nfkc ? UNINORM_NFKC
                                                     : UNINORM_NFKD;
  std::size_t length = 0;
  const std::unique_ptr<std::uint8_t, decltype(&std::free)> normal(
      u8_normalize(rules, reinterpret_cast<const std::uint8_t*>(text.data()), text.size(), nullptr, &length),
      &std::free);
  if (!normal) throw MemoryError("no memory to bring {} bytes of text into a Unicode normal form", text.size());
  text.assign(reinterpret_cast<const char*>(normal.get()), length);
}

template <class Change>
void change_each(std::string& text, Change change) {
  std::string result;
  result.reserve(text.size());
  for (const char32_t point : code_points(text)) change(result, point);
  text = std::move(result);
}

/// Each character by itself, as the reference does it: the last sigma of a word is not told from others.
void lowercase(std::string& text) {
  change_each(text, [](std::string& out, char32_t point) {
    if (point < 0x80) {
      out += static_cast<char>(point >= 'A' && point <= 'Z' ? point + 32 : point);
    } else {
      out += to_lower(to_utf8({&point, 1}));
    }
  });
}

void strip_space(std::string& text, const StripSpace& step) {
  const std::u32string points = code_points(text);
  std::size_t begin = 0;
  std::size_t end = points.size();
  while (step.left && begin < end && is_white_space(points[begin])) ++begin;
  while (step.right && begin < end && is_white_space(points[end - 1])) --end;
  text = to_utf8(std::u32string_view(points).substr(begin, end - begin));
}

/// What SentencePiece's "nmt" rules do to characters that are not text.
void clean_as_nmt(std::string& text) {
  change_each(text, [](std::string& out, char32_t c) {
    const bool dropped =
        (c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F;
    const bool space = c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
                       c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
    if (!dropped) append_utf8(out, space ? U' ' : c);
  });
}

/// The ranges that BERT takes for Chinese, its typing error in the last but two included.
bool is_chinese(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

void normalize_as_bert(std::string& text, const BertNormalizer& step) {
  if (step.clean_text) {
    change_each(text, [](std::string& out, char32_t c) {
      const bool kept = c == '\t' || c == '\n' || c == '\r';
      if (c == 0 || c == 0xFFFD || (is_other(c) && !kept)) return;
      append_utf8(out, is_white_space(c) ? U' ' : c);
    });
  }
  if (step.handle_chinese_chars) {
    change_each(text, [](std::string& out, char32_t c) {
      if (is_chinese(c)) out += ' ';
      append_utf8(out, c);
      if (is_chinese(c)) out += ' ';
    });
  }
  if (step.strip_accents) {
    to_normal_form(text, NormalForm::nfd);
    change_each(text, [](std::string& out, char32_t c) {
      if (!is_nonspacing_mark(c)) append_utf8(out, c);
    });
  }
  if (step.lowercase) lowercase(text);
}

void rewrite(std::string& text, Rewrite step) {
  switch (step) {
    case Rewrite::lowercase:
      return lowercase(text);
    case Rewrite::nmt:
      return clean_as_nmt(text);
    case Rewrite::byte_alphabet:
      text = to_byte_alphabet(text);
      return;
    case Rewrite::strip_accents:
      change_each(text, [](std::string& out, char32_t c) {
        if (!is_mark(c)) append_utf8(out, c);
      });
  }
}

void replace_matches(std::string& text, const ReplaceMatches& step) {
  std::string result;
  std::size_t done = 0;
  Matches matches(step.regex, text);
  while (const auto match = matches.next()) {
    result.append(text, done, match->first - done).append(step.to);
    done = match->second;
  }
  text = result.append(text, done);
}

}  // namespace

CharacterMap::CharacterMap(std::string bytes, std::string_view where) : bytes_(std::move(bytes)) {
  std::uint32_t size = 0;
  if (bytes_.size() >= sizeof size) std::memcpy(&size, bytes_.data(), sizeof size);
  trie_bytes_ = size;
  if (bytes_.size() < sizeof size || size % 4 != 0 || size < 4 || bytes_.size() - sizeof size <= size ||
      bytes_.back() != '\0') {
    throw InputError("{}: precompiled_charsmap is not a table of SentencePiece", where);
  }
}

/// Walks the double array of Darts (units of 32 bits: label, offset, whether a value lies below).
const char* CharacterMap::find(std::string_view text) const {
  const std::size_t units = trie_bytes_ / 4;
  const auto unit = [&](std::size_t i) {
    std::uint32_t value = 0;
    if (i < units) std::memcpy(&value, bytes_.data() + 4 + 4 * i, 4);
    return value;
  };
  const auto offset = [](std::uint32_t u) { return static_cast<std::size_t>((u >> 10) << ((u & (1U << 9)) >> 6)); };
  std::size_t node = offset(unit(0));
  for (const char c : text) {
    const auto label = static_cast<unsigned char>(c);
    if (label == 0) return nullptr;
    node ^= label;
    const std::uint32_t value = unit(node);
    if (node >= units || (value & (1U << 31 | 0xFF)) != label) return nullptr;
    node ^= offset(value);
    if ((value >> 8 & 1) != 0) {
      const std::size_t place = 4 + trie_bytes_ + (unit(node) & 0x7FFFFFFF);
      return place < bytes_.size() ? bytes_.data() + place : nullptr;
    }
  }
  return nullptr;
}

std::string CharacterMap::apply(std::string_view text) const {
  std::string result;
  const auto* at = reinterpret_cast<const std::uint8_t*>(text.data());
  const std::uint8_t* const end = at + text.size();
  while (at < end) {
    const std::uint8_t* next = u8_grapheme_next(at, end);
    std::string_view cluster(reinterpret_cast<const char*>(at), static_cast<std::size_t>(next - at));
    at = next;
    if (cluster.size() < 6) {
      if (const char* whole = find(cluster)) {
        result += whole;
        continue;
      }
    }
    while (!cluster.empty()) {
      const std::string_view character = cluster.substr(0, first_character(cluster).length);
      cluster.remove_prefix(character.size());
      const char* replacement = find(character);
      result += replacement == nullptr ? character : std::string_view(replacement);
    }
  }
  return result;
}

void replace_all(std::string& text, const Replace& replace) {
  if (text.find(replace.from) == std::string::npos) return;
  std::string result;
  std::size_t done = 0;
  for (std::size_t at = 0; (at = text.find(replace.from, done)) != std::string::npos; done = at + replace.from.size()) {
    result.append(text, done, at - done).append(replace.to);
  }
  text = result.append(text, done);
}

void prepend(std::string& text, const Prepend& step, bool at_start) {
  if (text.empty() || (step.first_only && !at_start) || (step.unless_there && text.starts_with(step.text))) return;
  text.insert(0, step.text);
}

std::string normalize(const std::vector<NormalizerStep>& steps, std::string_view text) {
  std::string result(text);
  for (const NormalizerStep& step : steps) {
    if (const auto* before = std::get_if<Prepend>(&step)) prepend(result, *before, true);
    if (const auto* replace = std::get_if<Replace>(&step)) replace_all(result, *replace);
    if (const auto* replace = std::get_if<ReplaceMatches>(&step)) replace_matches(result, *replace);
    if (const auto* form = std::get_if<NormalForm>(&step)) to_normal_form(result, *form);
    if (const auto* kind = std::get_if<Rewrite>(&step)) rewrite(result, *kind);
    if (const auto* strip = std::get_if<StripSpace>(&step)) strip_space(result, *strip);
    if (const auto* bert = std::get_if<BertNormalizer>(&step)) normalize_as_bert(result, *bert);
    if (const auto* map = std::get_if<CharacterMap>(&step)) result = map->apply(result);
  }
  return result;
}

}  // namespace grist::text
