#include <grist/io/bpe_tokenizer.hpp>

#include <grist/core/errors.hpp>
#include <grist/io/json_fields.hpp>
#include <grist/io/utf8.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <queue>

namespace grist::io {
namespace {

using nlohmann::json;
using JsonType = json::value_t;

// Patterns of well-known models, as their tokenizer.json has them.
constexpr std::string_view gpt2_pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view llama3_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view qwen2_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

struct Merge {
  int rank;
  int id;  // of the piece that the two make
};

/// Pairs of ids to merges: open addressing in an array of a power of two, at most half full.
class MergeTable {
public:
  explicit MergeTable(std::size_t count) : slots_(std::bit_ceil(2 * count + 1)) {}

  void insert(int left, int right, Merge merge) { slots_[find_slot(key(left, right))] = {key(left, right), merge}; }

  [[nodiscard]] const Merge* find(int left, int right) const {
    const Slot& slot = slots_[find_slot(key(left, right))];
    return slot.key == empty ? nullptr : &slot.merge;
  }

private:
  static constexpr std::uint64_t empty = ~std::uint64_t{0};
  struct Slot {
    std::uint64_t key = empty;
    Merge merge{};
  };

  static std::uint64_t key(int left, int right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
  }
  [[nodiscard]] std::size_t find_slot(std::uint64_t key) const {
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = (key * 0x9E3779B97F4A7C15U >> 32) & mask;
    while (slots_[at].key != key && slots_[at].key != empty) at = (at + 1) & mask;
    return at;
  }

  std::vector<Slot> slots_;
};

struct BpeParts {
  StringMap<int> vocab;
  MergeTable merges{0};
  int unknown = -1;  // -1: what the vocabulary does not have is dropped
  bool fuse_unknown = false;
  bool byte_level = false;
  bool byte_fallback = false;
  bool ignore_merges = false;  // a word that is a piece stays whole
  std::vector<PreTokenizerStep> pre_tokenizer;
};

class BpeModel final : public TextModel {
public:
  explicit BpeModel(BpeParts parts) : parts_(std::move(parts)) {
    for (unsigned b = 0; b < 256; ++b) {
      byte_ids_[b] = find(parts_.byte_level ? byte_alphabet()[b] : std::format("<0x{:02X}>", b));
    }
    if (std::ranges::find(byte_ids_, -1) != byte_ids_.end()) parts_.byte_fallback = false;
    if (!parts_.byte_level && never_merges_before_space()) {
      parts_.pre_tokenizer.emplace_back(Split{Regex(std::format("{0}*[^{0}]+|{0}+", space_mark), "space mark")});
    }
  }

  void encode(std::string_view text, bool at_start, WordCache& cache, std::vector<int>& ids) const override {
    pre_tokenize(parts_.pre_tokenizer, text, at_start, [&](std::string_view word) {
      if (const auto known = cache.find(word); known != cache.end()) {
        ids.insert(ids.end(), known->second.begin(), known->second.end());
        return;
      }
      const std::vector<int> found = encode_word(word);
      ids.insert(ids.end(), found.begin(), found.end());
      if (word.size() <= max_cached_word && cache.size() < max_cached_words) cache.emplace(word, found);
    });
  }

private:
  static constexpr std::size_t max_cached_word = 64;
  static constexpr std::size_t max_cached_words = 1 << 16;

  /// A piece in the making: a node of a list in an array.
  struct Symbol {
    int id;
    int previous;
    int next;  // -1: none
  };
  struct Candidate {
    int rank;
    int left;  // index of the left symbol
    int id;
    bool operator>(const Candidate& other) const { return std::tie(rank, left) > std::tie(other.rank, other.left); }
  };

  [[nodiscard]] int find(std::string_view piece) const {
    const auto found = parts_.vocab.find(piece);
    return found == parts_.vocab.end() ? -1 : found->second;
  }

  /// Whether no piece holds a space mark behind another character: then words can be merged one by one.
  [[nodiscard]] bool never_merges_before_space() const {
    return find(space_mark) >= 0 && std::ranges::none_of(parts_.vocab, [](const auto& entry) {
             std::string_view piece = entry.first;
             while (piece.starts_with(space_mark)) piece.remove_prefix(space_mark.size());
             return piece.find(space_mark) != std::string_view::npos;
           });
  }

