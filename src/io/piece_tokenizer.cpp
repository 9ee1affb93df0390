#include <grist/io/piece_tokenizer.hpp>

#include <grist/core/errors.hpp>
#include <grist/io/json_fields.hpp>
#include <grist/io/utf8.hpp>

#include <algorithm>
#include <charconv>

namespace grist::io {
namespace {

std::string utf8_of(unsigned code) {  // below U+0800
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
}

/// The bytes of a piece written in GPT-2's alphabet; a piece with a character outside it stands for itself.
std::string from_byte_alphabet(const std::string& piece) {
  static const StringMap<char> bytes = [] {
    StringMap<char> map;
    for (unsigned b = 0; b < 256; ++b) map.emplace(byte_alphabet()[b], static_cast<char>(b));
    return map;
  }();
  std::string result;
  for (std::string_view rest = piece; !rest.empty();) {
    const std::size_t length = first_character(rest).length;
    const auto found = bytes.find(rest.substr(0, length));
    if (found == bytes.end()) return piece;
    result += found->second;
    rest.remove_prefix(length);
  }
  return result;
}

/// Moves whole characters from `bytes`, with U+FFFD for what is none; leaves a character that is still cut off.
std::string take_characters(std::string& bytes) {
  std::string text;
  std::string_view rest = bytes;
  while (!rest.empty()) {
    const auto [kind, length] = first_character(rest);
    if (kind == Utf8::cut_off) break;
    text += kind == Utf8::valid ? rest.substr(0, length) : replacement_character;
    rest.remove_prefix(length);
  }
  bytes.erase(0, bytes.size() - rest.size());
  return text;
}

/// A run of byte pieces is text if all of it is UTF-8, otherwise one U+FFFD for each.
std::string take_run(std::string& bytes) {
  std::string text = std::exchange(bytes, {});
  if (!find_invalid_utf8(text)) return text;
  std::string replaced;
  for (std::size_t i = 0; i < text.size(); ++i) replaced += replacement_character;
  return replaced;
}

std::string_view last_character(std::string_view text) {
  std::size_t at = text.size();
  while (at > 0 && (static_cast<unsigned char>(text[--at]) & 0xC0) == 0x80) {
  }
  return text.substr(at);
}

}  // namespace

const std::array<std::string, 256>& byte_alphabet() {
  static const auto alphabet = [] {
    std::array<std::string, 256> result;
    unsigned next = 256;
    for (unsigned b = 0; b < 256; ++b) {
      const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      result[b] = utf8_of(printable ? b : next++);
    }
    return result;
  }();
  return alphabet;
}

std::optional<std::uint8_t> byte_of_piece(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || !piece.ends_with('>')) return std::nullopt;
  std::uint8_t byte = 0;
  const char* const end = piece.data() + 5;
  if (const auto [stop, error] = std::from_chars(piece.data() + 3, end, byte, 16);
      error != std::errc{} || stop != end) {
    return std::nullopt;
  }
  return byte;
}

AddedToken read_added_token(const nlohmann::json& entry, int id, const std::string& where) {
  AddedToken token{.id = id, .content = json_field<std::string>(entry, "content", where)};
  if (id >= max_ids) {
    throw InputError("{}: '{}' has the id {}, expected one below {}", where, token.content, id, max_ids);
  }
  token.special = json_field_or(entry, "special", where, false);
  token.single_word = json_field_or(entry, "single_word", where, false);
  token.lstrip = json_field_or(entry, "lstrip", where, false);
  token.rstrip = json_field_or(entry, "rstrip", where, false);
  token.normalized = json_field_or(entry, "normalized", where, !token.special);
  return token;
}

Decoding sentencepiece_decoding(bool space_prefix) {
  return {.replace = {{std::string(space_mark), " "}},
          .byte_fallback = true,
          .strip = " ",
          .strip_count = space_prefix ? 1 : 0};
}

PieceTokenizer::PieceTokenizer(TokenizerParts parts)
    : normalizer_(std::move(parts.normalizer)),
      model_(std::move(parts.model)),
      decoding_(std::move(parts.decoding)),
      prefix_(std::move(parts.prefix)),
      suffix_(std::move(parts.suffix)),
      starts_with_word_(R"(\A[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}])", "word"),
      leading_space_(R"(\A\p{White_Space}+)", "white space"),
      trailing_space_(R"(\p{White_Space}+\z)", "white space") {
  for (const AddedToken& token : parts.added) {
    const auto id = static_cast<std::size_t>(token.id);
    if (id >= parts.pieces.size()) parts.pieces.resize(id + 1);
    parts.pieces[id] = token.normalized ? normalize(normalizer_, token.content) : token.content;
  }
  for (std::string& written : parts.pieces) {
    Piece& piece = pieces_.emplace_back();
    const auto byte = decoding_.byte_fallback ? byte_of_piece(written) : std::nullopt;
    piece.byte = byte.has_value();
    piece.text = byte                   ? std::string(1, static_cast<char>(*byte))
                 : decoding_.byte_level ? from_byte_alphabet(written)
                                        : std::move(written);
    for (const Replace& replace : decoding_.replace) replace_all(piece.text, replace);
  }
  for (AddedToken& token : parts.added) {
    // The reference knows a normalized token by its normalized text, also in decode, where it then is not special.
    std::string sought = token.normalized ? normalize(normalizer_, token.content) : token.content;
    Piece& piece = pieces_[static_cast<std::size_t>(token.id)];
    piece.special |= token.special && sought == token.content;
    if (sought.empty()) continue;
    auto& same_start = (token.normalized ? normalized_ : raw_)[static_cast<unsigned char>(sought[0])];
    same_start.emplace_back(std::move(sought), std::move(token));
  }
  for (Matcher* matcher : {&raw_, &normalized_}) {
    for (auto& tokens : *matcher) {
      std::ranges::stable_sort(tokens, std::ranges::greater{}, [](const auto& entry) { return entry.first.size(); });
    }
  }
}

