#include <grist/text/decoder.hpp>

#include <grist/text/byte_alphabet.hpp>
#include <grist/text/utf8.hpp>

#include <array>
#include <optional>
#include <utility>

namespace grist::text {
namespace {

using Next = DecodeStep::Next;
using State = DecodeStepState;

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

struct ByteLevel final : DecodeStep {
  void put(State& state, std::string piece, const Next& next) const override {
    state.held += from_byte_alphabet(piece).value_or(piece);
    next(take_characters(state.held));
  }
  void end(State& state, const Next& next) const override {
    if (!std::exchange(state.held, {}).empty()) next(std::string(replacement_character));
  }
};

/// A run of byte pieces is text if all of it is UTF-8, otherwise one U+FFFD for each.
struct ByteFallback final : DecodeStep {
  void put(State& state, std::string piece, const Next& next) const override {
    if (const auto byte = byte_of_piece(piece)) {
      state.held += static_cast<char>(*byte);
      return;
    }
    end(state, next);
    next(std::move(piece));
  }
  void end(State& state, const Next& next) const override {
    std::string text = std::exchange(state.held, {});
    if (text.empty()) return;
    if (!find_invalid_utf8(text)) return next(std::move(text));
    for (std::size_t i = 0; i < text.size(); ++i) next(std::string(replacement_character));
  }
};

struct ReplaceText final : DecodeStep {
  Replace replace;
  explicit ReplaceText(Replace r) : replace(std::move(r)) {}
  void put(State& /*state*/, std::string piece, const Next& next) const override {
    replace_all(piece, replace);
    next(std::move(piece));
  }
};

struct ReplacePattern final : DecodeStep {
  std::vector<NormalizerStep> step;
  explicit ReplacePattern(ReplaceMatches r) { step.emplace_back(std::move(r)); }
  void put(State& /*state*/, std::string piece, const Next& next) const override { next(normalize(step, piece)); }
};

struct WholeText final : DecodeStep {
  void put(State& state, std::string piece, const Next& /*next*/) const override { state.held += piece; }
  void end(State& state, const Next& next) const override { next(std::exchange(state.held, {})); }
};

struct Strip final : DecodeStep {
  std::string content;
  int start, stop;
  Strip(std::string c, int a, int b) : content(std::move(c)), start(a), stop(b) {}
  void put(State& /*state*/, std::string piece, const Next& next) const override {
    for (int i = 0; i < start && piece.starts_with(content); ++i) piece.erase(0, content.size());
    for (int i = 0; i < stop && piece.ends_with(content); ++i) piece.erase(piece.size() - content.size());
    next(std::move(piece));
  }
};

/// At the start of the whole text alone.
struct StripStart final : DecodeStep {
  std::string content;
  int most;
  StripStart(std::string c, int m) : content(std::move(c)), most(m) {}
  void put(State& state, std::string piece, const Next& next) const override {
    std::size_t taken = 0;
    while (state.count < most && taken < piece.size()) {
      if (piece.compare(taken, content.size(), content) == 0) {
        ++state.count;
        taken += content.size();
      } else {
        state.count = most;
      }
    }
    next(piece.erase(0, taken));
  }
};

struct Metaspace final : DecodeStep {
  Replace space, nothing;
  bool drops_first;
  Metaspace(const std::string& mark, bool drops) : space{mark, " "}, nothing{mark, ""}, drops_first(drops) {}
  void put(State& state, std::string piece, const Next& next) const override {
    replace_all(piece, state.count++ == 0 && drops_first ? nothing : space);
    state.count = 1;
    next(std::move(piece));
  }
};

struct WordPiece final : DecodeStep {
  std::string prefix;
  bool cleanup;
  WordPiece(std::string p, bool c) : prefix(std::move(p)), cleanup(c) {}
  void put(State& state, std::string piece, const Next& next) const override {
    if (state.count == 1) {
      if (!prefix.empty() && piece.starts_with(prefix))
        piece.erase(0, prefix.size());
      else
        piece.insert(0, " ");
    }
    state.count = 1;
    if (cleanup) {
      static const std::array<Replace, 11> rules = {{{" .", "."},
                                                     {" ?", "?"},
                                                     {" !", "!"},
                                                     {" ,", ","},
                                                     {" ' ", "'"},
                                                     {" n't", "n't"},
                                                     {" 'm", "'m"},
                                                     {" do not", " don't"},
                                                     {" 's", "'s"},
                                                     {" 've", "'ve"},
                                                     {" 're", "'re"}}};
      for (const Replace& rule : rules) replace_all(piece, rule);
    }
    next(std::move(piece));
  }
};

struct BpeSuffix final : DecodeStep {
  std::string suffix;
  explicit BpeSuffix(std::string s) : suffix(std::move(s)) {}
  void put(State& state, std::string piece, const Next& next) const override {
    if (state.count == 1) give(state, " ", next);
    state.held = std::move(piece);
    state.count = 1;
  }
  void end(State& state, const Next& next) const override {
    if (std::exchange(state.count, 0) == 1) give(state, "", next);
  }
  void give(State& state, const char* with, const Next& next) const {
    std::string piece = std::exchange(state.held, {});
    if (!suffix.empty()) replace_all(piece, {suffix, with});
    next(std::move(piece));
  }
};

struct Spaces final : DecodeStep {
  void put(State& state, std::string piece, const Next& next) const override {
    if (std::exchange(state.count, 1) == 1) piece.insert(0, " ");
    next(std::move(piece));
  }
};

}  // namespace

void Decoder::run(std::size_t step, DecodeState& state, std::string piece, std::string& out) const {
  if (step == steps_.size()) {
    out += piece;
    return;
  }
  steps_[step]->put(state[step], std::move(piece),
                    [&](std::string given) { run(step + 1, state, std::move(given), out); });
}

std::string Decoder::put(DecodeState& state, std::string piece) const {
  state.resize(steps_.size());
  std::string out;
  run(0, state, std::move(piece), out);
  return out;
}

std::string Decoder::end(DecodeState& state) const {
  state.resize(steps_.size());
  std::string out;
  for (std::size_t step = 0; step < steps_.size(); ++step) {
    steps_[step]->end(state[step], [&](std::string given) { run(step + 1, state, std::move(given), out); });
  }
  return out;
}

std::unique_ptr<DecodeStep> make_byte_level() { return std::make_unique<ByteLevel>(); }
std::unique_ptr<DecodeStep> make_byte_fallback() { return std::make_unique<ByteFallback>(); }
std::unique_ptr<DecodeStep> make_replace(Replace replace) { return std::make_unique<ReplaceText>(std::move(replace)); }
std::unique_ptr<DecodeStep> make_replace(ReplaceMatches replace) {
  return std::make_unique<ReplacePattern>(std::move(replace));
}
std::unique_ptr<DecodeStep> make_whole_text() { return std::make_unique<WholeText>(); }
std::unique_ptr<DecodeStep> make_strip(std::string content, int start, int stop, bool fused) {
  if (fused) return std::make_unique<StripStart>(std::move(content), start);
  return std::make_unique<Strip>(std::move(content), start, stop);
}
std::unique_ptr<DecodeStep> make_metaspace(std::string mark, bool drops_first) {
  return std::make_unique<Metaspace>(mark, drops_first);
}
std::unique_ptr<DecodeStep> make_word_piece(std::string prefix, bool cleanup) {
  return std::make_unique<WordPiece>(std::move(prefix), cleanup);
}
std::unique_ptr<DecodeStep> make_bpe_decoder(std::string suffix) {
  return std::make_unique<BpeSuffix>(std::move(suffix));
}
std::unique_ptr<DecodeStep> make_spaces() { return std::make_unique<Spaces>(); }

Decoder sentencepiece_decoder(bool space_prefix) {
  Decoder decoder;
  decoder.add(make_replace(Replace{std::string(space_mark), " "}));
  decoder.add(make_byte_fallback());
  if (space_prefix) decoder.add(make_strip(" ", 1, 0, true));
  return decoder;
}

}  // namespace grist::text