  [[nodiscard]] std::vector<int> first_ids(std::string_view word) const {
    std::vector<int> ids;
    bool unknown_before = false;
    const auto add_unknown = [&] {
      if (parts_.unknown >= 0 && !(unknown_before && parts_.fuse_unknown)) ids.push_back(parts_.unknown);
      unknown_before = true;
    };
    const auto add = [&](int id) {
      ids.push_back(id);
      unknown_before = false;
    };
    while (!word.empty()) {
      const std::size_t length = parts_.byte_level ? 1 : first_character(word).length;
      const std::string_view character = word.substr(0, length);
      word.remove_prefix(length);
      const int id = parts_.byte_level ? byte_ids_[static_cast<unsigned char>(character[0])] : find(character);
      if (id >= 0) {
        add(id);
      } else if (parts_.byte_fallback) {
        for (const char byte : character) add(byte_ids_[static_cast<unsigned char>(byte)]);
      } else {
        add_unknown();
      }
    }
    return ids;
  }

  [[nodiscard]] int whole_word(std::string_view word) const {
    if (!parts_.byte_level) return find(word);
    std::string written;
    for (const char byte : word) written += byte_alphabet()[static_cast<unsigned char>(byte)];
    return find(written);
  }

  [[nodiscard]] std::vector<int> encode_word(std::string_view word) const {
    if (parts_.ignore_merges) {
      if (const int id = whole_word(word); id >= 0) return {id};
    }
    std::vector<int> ids = first_ids(word);
    const int count = static_cast<int>(ids.size());
    std::vector<Symbol> symbols(ids.size());
    std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates;
    const auto at = [&](int i) -> Symbol& { return symbols[static_cast<std::size_t>(i)]; };
    const auto consider = [&](int left) {
      if (left < 0 || at(left).next < 0) return;
      if (const Merge* merge = parts_.merges.find(at(left).id, at(at(left).next).id)) {
        candidates.push({merge->rank, left, merge->id});
      }
    };
    for (int i = 0; i < count; ++i) at(i) = {ids[static_cast<std::size_t>(i)], i - 1, i + 1 < count ? i + 1 : -1};
    for (int i = 0; i < count; ++i) consider(i);

    constexpr int gone = -1;
    while (!candidates.empty()) {
      const Candidate best = candidates.top();
      candidates.pop();
      Symbol& left = at(best.left);
      if (left.id == gone || left.next < 0) continue;
      Symbol& right = at(left.next);
      const Merge* merge = parts_.merges.find(left.id, right.id);
      if (merge == nullptr || merge->id != best.id) continue;  // one of the two has changed since
      left.id = best.id;
      left.next = right.next;
      right.id = gone;
      if (left.next >= 0) at(left.next).previous = best.left;
      consider(left.previous);
      consider(best.left);
    }
    ids.clear();
    for (int i = count > 0 ? 0 : -1; i >= 0; i = at(i).next) ids.push_back(at(i).id);
    return ids;
  }

