// What all tokenizers have in common: added tokens are cut out of the text, a model turns what lies between them into
// ids, and ids become text piece by piece.
#pragma once

#include <grist/text/decoder.hpp>
#include <grist/text/text_model.hpp>
#include <grist/text/tokenizer.hpp>

#include <nlohmann/json_fwd.hpp>

#include <array>
#include <cstdint>
#include <unordered_map>

namespace grist::text {

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

struct TokenizerParts {
  std::vector<std::string> pieces;  // by id, as the file writes them; empty: no such token
  std::vector<AddedToken> added;
  std::vector<NormalizerStep> normalizer;
  std::unique_ptr<TextModel> model;
  Decoder decoder;
  std::vector<int> prefix;  // what add_special puts before the text
  std::vector<int> suffix;
  std::vector<std::string> notes;  // what the user should know about this file, a line each
};

class PieceTokenizer final : public Tokenizer {
public:
  explicit PieceTokenizer(TokenizerParts parts);

  using Tokenizer::encode;
  [[nodiscard]] std::vector<int> encode(std::string_view text, bool add_special, WrittenSpecial written) const override;
  [[nodiscard]] std::string decode(std::span<const int> ids, bool skip_special) const override;
  [[nodiscard]] std::string decode_next(DecodeState& state, int id, bool skip_special) const override;
  [[nodiscard]] std::string decode_end(DecodeState& state) const override;
  [[nodiscard]] int vocab_size() const override { return static_cast<int>(pieces_.size()); }
  [[nodiscard]] bool is_special(int id) const override;
  [[nodiscard]] std::string_view special_text(int id) const override;

private:
  struct Piece {
    std::string text;
    bool special = false;
  };
  /// Added tokens by their first byte, the longest first.
  using Matcher = std::array<std::vector<std::pair<std::string, AddedToken>>, 256>;

  template <class OnToken, class OnText>
  void split(const Matcher& matcher, std::string_view text, WrittenSpecial written, OnToken on_token,
             OnText on_text) const;

  std::vector<Piece> pieces_;
  Matcher raw_;         // looked for in the text
  Matcher normalized_;  // looked for in the normalized text
  std::vector<NormalizerStep> normalizer_;
  std::unique_ptr<TextModel> model_;
  Decoder decoder_;
  std::vector<int> prefix_;
  std::vector<int> suffix_;
};

}  // namespace grist::text
