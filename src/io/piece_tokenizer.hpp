// What all tokenizers have in common: added tokens are cut out of the text, a model turns what lies between them into
// ids, and ids become text piece by piece.
#pragma once

#include <grist/io/pre_tokenizer.hpp>
#include <grist/io/tokenizer.hpp>

#include <nlohmann/json_fwd.hpp>

#include <array>
#include <cstdint>
#include <unordered_map>

namespace grist::io {

/// A token that is found in the text itself, before the model sees it.
struct AddedToken {
  int id = -1;
  std::string content;
  bool special = false;
  bool single_word = false;  // only where no letter or digit is beside it
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // and after it
  bool normalized = false;   // looked for in the normalized text
};

inline constexpr int max_ids = 1 << 22;  // a bound on what the ids of a broken file can make us allocate

/// The form that tokenizer.json and tokenizer_config.json share.
AddedToken read_added_token(const nlohmann::json& entry, int id, const std::string& where);

struct StringHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};

template <class T>
using StringMap = std::unordered_map<std::string, T, StringHash, std::equal_to<>>;

/// The ids of words seen before, kept for one call of encode.
using WordCache = StringMap<std::vector<int>>;

class TextModel {
public:
  virtual ~TextModel() = default;
  /// Appends the ids of a text in which there are no added tokens. `at_start`: nothing stands before it.
  virtual void encode(std::string_view text, bool at_start, WordCache& cache, std::vector<int>& ids) const = 0;
};

inline constexpr std::string_view space_mark = "\xE2\x96\x81";  // U+2581, SentencePiece's space

/// How pieces become text: the decoders of tokenizer.json that grist knows.
struct Decoding {
  bool byte_level = false;       // a piece is written in GPT-2's alphabet of bytes
  std::vector<Replace> replace;  // in every piece
  bool byte_fallback = false;    // <0x0A> is a byte
  std::string strip;             // this character ...
  int strip_count = 0;           // ... is taken off the whole text's start, this often at most
};

/// SentencePiece's: the marks are spaces, <0x0A> is a byte; the space put before a text is taken off again.
Decoding sentencepiece_decoding(bool space_prefix);

struct TokenizerParts {
  std::vector<std::string> pieces;  // by id, as the file writes them
  std::vector<AddedToken> added;
  std::vector<NormalizerStep> normalizer;
  std::unique_ptr<TextModel> model;
  Decoding decoding;
  std::vector<int> prefix;  // what add_special puts before the text
  std::vector<int> suffix;
};

class PieceTokenizer final : public Tokenizer {
public:
  explicit PieceTokenizer(TokenizerParts parts);

  [[nodiscard]] std::vector<int> encode(std::string_view text, bool add_special) const override;
  [[nodiscard]] std::string decode(std::span<const int> ids, bool skip_special) const override;
  [[nodiscard]] std::string decode_next(DecodeState& state, int id, bool skip_special) const override;
  [[nodiscard]] std::string decode_end(DecodeState& state) const override;
  [[nodiscard]] int vocab_size() const override { return static_cast<int>(pieces_.size()); }
  [[nodiscard]] bool is_special(int id) const override;

private:
  struct Piece {
    std::string text;
    bool special = false;
    bool byte = false;  // one of byte_fallback's
  };
  /// Added tokens by their first byte, the longest first.
  using Matcher = std::array<std::vector<std::pair<std::string, AddedToken>>, 256>;

  template <class OnToken, class OnText>
  void split(const Matcher& matcher, std::string_view text, OnToken on_token, OnText on_text) const;
  [[nodiscard]] std::string strip(DecodeState& state, std::string text) const;

  std::vector<Piece> pieces_;
  Matcher raw_;         // looked for in the text
  Matcher normalized_;  // looked for in the normalized text
  std::vector<NormalizerStep> normalizer_;
  std::unique_ptr<TextModel> model_;
  Decoding decoding_;
  std::vector<int> prefix_;
  std::vector<int> suffix_;
  Regex starts_with_word_;  // as Rust's regex crate, which the reference uses here, means \w and \s
  Regex leading_space_;
  Regex trailing_space_;
};

/// GPT-2's printable stand-ins for the 256 bytes, in UTF-8.
const std::array<std::string, 256>& byte_alphabet();

/// The byte that a piece such as <0x0A> stands for.
std::optional<std::uint8_t> byte_of_piece(std::string_view piece);

}  // namespace grist::io