  BpeParts parts_;
  std::array<int, 256> byte_ids_{};
};

// ---- tokenizer.json ----

std::string type_of(const json& object, const std::string& where) {
  return json_field<std::string>(object, "type", where);
}

/// Calls f with every element of a Sequence, or with the object itself; with nothing for null.
template <class F>
void for_each_step(const json& object, const char* list, const std::string& where, F f) {
  if (object.is_null()) return;
  if (type_of(object, where) != "Sequence") return f(object);
  for (const json& step : json_member(object, list, JsonType::array, where)) for_each_step(step, list, where, f);
}

/// A pattern that is {"String": literal}.
std::string literal(const json& object, const std::string& where) {
  return json_field<std::string>(json_member(object, "pattern", JsonType::object, where), "String",
                                 where + ": 'pattern'");
}

Replace read_replace(const json& step, const std::string& where) {
  Replace replace{literal(step, where), json_field<std::string>(step, "content", where)};
  if (replace.from.empty()) throw InputError("{}: Replace has an empty pattern", where);
  return replace;
}

std::vector<NormalizerStep> read_normalizer(const json& normalizer, const std::string& where) {
  std::vector<NormalizerStep> steps;
  for_each_step(normalizer, "normalizers", where, [&](const json& step) {
    const std::string type = type_of(step, where);
    if (type == "Prepend") {
      steps.emplace_back(Prepend{json_field<std::string>(step, "prepend", where)});
    } else if (type == "Replace") {
      steps.emplace_back(read_replace(step, where));
    } else if (type == "NFC" || type == "NFD") {
      steps.emplace_back(type == "NFC" ? NormalForm::nfc : NormalForm::nfd);
    } else if (type == "NFKC" || type == "NFKD") {
      steps.emplace_back(type == "NFKC" ? NormalForm::nfkc : NormalForm::nfkd);
    } else {
      throw InputError("{}: the type '{}' is not supported (Prepend, Replace, NFC, NFD, NFKC, NFKD, Sequence are)",
                       where, type);
    }
  });
  return steps;
}

Split read_split(const json& step, const std::string& where) {
  const json& pattern = json_member(step, "pattern", JsonType::object, where);
  const std::string expression = pattern.contains("Regex") ? json_field<std::string>(pattern, "Regex", where)
                                                           : "\\Q" + literal(step, where) + "\\E";
  const auto behavior = json_field<std::string>(step, "behavior", where);
  const bool invert = json_field_or(step, "invert", where, false);
  if (behavior == "Isolated") return {Regex(expression, where)};
  if (behavior == "Removed") return {Regex(expression, where), invert, !invert};
  throw InputError("{}: Split has the behavior '{}', supported are Isolated and Removed", where, behavior);
}

void add_metaspace(std::vector<PreTokenizerStep>& steps, const json& step, const std::string& where) {
  const auto mark = json_field<std::string>(step, "replacement", where);
  if (mark != space_mark) {
    throw InputError("{}: Metaspace replaces by '{}', supported is '{}'", where, mark, space_mark);
  }
  const bool old_prefix = json_field_or(step, "add_prefix_space", where, true);
  const auto scheme = json_field_or<std::string>(step, "prepend_scheme", where, old_prefix ? "always" : "never");
  steps.emplace_back(Replace{" ", mark});
  if (scheme == "always" || scheme == "first") {
    steps.emplace_back(Prepend{.text = mark, .unless_there = true, .first_only = scheme == "first"});
  } else if (scheme != "never") {
    throw InputError("{}: Metaspace has the prepend_scheme '{}', expected always, first or never", where, scheme);
  }
  if (json_field_or(step, "split", where, true)) {
    steps.emplace_back(Split{Regex(std::format("{0}[^{0}]*|[^{0}]+", mark), where)});
  }
}

void read_pre_tokenizer(const json& pre_tokenizer, const std::string& where, BpeParts& parts) {
  std::vector<PreTokenizerStep>& steps = parts.pre_tokenizer;
  for_each_step(pre_tokenizer, "pretokenizers", where, [&](const json& step) {
    const std::string type = type_of(step, where);
    if (parts.byte_level) throw InputError("{}: {} after ByteLevel is not supported", where, type);
    if (type == "ByteLevel") {
      parts.byte_level = true;
      if (json_field_or(step, "add_prefix_space", where, true)) {
        steps.emplace_back(Prepend{.text = " ", .unless_there = true});
      }
      if (json_field_or(step, "use_regex", where, true)) {
        steps.emplace_back(Split{Regex(std::string(gpt2_pattern), where)});
      }
    } else if (type == "Split") {
      steps.emplace_back(read_split(step, where));
    } else if (type == "Digits") {
      steps.emplace_back(
          Split{Regex(json_field_or(step, "individual_digits", where, false) ? R"(\p{N})" : R"(\p{N}+)", where)});
    } else if (type == "Metaspace") {
      add_metaspace(steps, step, where);
    } else {
      throw InputError("{}: the type '{}' is not supported (ByteLevel, Split, Digits, Metaspace, Sequence are)", where,
                       type);
    }
  });
}

Decoding read_decoder(const json& decoder, const std::string& where) {
  Decoding decoding;
  bool any = false;
  bool fused = false;
  for_each_step(decoder, "decoders", where, [&](const json& step) {
    const std::string type = type_of(step, where);
    any = true;
    if (decoding.byte_level) throw InputError("{}: {} after ByteLevel is not supported", where, type);
    if (type == "ByteLevel" && !decoding.byte_fallback && !fused) {
      decoding.byte_level = true;
    } else if (type == "Replace" && !decoding.byte_fallback && !fused) {
      decoding.replace.push_back(read_replace(step, where));
    } else if (type == "ByteFallback" && !fused) {
      decoding.byte_fallback = true;
    } else if (type == "Fuse") {
      fused = true;
    } else if (type == "Strip" && fused && decoding.strip.empty() && json_field<int>(step, "stop", where) == 0) {
      decoding.strip = json_field<std::string>(step, "content", where);
      decoding.strip_count = json_field<int>(step, "start", where);
      if (decoding.strip.empty()) throw InputError("{}: Strip has an empty content", where);
    } else {
      throw InputError(
          "{}: the type '{}' is not supported here (ByteLevel is, and the sequence Replace, ByteFallback, "
          "Fuse, Strip at the start)",
          where, type);
    }
  });
  if (!any) throw InputError("{}: found null, expected ByteLevel or a Sequence", where);
  return decoding;
}

void read_post_processor(const json& post_processor, const std::string& where, TokenizerParts& parts) {
  for_each_step(post_processor, "processors", where, [&](const json& step) {
    const std::string type = type_of(step, where);
    if (type == "ByteLevel") return;  // changes offsets only
    if (type != "TemplateProcessing") {
      throw InputError("{}: the type '{}' is not supported (TemplateProcessing, ByteLevel, Sequence are)", where, type);
    }
    const json& special = json_member(step, "special_tokens", JsonType::object, where);
    bool after = false;
    for (const json& item : json_member(step, "single", JsonType::array, where)) {
      if (item.contains("Sequence")) {
        after = true;
        continue;
      }
      const auto name =
          json_field<std::string>(json_member(item, "SpecialToken", JsonType::object, where), "id", where);
      const json& token = json_member(special, name.c_str(), JsonType::object, where);
      for (const json& id : json_member(token, "ids", JsonType::array, where)) {
        (after ? parts.suffix : parts.prefix).push_back(json_value<int>(id, where));
      }
    }
  });
}

std::vector<AddedToken> read_added_tokens(const json& root, const std::string& where) {
  std::vector<AddedToken> tokens;
  if (!root.contains("added_tokens")) return tokens;
  for (const json& entry : json_member(root, "added_tokens", JsonType::array, where)) {
    tokens.push_back(read_added_token(entry, json_field<int>(entry, "id", where), where));
  }
  return tokens;
}

// ---- vocabulary and merges ----

using PiecePair = std::pair<std::string, std::string>;

PiecePair split_merge(const std::string& merge, const std::string& where) {
  const std::size_t space = merge.find(' ');
  if (space == std::string::npos || merge.find(' ', space + 1) != std::string::npos) {
    throw InputError("{}: found the merge '{}', expected two pieces with a space between", where, merge);
  }
  return {merge.substr(0, space), merge.substr(space + 1)};
}

/// Before tokenizers 0.20 a merge was "left right", since then it is ["left", "right"].
PiecePair read_merge(const json& merge, const std::string& where) {
  if (merge.is_string()) return split_merge(merge.get<std::string>(), where);
  if (merge.is_array() && merge.size() == 2) {
    return {json_value<std::string>(merge[0], where), json_value<std::string>(merge[1], where)};
  }
  throw InputError("{}: found a merge that is {}, expected a string or an array of two", where, merge.type_name());
}

void set_merges(BpeParts& bpe, const std::vector<PiecePair>& merges, const std::string& where) {
  bpe.merges = MergeTable(merges.size());
  int rank = 0;
  for (const auto& [left, right] : merges) {
    const auto id = [&](const std::string& piece) {
      const auto found = bpe.vocab.find(piece);
      if (found != bpe.vocab.end()) return found->second;
      throw InputError("{}: merge {} of '{}' and '{}' needs the piece '{}', which the vocabulary does not have", where,
                       rank, left, right, piece);
    };
    bpe.merges.insert(id(left), id(right), {rank, id(left + right)});
    ++rank;
  }
}

/// SentencePiece's rule as merges: of all pairs that make a piece, the piece with the highest score comes first.
void set_merges_by_score(BpeParts& bpe, const std::vector<double>& scores) {
  struct Pair {
    int left;
    int right;
    int made;
  };
  std::vector<Pair> pairs;
  for (const auto& [piece, id] : bpe.vocab) {
    for (std::size_t cut = first_character(piece).length; cut < piece.size();) {
      const auto left = bpe.vocab.find(std::string_view(piece).substr(0, cut));
      const auto right = bpe.vocab.find(std::string_view(piece).substr(cut));
      if (left != bpe.vocab.end() && right != bpe.vocab.end()) pairs.push_back({left->second, right->second, id});
      cut += first_character(std::string_view(piece).substr(cut)).length;
    }
  }
  const auto score = [&](int id) { return scores[static_cast<std::size_t>(id)]; };
  std::vector<int> ranks(scores.size());  // equal scores have equal ranks: the leftmost pair comes first
  std::vector<int> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, std::ranges::greater{}, score);
  for (std::size_t i = 1; i < order.size(); ++i) {
    const auto rank = [&](std::size_t place) -> int& { return ranks[static_cast<std::size_t>(order[place])]; };
    rank(i) = rank(i - 1) + (score(order[i]) < score(order[i - 1]) ? 1 : 0);
  }
  bpe.merges = MergeTable(pairs.size());
  for (const auto& [left, right, made] : pairs) {
    bpe.merges.insert(left, right, {ranks[static_cast<std::size_t>(made)], made});
  }
}

// ---- GGUF ----

/// What tokenizer.ggml.pre names.
struct GgufPreTokenizer {
  std::string_view name;
  std::string_view pattern;
  bool single_digits = false;
  bool ignore_merges = false;
  bool adds_bos = false;  // unless the file says otherwise
  bool nfc = false;
};
constexpr std::array gguf_pre_tokenizers = {
    GgufPreTokenizer{"default", gpt2_pattern},
    GgufPreTokenizer{"gpt-2", gpt2_pattern},
    GgufPreTokenizer{.name = "llama-bpe", .pattern = llama3_pattern, .ignore_merges = true, .adds_bos = true},
    GgufPreTokenizer{.name = "qwen2", .pattern = qwen2_pattern, .nfc = true},
    GgufPreTokenizer{.name = "smollm", .pattern = gpt2_pattern, .single_digits = true}};

const GgufPreTokenizer& gguf_pre_tokenizer(const Gguf& gguf) {
  const auto name = gguf.get_or<std::string>("tokenizer.ggml.pre", "default");
  const auto* const found = std::ranges::find(gguf_pre_tokenizers, name, &GgufPreTokenizer::name);
  if (found != gguf_pre_tokenizers.end()) return *found;
  throw InputError("{}: tokenizer.ggml.pre is '{}', supported are default, gpt-2, llama-bpe, qwen2 and smollm",
                   gguf.path, name);
}

TokenizerParts read_gguf_byte_level(const Gguf& gguf, const GgufPreTokenizer& pre, ScoredVocabulary vocabulary) {
  TokenizerParts parts;
  BpeParts bpe;
  for (std::size_t i = 0; i < vocabulary.pieces.size(); ++i) {
    const int id = static_cast<int>(i);
    const PieceKind kind = vocabulary.kinds[i];
    if (kind == PieceKind::control || kind == PieceKind::unknown || kind == PieceKind::user_defined) {
      parts.added.push_back({.id = id, .content = vocabulary.pieces[i], .special = kind != PieceKind::user_defined});
    } else {
      bpe.vocab.emplace(vocabulary.pieces[i], id);
    }
  }
  std::vector<PiecePair> merges;
  const std::string where = gguf.path + ": tokenizer.ggml.merges";
  for (const std::string& merge : gguf.get<std::vector<std::string>>("tokenizer.ggml.merges")) {
    merges.push_back(split_merge(merge, where));
  }
  set_merges(bpe, merges, where);
  bpe.byte_level = true;
  bpe.ignore_merges = pre.ignore_merges;
  if (pre.nfc) parts.normalizer.emplace_back(NormalForm::nfc);
  if (pre.single_digits) bpe.pre_tokenizer.emplace_back(Split{Regex(R"(\p{N})", gguf.path)});
  bpe.pre_tokenizer.emplace_back(Split{Regex(std::string(pre.pattern), gguf.path)});
  parts.decoding.byte_level = true;
  parts.pieces = std::move(vocabulary.pieces);
  parts.model = std::make_unique<BpeModel>(std::move(bpe));
  return parts;
}

}  // namespace

