#include <grist/text/tokenizer.hpp>

#include <grist/core/errors.hpp>
#include <grist/core/philox.hpp>
#include <grist/text/companions.hpp>
#include <grist/text/gguf_tokenizer.hpp>
#include <grist/text/sentencepiece_tokenizer.hpp>
#include <grist/text/tokenizer_json.hpp>
#include <grist/text/vocab_merges.hpp>

#include <algorithm>
#include <array>

namespace grist::text {
namespace {

using std::filesystem::path;

// Texts that end a turn in some model's vocabulary (llama.cpp finds them in the same way).
constexpr std::array<std::string_view, 24> ends_of_turn = {"<|eot_id|>",
                                                           "<|im_end|>",
                                                           "<|end|>",
                                                           "<|return|>",
                                                           "<|call|>",
                                                           "<|flush|>",
                                                           "<|calls|>",
                                                           "<end_of_turn>",
                                                           "<|endoftext|>",
                                                           "</s>",
                                                           "<|eom_id|>",
                                                           "<EOT>",
                                                           "_<EOT>",
                                                           "[EOT]",
                                                           "[EOS]",
                                                           "<|end_of_text|>",
                                                           "<end_of_utterance>",
                                                           "<eos>",
                                                           "<turn|>",
                                                           "<|tool_response>",
                                                           "<｜end▁of▁sentence｜>",
                                                           "[e~[",
                                                           "<|file_sep|>",
                                                           "<|repo_name|>"};

int id_of(const TokenizerParts& parts, std::string_view content) {
  if (content.empty()) return -1;
  const auto added = std::ranges::find(parts.added, content, &AddedToken::content);
  if (added != parts.added.end()) return added->id;
  const auto piece = std::ranges::find(parts.pieces, content);
  return piece == parts.pieces.end() ? -1 : static_cast<int>(piece - parts.pieces.begin());
}

bool is_special(const TokenizerParts& parts, int id) {
  const auto added = std::ranges::find(parts.added, id, &AddedToken::id);
  return added != parts.added.end() && added->special;
}

/// The ends of turn in a vocabulary; `counts` decides which of the texts are meant.
template <class Counts>
std::vector<int> find_ends_of_turn(const TokenizerParts& parts, Counts counts) {
  std::vector<int> ids;
  const auto has = [&](std::string_view text) { return id_of(parts, text) >= 0; };
  const bool harmony =
      (has("<|return|>") && has("<|call|>")) || ((has("<|call|>") || has("<|calls|>")) && has("<|flush|>"));
  for (const std::string_view text : ends_of_turn) {
    if (text == "<|end|>" && harmony) continue;  // there it ends a message inside of an answer
    const int id = id_of(parts, text);
    if (id >= 0 && counts(text, id)) ids.push_back(id);
  }
  return ids;
}

/// Marks a token as special, and as one that is found in texts.
void make_special(TokenizerParts& parts, std::string_view content) {
  const int id = id_of(parts, content);
  if (id < 0) return;
  const auto known = std::ranges::find(parts.added, id, &AddedToken::id);
  if (known != parts.added.end())
    known->special = true;
  else
    parts.added.push_back({.id = id, .content = std::string(content), .special = true});
}

std::unique_ptr<Tokenizer> make_tokenizer(TokenizerParts parts, const Companions& companions, std::vector<int> ends) {
  for (const auto& [name, text] : companions.special_tokens) {
    if (name == "bos_token" || name == "eos_token") make_special(parts, text);
  }
  const int bos = id_of(parts, companions.special("bos_token"));
  const int eos = id_of(parts, companions.special("eos_token"));
  auto tokenizer = std::make_unique<PieceTokenizer>(std::move(parts));
  tokenizer->bos = bos;
  if (eos >= 0) tokenizer->eos = {eos};
  tokenizer->ends_of_turn = std::move(ends);
  tokenizer->special_tokens = companions.special_tokens;
  tokenizer->chat_template = companions.chat_template;
  return tokenizer;
}

/// Ends of turn of a Hugging Face folder: special tokens that the chat template writes.
std::vector<int> ends_in_template(const TokenizerParts& parts, const Companions& companions) {
  return find_ends_of_turn(parts, [&](std::string_view text, int id) {
    return is_special(parts, id) && companions.chat_template.find(text) != std::string::npos;
  });
}

void put_around(TokenizerParts& parts, const Companions& companions, bool bos_by_default, bool eos_by_default) {
  const int bos = id_of(parts, companions.special("bos_token"));
  const int eos = id_of(parts, companions.special("eos_token"));
  if (companions.add_bos.value_or(bos_by_default) && bos >= 0) parts.prefix = {bos};
  if (companions.add_eos.value_or(eos_by_default) && eos >= 0) parts.suffix = {eos};
}

std::unique_ptr<Tokenizer> load_sentencepiece(const path& file, Companions companions) {
  SentencePieceParts found = read_sentencepiece(file, !companions.legacy);
  TokenizerParts& parts = found.parts;
  for (const AddedToken& token : companions.added) {
    const auto known = std::ranges::find(parts.added, token.id, &AddedToken::id);
    if (known == parts.added.end())
      parts.added.push_back(token);
    else
      *known = token;
  }
  if (!found.bos.empty()) companions.special_tokens.try_emplace("bos_token", found.bos);
  if (!found.eos.empty()) companions.special_tokens.try_emplace("eos_token", found.eos);
  const bool t5 = companions.tokenizer_class == "T5Tokenizer";  // its class adds EOS; Llama's and its like add BOS
  put_around(parts, companions, !t5, t5);
  auto ends = ends_in_template(parts, companions);
  return make_tokenizer(std::move(found.parts), companions, std::move(ends));
}

/// Special tokens that the vocabulary does not have come after it, in the order of their names in transformers.
void append_special_tokens(TokenizerParts& parts, const Companions& companions) {
  std::vector<std::string> wanted;
  for (const char* const name :
       {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    wanted.push_back(companions.special(name));
  }
  wanted.insert(wanted.end(), companions.more_special.begin(), companions.more_special.end());
  for (const std::string& text : wanted) {
    if (text.empty()) continue;
    if (id_of(parts, text) < 0) {
      int next = static_cast<int>(parts.pieces.size());
      for (const AddedToken& token : parts.added) next = std::max(next, token.id + 1);
      parts.added.push_back({.id = next, .content = text, .special = true});
    }
    make_special(parts, text);
  }
}

std::unique_ptr<Tokenizer> load_vocab_merges(const path& folder, Companions companions) {
  TokenizerParts parts = read_vocab_merges(folder, companions);
  parts.added = companions.added;
  const std::string end_of_text = "<|endoftext|>";  // the default of these classes
  if (companions.tokenizer_class != "Qwen2Tokenizer" && !companions.model_type.starts_with("qwen")) {
    companions.special_tokens.try_emplace("bos_token", end_of_text);
  }
  companions.special_tokens.try_emplace("eos_token", end_of_text);
  companions.special_tokens.try_emplace("unk_token", end_of_text);
  append_special_tokens(parts, companions);
  put_around(parts, companions, false, false);
  auto ends = ends_in_template(parts, companions);
  return make_tokenizer(std::move(parts), companions, std::move(ends));
}

std::unique_ptr<Tokenizer> load_tokenizer_json(const path& file, const Companions& companions) {
  TokenizerParts parts = read_tokenizer_json(file, companions.add_prefix_space);
  complete(parts, companions);
  auto ends = ends_in_template(parts, companions);
  return make_tokenizer(std::move(parts), companions, std::move(ends));
}

std::unique_ptr<Tokenizer> load_gguf(const path& file) {
  const Gguf gguf = io::open_gguf(file);
  if (!gguf.metadata.contains("tokenizer.ggml.model")) return nullptr;
  TokenizerParts parts = read_gguf_tokenizer(gguf);
  const auto id = [&](std::string_view key) { return gguf.token_id(key, std::ssize(parts.pieces)); };
  Companions companions{.chat_template = gguf.get_or<std::string>("tokenizer.chat_template", "")};
  constexpr std::array<std::array<std::string_view, 2>, 4> names = {{{"bos_token", "tokenizer.ggml.bos_token_id"},
                                                                     {"eos_token", "tokenizer.ggml.eos_token_id"},
                                                                     {"unk_token", "tokenizer.ggml.unknown_token_id"},
                                                                     {"pad_token", "tokenizer.ggml.padding_token_id"}}};
  for (const auto& [name, key] : names) {
    if (const int token = id(key); token >= 0)
      companions.special_tokens.emplace(name, parts.pieces[static_cast<std::size_t>(token)]);
  }
  std::vector<int> named;
  for (const std::string_view key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    if (const int token = id(key); token >= 0) named.push_back(token);
  }
  auto ends = find_ends_of_turn(parts, [&](std::string_view text, int end) {
    return text != "</s>" || is_special(parts, end);  // Gemma's is HTML
  });
  for (const int end : ends) make_special(parts, parts.pieces[static_cast<std::size_t>(end)]);
  auto tokenizer = make_tokenizer(std::move(parts), companions, std::move(ends));
  for (const int token : named) {
    if (std::ranges::find(tokenizer->eos, token) == tokenizer->eos.end()) tokenizer->eos.push_back(token);
  }
  return tokenizer;
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const path& model) {
  if (!is_directory(model)) return load_gguf(model);
  if (const path file = model / "tokenizer.json"; exists(file))
    return load_tokenizer_json(file, read_companions(model));
  if (const path file = model / "tokenizer.model"; exists(file))
    return load_sentencepiece(file, read_companions(model));
  if (exists(model / "vocab.json") && exists(model / "merges.txt"))
    return load_vocab_merges(model, read_companions(model));
  return nullptr;
}

std::vector<int> Tokenizer::end_tokens() const {
  std::vector<int> all = eos;
  for (const int id : ends_of_turn) {
    if (std::ranges::find(all, id) == all.end()) all.push_back(id);
  }
  return all;
}

std::uint64_t fingerprint(const Tokenizer& tokenizer) {
  std::uint64_t hash = hash_name("");
  const auto add = [&hash](std::string_view text) { hash = hash * 0x100000001b3ULL ^ hash_name(text); };
  for (int id = 0; id < tokenizer.vocab_size(); ++id) add(tokenizer.decode(std::span(&id, 1), false));
  for (const int id : tokenizer.encode("The  1234 quick brown foxes\n\tdidn't jump over Zo\u00eb's \u2603.", true))
    add(std::to_string(id));
  return hash;
}

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(tokenizer), skip_special_(skip_special) {}

std::string StreamDecoder::put(int id) { return tokenizer_.decode_next(state_, id, skip_special_); }

std::string StreamDecoder::finish() { return tokenizer_.decode_end(state_); }

}  // namespace grist::text
