// The patterns are those of the models' own tokenizer.json; which name means which is llama.cpp's
// (src/llama-vocab.cpp).
#include <grist/text/gguf_pre_tokenizer.hpp>

#include <grist/core/errors.hpp>
#include <grist/text/bpe.hpp>

#include <algorithm>
#include <array>
#include <map>

namespace grist::text {
namespace {

using View = std::string_view;

#define GRIST_CONTRACTION R"((?i:'s|'t|'re|'ve|'m|'ll|'d))"
#define GRIST_WORD_TAIL R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"
#define GRIST_CASED_WORD R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
#define GRIST_UPPER_WORD R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
#define GRIST_SLASH_TAIL R"(| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"

constexpr View one_digit = R"(\p{N})";
constexpr View three_digits = "[0-9][0-9][0-9]";

constexpr std::array<View, 4> unnamed = {R"([\p{P}\$\+<=>\^~\|]+)", gpt2_pattern, R"(\p{N}+)", three_digits};
constexpr std::array<View, 1> gpt2 = {gpt2_pattern};
constexpr std::array<View, 2> digits_gpt2 = {one_digit, gpt2_pattern};
constexpr std::array<View, 1> llama3 = {GRIST_CONTRACTION R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})" GRIST_WORD_TAIL};
constexpr std::array<View, 1> qwen2 = {GRIST_CONTRACTION R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})" GRIST_WORD_TAIL};
constexpr std::array<View, 1> qwen35 = {
    GRIST_CONTRACTION
    R"(|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};
constexpr std::array<View, 2> minicpm5 = {R"(\p{N}{1,3})",
                                          GRIST_CONTRACTION R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+)" GRIST_WORD_TAIL};
constexpr std::array<View, 1> tekken = {GRIST_CASED_WORD GRIST_UPPER_WORD R"(|\p{N})" GRIST_SLASH_TAIL};
constexpr std::array<View, 1> gpt4o = {GRIST_CASED_WORD GRIST_CONTRACTION "?" GRIST_UPPER_WORD GRIST_CONTRACTION
                                                                          R"(?|\p{N}{1,3})" GRIST_SLASH_TAIL};
constexpr std::array<View, 2> tiny_aya = {R"(\d{1,3}(?=(?:\d{3})*\b))", gpt4o[0]};
constexpr std::array<View, 6> deepseek_llm = {
    "[\r\n]",
    R"(\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚ)"
    R"(Ḁ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\x{1F7D}ᾀ-ᾴᾶ-ᾼ\x{1FBE}ῂ-ῄῆ-ῌ)"
    R"(ῐ-\x{1FD3}ῖ-\x{1FDB}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\x{2126}ℨ\x{212A}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎ)"
    R"(ↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+)",
    R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)",
    R"(\s+$)",
    R"([一-龥ࠀ-一가-퟿]+)",
    R"(\p{N}+)"};
constexpr std::array<View, 5> deepseek_coder = {"[\r\n]", R"(\s?\p{L}+)", R"(\s?\p{P}+)", R"([一-龥ࠀ-一가-퟿]+)",
                                                one_digit};
constexpr std::array<View, 3> deepseek_v3 = {
    R"(\p{N}{1,3})", R"([一-龥぀-ゟ゠-ヿ]+)",
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)"
    R"(| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};
constexpr std::array<View, 3> falcon = {R"([\p{P}\$\+<=>\^~\|`]+)", gpt2_pattern, three_digits};
constexpr std::array<View, 1> bloom = {R"( ?[^(\s|.,!?…。，、।۔،)]+)"};
constexpr std::array<View, 2> viking = {bloom[0], one_digit};
constexpr std::array<View, 2> superbpe = {R"(\p{N}+)", R"((?=(\d{3})+(?!\d)))"};
constexpr std::array<View, 1> bailing = {
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)"};
constexpr std::array<View, 1> seed_coder = {
    GRIST_CONTRACTION R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)"};
constexpr std::array<View, 1> exaone_moe = {
    GRIST_CONTRACTION
    R"(|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+)"};

const std::map<View, GgufPreTokenizer>& pre_tokenizers() {
  static const std::map<View, GgufPreTokenizer> table = [] {
    std::map<View, GgufPreTokenizer> names;
    const auto add = [&](const GgufPreTokenizer& pre, std::initializer_list<View> same) {
      for (const View name : same) names.emplace(name, pre);
    };
    add({unnamed}, {"", "default"});
    add({gpt2}, {"gpt-2", "phi-2", "jina-es", "jina-de", "gigachat", "jina-v2-es", "jina-v2-de", "a.x-4.0", "mellum",
                 "modern-bert", "exaone4", "mpt", "olmo", "jais", "trillion", "granite-docling"});
    add({digits_gpt2}, {"starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"});
    add({.patterns = llama3, .ignore_merges = true, .adds_bos = true},
        {"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"});
    add({llama3}, {"dbrx", "smaug-bpe", "glm4", "chatglm-bpe"});
    add({.patterns = qwen2, .nfc = true}, {"qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez"});
    add({qwen2}, {"stablelm2", "hunyuan", "solar-open", "grok-2"});
    add({qwen35}, {"qwen35"});
    add({.patterns = minicpm5, .ignore_merges = true}, {"minicpm5"});
    add({.patterns = tekken, .ignore_merges = true, .adds_bos = true}, {"tekken"});
    add({gpt4o}, {"gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"});
    add({tiny_aya}, {"tiny_aya", "cohere2moe"});
    add({deepseek_llm}, {"deepseek-llm"});
    add({deepseek_coder}, {"deepseek-coder"});
    add({deepseek_v3}, {"deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"});
    add({falcon}, {"falcon"});
    add({bloom}, {"bloom", "poro-chat", "gpt3-finnish"});
    add({viking}, {"viking"});
    add({superbpe}, {"superbpe"});
    add({bailing}, {"bailingmoe", "bailingmoe2", "llada-moe"});
    add({seed_coder}, {"seed-coder"});
    add({exaone_moe}, {"exaone-moe"});
    return names;
  }();
  return table;
}

}  // namespace

const GgufPreTokenizer& gguf_pre_tokenizer(std::string_view name, const std::string& path) {
  const auto found = pre_tokenizers().find(name);
  if (found != pre_tokenizers().end()) return found->second;
  std::string names;
  for (const auto& [known, unused] : pre_tokenizers()) {
    if (!known.empty()) names += (names.empty() ? "" : ", ") + std::string(known);
  }
  throw InputError("{}: tokenizer.ggml.pre is '{}', supported are {}", path, name, names);
}

std::string_view gguf_pre_name(std::span<const std::string> patterns, bool ignore_merges, bool nfc) {
  // Where several mean the same, the one of the best known model.
  constexpr std::array<View, 9> names = {"llama-bpe", "qwen2",  "smollm",    "gpt-2", "tekken",
                                         "gpt-4o",    "qwen35", "stablelm2", "dbrx"};
  for (const View name : names) {
    const GgufPreTokenizer& pre = pre_tokenizers().at(name);
    if (std::ranges::equal(pre.patterns, patterns) && pre.ignore_merges == ignore_merges && pre.nfc == nfc) return name;
  }
  return {};
}

std::span<const std::string_view> gpt2_patterns() { return gpt2; }
std::span<const std::string_view> qwen2_patterns() { return qwen2; }

}  // namespace grist::text