int gguf_token_id(const Gguf& gguf, std::string_view key, std::size_t count) {
  const auto id = gguf.get_or<std::int64_t>(key, -1);
  if (id < -1 || id >= static_cast<std::int64_t>(count)) {
    throw InputError("{}: {} is {}, expected an id below {}", gguf.path, key, id, count);
  }
  return static_cast<int>(id);
}

TokenizerParts read_tokenizer_json(const std::filesystem::path& file) {
  const std::string path = file.string();
  const json root = read_json(file);
  const json& model = json_member(root, "model", JsonType::object, path);
  const std::string in_model = path + ": model";
  // Old files name no type.
  const auto type = json_field_or<std::string>(model, "type", in_model, model.contains("merges") ? "BPE" : "none");
  if (type != "BPE") throw InputError("{}: the type '{}' is not supported (BPE is)", in_model, type);
  for (const char* const unsupported : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const auto value = json_field_or<std::string>(model, unsupported, in_model, "");
    if (!value.empty()) throw InputError("{}: {} is '{}', supported is none", in_model, unsupported, value);
  }

  TokenizerParts parts;
  BpeParts bpe;
  parts.added = read_added_tokens(root, path + ": added_tokens");
  const json& vocab = json_member(model, "vocab", JsonType::object, in_model);
  bpe.vocab.reserve(vocab.size());
  for (const auto& [piece, value] : vocab.items()) {
    const int id = json_value<int>(value, in_model + ": vocab: '" + piece + "'");
    if (id >= max_ids) throw InputError("{}: '{}' has the id {}, expected one below {}", in_model, piece, id, max_ids);
    const auto index = static_cast<std::size_t>(id);
    if (index >= parts.pieces.size()) parts.pieces.resize(index + 1);
    parts.pieces[index] = piece;
    bpe.vocab.emplace(piece, id);
  }
  std::vector<PiecePair> merges;
  for (const json& merge : json_member(model, "merges", JsonType::array, in_model)) {
    merges.push_back(read_merge(merge, in_model + ": merges"));
  }
  set_merges(bpe, merges, in_model);

  if (const auto unknown = json_field_or<std::string>(model, "unk_token", in_model, ""); !unknown.empty()) {
    const auto found = bpe.vocab.find(unknown);
    if (found == bpe.vocab.end()) throw InputError("{}: unk_token '{}' is not in the vocabulary", in_model, unknown);
    bpe.unknown = found->second;
  }
  bpe.fuse_unknown = json_field_or(model, "fuse_unk", in_model, false);
  bpe.byte_fallback = json_field_or(model, "byte_fallback", in_model, false);
  bpe.ignore_merges = json_field_or(model, "ignore_merges", in_model, false);
  const auto part = [&](const char* key) { return root.value(key, json()); };
  read_pre_tokenizer(part("pre_tokenizer"), path + ": pre_tokenizer", bpe);
  parts.normalizer = read_normalizer(part("normalizer"), path + ": normalizer");
  parts.decoding = read_decoder(part("decoder"), path + ": decoder");
  read_post_processor(part("post_processor"), path + ": post_processor", parts);
  for (const std::vector<int>* ids : {&parts.prefix, &parts.suffix}) {
    for (const int id : *ids) {
      const bool known = static_cast<std::size_t>(id) < parts.pieces.size() ||
                         std::ranges::find(parts.added, id, &AddedToken::id) != parts.added.end();
      if (!known) throw InputError("{}: post_processor: adds the id {}, which no token has", path, id);
    }
  }
  parts.model = std::make_unique<BpeModel>(std::move(bpe));
  return parts;
}

