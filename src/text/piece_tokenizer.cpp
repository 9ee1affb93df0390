#include <grist/text/piece_tokenizer.hpp>

#include <grist/core/errors.hpp>
#include <grist/io/json_fields.hpp>
#include <grist/text/unicode.hpp>
#include <grist/text/utf8.hpp>

#include <algorithm>

namespace grist::text {
namespace {

using io::json_field;
using io::json_field_or;

/// As Rust's regular expressions, which the reference uses here, have it.
bool starts_with_word(std::string_view text) {
  if (text.empty()) return false;
  return is_word(code_points(text.substr(0, first_character(text).length))[0]);
}

std::size_t leading_space(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t length = first_character(text.substr(at)).length;
    if (!is_white_space(code_points(text.substr(at, length))[0])) break;
    at += length;
  }
  return at;
}

std::string_view last_character(std::string_view text) {
  std::size_t at = text.size();
  while (at > 0 && (static_cast<unsigned char>(text[--at]) & 0xC0) == 0x80) {
  }
  return text.substr(at);
}

}  // namespace

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

PieceTokenizer::PieceTokenizer(TokenizerParts parts)
    : normalizer_(std::move(parts.normalizer)),
      model_(std::move(parts.model)),
      decoder_(std::move(parts.decoder)),
      prefix_(std::move(parts.prefix)),
      suffix_(std::move(parts.suffix)) {
  notes = std::move(parts.notes);
  for (const AddedToken& token : parts.added) {
    const auto id = static_cast<std::size_t>(token.id);
    if (id >= parts.pieces.size()) parts.pieces.resize(id + 1);
    parts.pieces[id] = token.normalized ? normalize(normalizer_, token.content) : token.content;
  }
  for (std::string& written : parts.pieces) pieces_.push_back({std::move(written)});
  for (AddedToken& token : parts.added) {
    // The reference knows a normalized token by its normalized text, also in decode, where it then is not special.
    std::string sought = token.normalized ? normalize(normalizer_, token.content) : token.content;
    pieces_[static_cast<std::size_t>(token.id)].special |= token.special && sought == token.content;
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
void PieceTokenizer::split(const Matcher& matcher, std::string_view text, WrittenSpecial written, OnToken on_token,
                           OnText on_text) const {
  std::size_t done = 0;
  for (std::size_t at = 0; at < text.size();) {
    const auto& candidates = matcher[static_cast<unsigned char>(text[at])];
    const auto found = std::ranges::find_if(candidates, [&, rest = text.substr(at)](const auto& entry) {
      return rest.starts_with(entry.first) && (written == WrittenSpecial::parsed || !entry.second.special);
    });
    if (found == candidates.end()) {
      ++at;
      continue;
    }
    const AddedToken& token = found->second;
    std::size_t begin = at;
    std::size_t end = at += found->first.size();
    const std::string_view before = text.substr(0, begin);
    const std::string_view after = text.substr(end);
    if (token.single_word && (starts_with_word(last_character(before)) || starts_with_word(after))) {
      continue;
    }
    if (token.lstrip) {
      while (begin > done && leading_space(last_character(text.substr(0, begin))) > 0)
        begin -= last_character(text.substr(0, begin)).size();
    }
    if (token.rstrip) end += leading_space(after);
    if (done < begin) on_text(text.substr(done, begin - done), done);
    on_token(token.id);
    done = end;
  }
  if (done < text.size()) on_text(text.substr(done), done);
}

std::vector<int> PieceTokenizer::encode(std::string_view text, bool add_special, WrittenSpecial written) const {
  if (const auto at = find_invalid_utf8(text)) {
    throw InputError("the text is not UTF-8: byte {:#04x} at offset {}", static_cast<unsigned char>(text[*at]), *at);
  }
  std::vector<int> ids;
  if (add_special) ids = prefix_;
  WordCache cache(pause);
  const auto on_token = [&](int id) { ids.push_back(id); };
  split(raw_, text, written, on_token, [&](std::string_view part, std::size_t offset) {
    const std::string normal = normalize(normalizer_, part);
    split(normalized_, normal, written, on_token, [&](std::string_view rest, std::size_t inner) {
      model_->encode(rest, offset == 0 && inner == 0, cache, ids);
    });
  });
  if (add_special) ids.insert(ids.end(), suffix_.begin(), suffix_.end());
  return ids;
}

bool PieceTokenizer::is_special(int id) const {
  return id >= 0 && id < vocab_size() && pieces_[static_cast<std::size_t>(id)].special;
}

std::string_view PieceTokenizer::special_text(int id) const {
  return is_special(id) ? std::string_view(pieces_[static_cast<std::size_t>(id)].text) : std::string_view();
}

std::string PieceTokenizer::decode_next(DecodeState& state, int id, bool skip_special) const {
  if (id < 0 || id >= vocab_size()) return {};
  const Piece& piece = pieces_[static_cast<std::size_t>(id)];
  if (piece.text.empty() || (skip_special && piece.special)) return {};
  return decoder_.put(state, piece.text);
}

std::string PieceTokenizer::decode_end(DecodeState& state) const { return decoder_.end(state); }

std::string PieceTokenizer::decode(std::span<const int> ids, bool skip_special) const {
  DecodeState state;
  std::string text;
  for (const int id : ids) text += decode_next(state, id, skip_special);
  return text += decode_end(state);
}

}  // namespace grist::text
