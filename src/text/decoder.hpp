// The decoders of tokenizer.json: pieces become text, one by one, so that a stream can be written as it comes.
#pragma once

#include <grist/text/decode_state.hpp>
#include <grist/text/normalizer.hpp>

#include <functional>
#include <string>
#include <vector>

namespace grist::text {

inline constexpr std::string_view space_mark = "\xE2\x96\x81";  // U+2581, SentencePiece's space

/// A step takes pieces and gives pieces on. Steps after `fuse` see the parts of one piece, the whole text.
class DecodeStep {
public:
  using Next = std::function<void(std::string piece)>;
  virtual ~DecodeStep() = default;
  virtual void put(DecodeStepState& state, std::string piece, const Next& next) const = 0;
  virtual void end(DecodeStepState& /*state*/, const Next& /*next*/) const {}
};

class Decoder {
public:
  void add(std::unique_ptr<DecodeStep> step) { steps_.push_back(std::move(step)); }
  /// The text that a piece completes.
  [[nodiscard]] std::string put(DecodeState& state, std::string piece) const;
  /// What is left.
  [[nodiscard]] std::string end(DecodeState& state) const;

private:
  void run(std::size_t step, DecodeState& state, std::string piece, std::string& out) const;
  std::vector<std::unique_ptr<DecodeStep>> steps_;
};

// Steps, by tokenizer.json's names. `fused`: the step sees parts of the whole text.
std::unique_ptr<DecodeStep> make_byte_level();
std::unique_ptr<DecodeStep> make_byte_fallback();
std::unique_ptr<DecodeStep> make_replace(Replace replace);
std::unique_ptr<DecodeStep> make_replace(ReplaceMatches replace);
std::unique_ptr<DecodeStep> make_whole_text();  // holds all back to the end: what comes after needs the whole text
std::unique_ptr<DecodeStep> make_strip(std::string content, int start, int stop, bool fused);
/// `drops_first`: the marks of the first piece are no spaces.
std::unique_ptr<DecodeStep> make_metaspace(std::string mark, bool drops_first);
std::unique_ptr<DecodeStep> make_word_piece(std::string prefix, bool cleanup);
/// The suffix of a word is a space, but at the end.
std::unique_ptr<DecodeStep> make_bpe_decoder(std::string suffix);
/// Without a decoder pieces are joined by spaces.
std::unique_ptr<DecodeStep> make_spaces();

/// SentencePiece's: the marks are spaces, <0x0A> is a byte; the space put before a text is taken off again.
Decoder sentencepiece_decoder(bool space_prefix);

}  // namespace grist::text