TokenizerParts make_scored_bpe(ScoredVocabulary vocabulary) {
  TokenizerParts parts;
  BpeParts bpe;
  bpe.fuse_unknown = true;
  bpe.byte_fallback = true;
  for (std::size_t i = 0; i < vocabulary.pieces.size(); ++i) {
    const int id = static_cast<int>(i);
    const std::string& piece = vocabulary.pieces[i];
    if (std::isnan(vocabulary.scores[i])) {
      throw InputError("{}: the score of piece {} is not a number", vocabulary.path, i);
    }
    switch (vocabulary.kinds[i]) {
      case PieceKind::unknown:
        bpe.unknown = id;
        [[fallthrough]];
      case PieceKind::control:
        parts.added.push_back({.id = id, .content = piece, .special = true});
        break;
      case PieceKind::user_defined:
        parts.added.push_back({.id = id, .content = piece, .normalized = !vocabulary.space_prefix});
        break;
      case PieceKind::normal:
      case PieceKind::byte:
        if (!piece.empty()) bpe.vocab.emplace(piece, id);
        break;
      case PieceKind::unused:
        break;
    }
  }
  set_merges_by_score(bpe, vocabulary.scores);
  if (vocabulary.space_prefix) parts.normalizer.emplace_back(Prepend{std::string(space_mark)});
  parts.normalizer.emplace_back(Replace{" ", std::string(space_mark)});
  parts.decoding = sentencepiece_decoding(vocabulary.space_prefix);
  parts.pieces = std::move(vocabulary.pieces);
  parts.model = std::make_unique<BpeModel>(std::move(bpe));
  return parts;
}

