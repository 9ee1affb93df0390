#include <grist/text/gguf_tokenizer_writer.hpp>

#include <grist/core/errors.hpp>
#include <grist/io/json_fields.hpp>
#include <grist/text/bpe.hpp>
#include <grist/text/companions.hpp>
#include <grist/text/gguf_pre_tokenizer.hpp>
#include <grist/text/sentencepiece_tokenizer.hpp>
#include <grist/text/tokenizer.hpp>
#include <grist/text/tokenizer_json.hpp>

#include <algorithm>
#include <array>
#include <format>
#include <map>
#include <span>

namespace grist::text {
namespace {

using nlohmann::json;
using std::filesystem::path;

enum Kind : std::int32_t { normal = 1, unknown, control, user_defined, unused, byte };

/// By id.
struct Vocabulary {
  std::string model;  // of tokenizer.ggml.model
  std::vector<std::string> pieces;
  std::vector<std::int32_t> kinds;
  std::vector<float> scores;        // of "llama"
  std::vector<std::string> merges;  // of "gpt2"
  std::string pre;
  bool space_prefix = false;
  bool at_start_alone = false;  // that space is put before a text, and not behind a special token inside of it
  int placed = 0;           // added tokens that are found only in some places, or take white space
  std::string one_placed;
};

/// The patterns that cut a text into words, one after the other.
void add_patterns(const json& step, const std::string& where, std::vector<std::string>& patterns) {
  const auto type = io::json_field<std::string>(step, "type", where);
  if (type == "Sequence") {
    for (const json& inner : step.at("pretokenizers")) add_patterns(inner, where, patterns);
  } else if (type == "ByteLevel") {
    if (io::json_field_or<bool>(step, "use_regex", where, true)) patterns.emplace_back(gpt2_pattern);
  } else if (type == "Digits" && io::json_field_or<bool>(step, "individual_digits", where, false)) {
    patterns.emplace_back(R"(\p{N})");
  } else if (type == "Split" && step.value("behavior", "") == "Isolated" && step.at("pattern").contains("Regex")) {
    patterns.push_back(step.at("pattern").at("Regex"));
  } else {
    throw InputError("{}: words are cut by '{}', which tokenizer.ggml.pre has no name for", where, type);
  }
}

/// The steps of a normalizer, one after the other.
void add_steps(const json& normalizer, std::vector<json>& steps) {
  if (normalizer.is_null()) return;
  if (normalizer.value("type", "") != "Sequence") return steps.push_back(normalizer);
  for (const json& inner : normalizer.at("normalizers")) add_steps(inner, steps);
}

/// Whether texts are normalized to NFC, which a name of tokenizer.ggml.pre may stand for. Throws InputError where
/// anything else is done to them.
bool normalizes_to_nfc(const json& file, const std::string& where) {
  std::vector<json> steps;
  add_steps(file.value("normalizer", json()), steps);
  for (const json& step : steps)
    if (step.at("type") != "NFC")
      throw InputError("{}: texts are normalized by '{}', which GGUF cannot say", where,
                       step.at("type").get<std::string>());
  return !steps.empty();
}

/// Throws InputError where a text is normalized to more than SentencePiece's spaces.
void expect_spaces_alone(const json& file, const std::string& where) {
  const std::string space = "\u2581";
  std::vector<json> steps;
  add_steps(file.value("normalizer", json()), steps);
  for (const json& step : steps) {
    const auto type = step.at("type").get<std::string>();
    const bool prepends = type == "Prepend" && step.at("prepend") == space;
    const bool replaces = type == "Replace" && step.at("content") == space &&
                          step.at("pattern") == json{{"String", " "}};
    if (!prepends && !replaces)
      throw InputError("{}: texts are normalized by '{}', which GGUF cannot say", where, type);
  }
}

std::vector<PiecePair> merges_of(const json& model, const std::string& where) {
  std::vector<PiecePair> merges;
  for (const json& merge : model.at("merges")) {
    if (merge.is_array())
      merges.emplace_back(merge.at(0), merge.at(1));
    else
      merges.push_back(split_merge(merge.get<std::string>(), where));
  }
  return merges;
}

void read_byte_level(const json& file, const std::string& where, Vocabulary& vocabulary) {
  vocabulary.model = "gpt2";
  std::vector<std::string> patterns;
  add_patterns(file.value("pre_tokenizer", json()), where, patterns);
  const json& model = file.at("model");
  const bool nfc = normalizes_to_nfc(file, where);
  vocabulary.pre = gguf_pre_name(patterns, model.value("ignore_merges", false), nfc);
  if (vocabulary.pre.empty())
    throw InputError("{}: words are cut by patterns that tokenizer.ggml.pre has no name for; the last is '{}'", where,
                     patterns.empty() ? "" : patterns.back());
  for (const auto& [left, right] : merges_of(model, where)) vocabulary.merges.push_back(left + " " + right);
}

/// SentencePiece's BPE merges the pair whose piece has the highest score: the earlier the merge, the higher.
void read_scores(const json& file, const std::string& where, Vocabulary& vocabulary) {
  constexpr float never_first = -1e9F;  // of pieces that no merge makes
  vocabulary.model = "llama";
  vocabulary.pre = "default";
  expect_spaces_alone(file, where);
  std::map<std::string, float> scores;
  float score = 0;
  for (const auto& [left, right] : merges_of(file.at("model"), where)) scores.emplace(left + right, score--);
  for (std::size_t id = 0; id < vocabulary.pieces.size(); ++id) {
    const std::string& piece = vocabulary.pieces[id];
    const auto found = scores.find(piece);
    const bool one_character = std::ranges::count_if(piece, [](char c) { return (c & 0xC0) != 0x80; }) == 1;
    vocabulary.scores.push_back(found != scores.end() ? found->second : one_character ? 0 : never_first);
    if (piece.size() == 6 && piece.starts_with("<0x") && vocabulary.kinds[id] == normal) vocabulary.kinds[id] = byte;
  }
  const json pre = file.value("pre_tokenizer", json());
  const bool metaspace = pre.is_object() && pre.value("type", "") == "Metaspace";
  vocabulary.at_start_alone = metaspace && pre.value("prepend_scheme", "always") == "first";
  vocabulary.space_prefix = (metaspace && pre.value("prepend_scheme", "always") != "never") ||
                            file.value("normalizer", json()).dump().find("\"Prepend\"") != std::string::npos;
}

void add_added(Vocabulary& vocabulary, const std::vector<AddedToken>& added) {
  for (const AddedToken& token : added) {
    if (token.single_word || token.lstrip || token.rstrip) ++vocabulary.placed, vocabulary.one_placed = token.content;
    const auto id = static_cast<std::size_t>(token.id);
    if (id >= vocabulary.pieces.size()) {
      vocabulary.pieces.resize(id + 1);
      vocabulary.kinds.resize(id + 1, unused);
      if (vocabulary.model == "llama") vocabulary.scores.resize(id + 1);
    }
    vocabulary.pieces[id] = token.content;
    if (vocabulary.kinds[id] != unknown) vocabulary.kinds[id] = token.special ? control : user_defined;
  }
}

Vocabulary read_json_vocabulary(const path& file, const Companions& companions) {
  const std::string where = file.string();
  const json root = io::read_json(file);
  TokenizerParts parts = read_tokenizer_json(file, companions.add_prefix_space);  // refuses what is malformed
  complete(parts, companions);
  const json& model = root.at("model");
  if (model.value("type", "") != "BPE")
    throw InputError("{}: the model is '{}', GGUF files are written of BPE alone", where, model.value("type", "?"));
  Vocabulary vocabulary;
  vocabulary.pieces = parts.pieces;
  vocabulary.kinds.assign(parts.pieces.size(), normal);
  const json pre = root.value("pre_tokenizer", json());
  const bool byte_level = !pre.is_null() && read_pre_tokenizer(pre, where).byte_level;
  if (!byte_level && model.value("byte_fallback", false)) {
    read_scores(root, where, vocabulary);
    const auto name = model.contains("unk_token") && model.at("unk_token").is_string()
                          ? model.at("unk_token").get<std::string>()
                          : std::string();
    const auto found = std::ranges::find(vocabulary.pieces, name);
    if (found != vocabulary.pieces.end())
      vocabulary.kinds[static_cast<std::size_t>(found - vocabulary.pieces.begin())] = unknown;
  } else if (byte_level) {
    read_byte_level(root, where, vocabulary);
  } else {
    throw InputError("{}: its BPE works neither on bytes nor as SentencePiece's: GGUF has no word for it", where);
  }
  add_added(vocabulary, parts.added);
  return vocabulary;
}

Vocabulary read_vocabulary(const path& folder, const Companions& companions) {
  Vocabulary vocabulary;
  if (exists(folder / "tokenizer.json")) {
    vocabulary = read_json_vocabulary(folder / "tokenizer.json", companions);
  } else if (exists(folder / "tokenizer.model")) {
    auto found = read_sentencepiece_vocabulary(folder / "tokenizer.model");
    vocabulary = {.model = "llama", .pieces = std::move(found.pieces), .kinds = std::move(found.kinds),
                  .scores = std::move(found.scores), .merges = {}, .pre = "default",
                  .space_prefix = found.space_prefix};
  } else {
    throw InputError("{}: holds neither tokenizer.json nor tokenizer.model, which a GGUF file is to hold",
                     folder.string());
  }
  std::vector<AddedToken> more;
  for (const AddedToken& token : companions.added)
    if (std::ranges::find(vocabulary.pieces, token.content) == vocabulary.pieces.end()) more.push_back(token);
  add_added(vocabulary, more);
  return vocabulary;
}

/// Unused tokens up to the rows of the embedding, as llama.cpp's converter names them.
void fill_up(Vocabulary& vocabulary, Index size, const std::string& folder) {
  if (std::ssize(vocabulary.pieces) > size)
    throw InputError("{}: the tokenizer has {} tokens, the embedding {} rows", folder, vocabulary.pieces.size(), size);
  const auto count = static_cast<std::size_t>(size);
  vocabulary.pieces.resize(count);
  vocabulary.kinds.resize(count, unused);
  if (vocabulary.model == "llama") vocabulary.scores.resize(count);
  for (std::size_t id = 0; id < count; ++id) {
    if (!vocabulary.pieces[id].empty()) continue;
    vocabulary.pieces[id] = std::format("[PAD{}]", id);
    vocabulary.kinds[id] = unused;
  }
}

constexpr std::array<std::string_view, 4> sentences = {
    "The  1234 quick brown foxes\n\tdidn't jump over Zo\u00eb's \u2603.",
    "def f(x):\n    return x**2 + 3.25  # \u00fc",
    "\u4f60\u597d\uff0c\u4e16\u754c 2025\u5e74 \U0001F600", "I'LL x'd   \r\n\r\n A_b-c/d"};

}  // namespace

std::vector<std::string> set_gguf_tokenizer(io::GgufWriter& writer, const path& folder, Index vocab_size,
                                            const std::vector<int>& eos) {
  const Companions companions = read_companions(folder);
  const auto tokenizer = load_tokenizer(folder);
  Vocabulary vocabulary = read_vocabulary(folder, companions);
  fill_up(vocabulary, vocab_size, folder.string());
  writer.set("tokenizer.ggml.model", vocabulary.model);
  writer.set("tokenizer.ggml.pre", vocabulary.pre);
  writer.set("tokenizer.ggml.tokens", vocabulary.pieces);
  writer.set("tokenizer.ggml.token_type", vocabulary.kinds);
  if (vocabulary.model == "llama") {
    writer.set("tokenizer.ggml.scores", vocabulary.scores);
    writer.set("tokenizer.ggml.add_space_prefix", vocabulary.space_prefix);
  } else {
    writer.set("tokenizer.ggml.merges", vocabulary.merges);
  }
  const auto set_id = [&](const char* key, int id) {
    if (id >= 0) writer.set(std::string("tokenizer.ggml.") + key + "_token_id", static_cast<std::uint32_t>(id));
  };
  const auto id_of = [&](const std::string& name) {
    const std::string text = companions.special(name);
    const auto found = std::ranges::find(vocabulary.pieces, text);
    return text.empty() || found == vocabulary.pieces.end() ? -1 : static_cast<int>(found - vocabulary.pieces.begin());
  };
  set_id("bos", tokenizer->bos);
  const int end = !tokenizer->eos.empty() ? tokenizer->eos.front() : eos.empty() ? -1 : eos.front();
  set_id("eos", end);
  const auto other = std::ranges::find_if(eos, [end](int id) { return id != end; });
  if (other != eos.end()) set_id("eot", *other);
  set_id("unknown", id_of("unk_token"));
  set_id("padding", id_of("pad_token"));

  // What the tokenizer itself puts around a text.
  const auto alone = tokenizer->encode("a", false), around = tokenizer->encode("a", true);
  const bool bos = !around.empty() && around.front() == tokenizer->bos && around.size() > alone.size();
  const bool adds_eos = around.size() == alone.size() + (bos ? 2 : 1) && around.back() == end;
  writer.set("tokenizer.ggml.add_bos_token", bos);
  writer.set("tokenizer.ggml.add_eos_token", adds_eos);
  if (!tokenizer->chat_template.empty()) writer.set("tokenizer.chat_template", tokenizer->chat_template);
  std::vector<std::string> notes;
  if (vocabulary.placed > 0)
    notes.push_back(std::format("{}: {} added tokens, '{}' for one, are whole words only or take the white space "
                                "beside them, which GGUF cannot say", folder.string(), vocabulary.placed,
                                vocabulary.one_placed));
  if (vocabulary.at_start_alone)
    notes.push_back(std::format("{}: a space is put before a text alone; llama.cpp puts one behind each special token "
                                "too, as SentencePiece does", folder.string()));
  return notes;
}

void check_gguf_tokenizer(const path& gguf, const path& folder) {
  const auto written = load_tokenizer(gguf), wanted = load_tokenizer(folder);
  for (const bool add_special : {false, true}) {
    for (const std::string_view sentence : sentences) {
      if (written->encode(sentence, add_special) != wanted->encode(sentence, add_special))
        throw InputError("{}: its tokenizer cannot be said in GGUF: {} would become other tokens", folder.string(),
                         json(sentence).dump());
    }
  }
  const auto text_of = [](const Tokenizer& tokenizer, int id) { return tokenizer.decode(std::span(&id, 1), false); };
  for (int id = 0; id < wanted->vocab_size(); ++id) {
    if (const auto text = text_of(*wanted, id); text_of(*written, id) != text)
      throw InputError("{}: its tokenizer cannot be said in GGUF: token {} would become another text than {}",
                       folder.string(), id, json(text).dump(-1, ' ', false, json::error_handler_t::replace));
  }
}

}  // namespace grist::text
