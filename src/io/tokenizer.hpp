// Tokenizers of real models: tokenizer.json (byte-level and metaspace BPE), tokenizer.model (SentencePiece), GGUF.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace grist::io {

/// What a decoder still holds back between two ids.
struct DecodeState {
  std::string held;  // bytes of a character, or of a run of bytes, that is not complete
  int stripped = 0;  // how much was taken off the text's start
};

/// Text to token ids and back. Immutable after loading.
class Tokenizer {
public:
  virtual ~Tokenizer() = default;

  /// Ids of a text. Special and added tokens written in the text are parsed as such. With `add_special` the tokens that
  /// the model puts around a text (BOS) are added. Throws InputError on invalid UTF-8, with the byte offset.
  [[nodiscard]] virtual std::vector<int> encode(std::string_view text, bool add_special) const = 0;

  /// Text of ids, as the reference implementation gives it. Throws InputError for an id outside the vocabulary.
  [[nodiscard]] virtual std::string decode(std::span<const int> ids, bool skip_special) const = 0;

  /// decode() id by id: the text that `id` completes. What is held back at the end, decode_end gives.
  [[nodiscard]] virtual std::string decode_next(DecodeState& state, int id, bool skip_special) const = 0;
  [[nodiscard]] virtual std::string decode_end(DecodeState& state) const = 0;

  [[nodiscard]] virtual int vocab_size() const = 0;
  [[nodiscard]] virtual bool is_special(int id) const = 0;

  int bos = -1;          // -1: none
  std::vector<int> eos;  // what the tokenizer itself calls the end
  std::string chat_template;  // Jinja source, empty where the files hold none
  std::string bos_text;       // for the chat template
  std::string eos_text;
};

/// Reads the tokenizer of a Hugging Face folder (tokenizer.json, else tokenizer.model; tokenizer_config.json and
/// chat_template.jinja beside them) or of a GGUF file. Null where there is none. Throws InputError.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& model);

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

}  // namespace grist::io
