// Tokenizers of real models: tokenizer.json, tokenizer.model (SentencePiece), vocab.json with merges.txt, GGUF.
#pragma once

#include <grist/text/chat_template.hpp>
#include <grist/text/decode_state.hpp>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace grist::text {

/// Special tokens written in a text: these tokens, or text as any other.
enum class WrittenSpecial { parsed, plain };

/// Text to token ids and back. Immutable after loading.
class Tokenizer {
public:
  virtual ~Tokenizer() = default;

  /// Ids of a text. Added tokens written in the text are parsed as such, special ones as `written` says. With
  /// `add_special` the tokens that the model puts around a text (BOS) are added. Throws InputError on invalid UTF-8,
  /// with the byte offset.
  [[nodiscard]] virtual std::vector<int> encode(std::string_view text, bool add_special,
                                                WrittenSpecial written) const = 0;
  [[nodiscard]] std::vector<int> encode(std::string_view text, bool add_special) const {
    return encode(text, add_special, WrittenSpecial::parsed);
  }

  /// Text of ids, as the reference implementation gives it. An id that no token has is no text.
  [[nodiscard]] virtual std::string decode(std::span<const int> ids, bool skip_special) const = 0;

  /// decode() id by id: the text that `id` completes. What is held back at the end, decode_end gives.
  [[nodiscard]] virtual std::string decode_next(DecodeState& state, int id, bool skip_special) const = 0;
  [[nodiscard]] virtual std::string decode_end(DecodeState& state) const = 0;

  [[nodiscard]] virtual int vocab_size() const = 0;
  [[nodiscard]] virtual bool is_special(int id) const = 0;
  /// How a special token is written, such as <|im_end|>, also where decode skips it; empty for other tokens.
  [[nodiscard]] virtual std::string_view special_text(int id) const = 0;

  /// All tokens that end an answer: those that the files name, and an end of turn that is known by its text.
  [[nodiscard]] std::vector<int> end_tokens() const;
  /// Whether a prompt begins with BOS twice: its text began with one, and encode added another.
  [[nodiscard]] bool doubles_bos(std::span<const int> ids) const {
    return bos >= 0 && ids.size() > 1 && ids[0] == bos && ids[1] == bos;
  }

  int bos = -1;                      // -1: none
  std::vector<int> eos{};            // what the files call the end
  std::vector<int> ends_of_turn{};   // what ends a turn by its text alone
  std::string chat_template{};       // Jinja source, empty where the files hold none
  SpecialTokens special_tokens{};    // for the chat template
  std::vector<std::string> notes{};  // what a user should know about these files, a line each
  std::function<void()> pause{};     // asked every few thousand words of a long text; may throw, which ends encode
};

/// Reads the tokenizer of a Hugging Face folder (tokenizer.json, else tokenizer.model, else vocab.json and merges.txt;
/// tokenizer_config.json, added_tokens.json and chat templates beside them) or of a GGUF file. Null where there is
/// none. Throws InputError.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& model);

/// A hash of what the ids mean: of the text of each, and of the ids of a sentence. It is the same for a tokenizer.json
/// and a GGUF file of one model that have the same vocabulary.
std::uint64_t fingerprint(const Tokenizer& tokenizer);

/// Decodes a growing sequence piece by piece: the pieces that put() and finish() return, joined, are exactly
/// decode(all ids); a piece never ends inside a UTF-8 character.
class StreamDecoder {
public:
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special);
  std::string put(int id);
  std::string finish();

private:
  const Tokenizer& tokenizer_;
  bool skip_special_;
  DecodeState state_;
};

}  // namespace grist::text