TokenizerParts read_gguf_tokenizer(const Gguf& gguf) {
  const auto model = gguf.get<std::string>("tokenizer.ggml.model");
  if (model != "gpt2" && model != "llama") {
    throw InputError("{}: tokenizer.ggml.model is '{}', supported are gpt2 and llama", gguf.path, model);
  }
  ScoredVocabulary vocabulary;
  vocabulary.path = gguf.path;
  vocabulary.pieces = gguf.get<std::vector<std::string>>("tokenizer.ggml.tokens");
  const std::size_t count = vocabulary.pieces.size();
  for (std::size_t i = 0; i < count; ++i) {
    if (find_invalid_utf8(vocabulary.pieces[i])) throw InputError("{}: piece {} is not UTF-8", gguf.path, i);
  }
  const auto check_count = [&](std::string_view key, std::size_t found) {
    if (found != count) throw InputError("{}: {} has {} elements, the vocabulary {}", gguf.path, key, found, count);
  };
  const std::vector<std::int64_t> all_normal(count, static_cast<std::int64_t>(PieceKind::normal));
  for (const std::int64_t kind : gguf.get_or("tokenizer.ggml.token_type", all_normal)) {
    if (kind < 1 || kind > 6) throw InputError("{}: found the token type {}, expected 1 to 6", gguf.path, kind);
    vocabulary.kinds.push_back(static_cast<PieceKind>(kind));
  }
  check_count("tokenizer.ggml.token_type", vocabulary.kinds.size());

  TokenizerParts parts;
  bool adds_bos = true;
  if (model == "llama") {
    vocabulary.scores = gguf.get<std::vector<double>>("tokenizer.ggml.scores");
    check_count("tokenizer.ggml.scores", vocabulary.scores.size());
    vocabulary.space_prefix = gguf.get_or("tokenizer.ggml.add_space_prefix", true);
    parts = make_scored_bpe(std::move(vocabulary));
  } else {
    const GgufPreTokenizer& pre = gguf_pre_tokenizer(gguf);
    adds_bos = pre.adds_bos;
    parts = read_gguf_byte_level(gguf, pre, std::move(vocabulary));
  }
  const int bos = gguf_token_id(gguf, "tokenizer.ggml.bos_token_id", count);
  const int eos = gguf_token_id(gguf, "tokenizer.ggml.eos_token_id", count);
  if (bos >= 0 && gguf.get_or("tokenizer.ggml.add_bos_token", adds_bos)) parts.prefix = {bos};
  if (eos >= 0 && gguf.get_or("tokenizer.ggml.add_eos_token", false)) parts.suffix = {eos};
  return parts;
}

}  // namespace grist::io