/// Calls on_token(id) and on_text(text, offset) for the parts of a text, in order.
template <class OnToken, class OnText>
void PieceTokenizer::split(const Matcher& matcher, std::string_view text, OnToken on_token, OnText on_text) const {
  std::size_t done = 0;
  for (std::size_t at = 0; at < text.size();) {
    const auto& candidates = matcher[static_cast<unsigned char>(text[at])];
    const auto found = std::ranges::find_if(
        candidates, [rest = text.substr(at)](const auto& entry) { return rest.starts_with(entry.first); });
    if (found == candidates.end()) {
      ++at;
      continue;
    }
    const AddedToken& token = found->second;
    std::size_t begin = at;
    std::size_t end = at += found->first.size();
    const std::string_view before = text.substr(0, begin);
    const std::string_view after = text.substr(end);
    if (token.single_word && (starts_with_word_.find(last_character(before), 0) || starts_with_word_.find(after, 0))) {
      continue;
    }
    if (token.lstrip) {
      if (const auto spaces = trailing_space_.find(before, done)) begin = spaces->first;
    }
    if (token.rstrip) {
      if (const auto spaces = leading_space_.find(after, 0)) end += spaces->second;
    }
    if (done < begin) on_text(text.substr(done, begin - done), done);
    on_token(token.id);
    done = end;
  }
  if (done < text.size()) on_text(text.substr(done), done);
}

std::vector<int> PieceTokenizer::encode(std::string_view text, bool add_special) const {
  if (const auto at = find_invalid_utf8(text)) {
    throw InputError("the text is not UTF-8: byte {:#04x} at offset {}", static_cast<unsigned char>(text[*at]), *at);
  }
  std::vector<int> ids;
  if (add_special) ids = prefix_;
  WordCache cache;
  const auto on_token = [&](int id) { ids.push_back(id); };
  split(raw_, text, on_token, [&](std::string_view part, std::size_t offset) {
    const std::string normal = normalize(normalizer_, part);
    split(normalized_, normal, on_token, [&](std::string_view rest, std::size_t inner) {
      model_->encode(rest, offset == 0 && inner == 0, cache, ids);
    });
  });
  if (add_special) ids.insert(ids.end(), suffix_.begin(), suffix_.end());
  return ids;
}

bool PieceTokenizer::is_special(int id) const {
  return id >= 0 && id < vocab_size() && pieces_[static_cast<std::size_t>(id)].special;
}

std::string PieceTokenizer::strip(DecodeState& state, std::string text) const {
  std::size_t taken = 0;
  while (state.stripped < decoding_.strip_count && taken < text.size()) {
    if (text.compare(taken, decoding_.strip.size(), decoding_.strip) == 0) {
      ++state.stripped;
      taken += decoding_.strip.size();
    } else {
      state.stripped = decoding_.strip_count;
    }
  }
  return text.erase(0, taken);
}

std::string PieceTokenizer::decode_next(DecodeState& state, int id, bool skip_special) const {
  if (id < 0 || id >= vocab_size()) {
    throw InputError("token id {} is outside the vocabulary of {}", id, vocab_size());
  }
  const Piece& piece = pieces_[static_cast<std::size_t>(id)];
  if (skip_special && piece.special) return {};
  if (decoding_.byte_level || piece.byte) state.held += piece.text;
  if (decoding_.byte_level) return take_characters(state.held);
  if (piece.byte) return {};
  return strip(state, take_run(state.held) + piece.text);
}

std::string PieceTokenizer::decode_end(DecodeState& state) const {
  if (decoding_.byte_level) return std::exchange(state.held, {}).empty() ? "" : std::string(replacement_character);
  return strip(state, take_run(state.held));
}

std::string PieceTokenizer::decode(std::span<const int> ids, bool skip_special) const {
  DecodeState state;
  std::string text;
  for (const int id : ids) text += decode_next(state, id, skip_special);
  return text += decode_end(state);
}

}  // namespace grist::io
