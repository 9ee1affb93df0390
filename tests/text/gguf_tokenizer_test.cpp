// Tokenizers of GGUF files: words are cut, turns end and notes are given as in llama.cpp.
#include "gguf_file.hpp"

#include <grist/core/errors.hpp>
#include <grist/text/tokenizer.hpp>
#include <support/refuses.hpp>

#include <nlohmann/json.hpp>

namespace grist::text {
namespace {

using nlohmann::json;
using test::contents_of;
using test::data_file;
using test::Metadata;
using test::Refuses;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using Texts = std::vector<std::string>;
using Numbers = std::vector<std::int64_t>;

class GgufTokenizer : public testing::Test {
protected:
  static Metadata metadata_of(std::string_view name) {
    Metadata metadata;
    for (auto& [key, value] : io::open_gguf(data_file(name)).metadata) {
      if (key.starts_with("tokenizer.") || key == "general.architecture") metadata.emplace(key, value);
    }
    return metadata;
  }

  [[nodiscard]] std::unique_ptr<Tokenizer> load(const Metadata& metadata) const {
    return load_tokenizer(folder.write("model.gguf", test::gguf_bytes(metadata)));
  }

  /// A byte-level vocabulary of a few pieces; control tokens at the end.
  static Metadata small() {
    Texts tokens = {"a", "b", "c", "ab", "abc", "Ġ"};
    Numbers kinds(tokens.size(), 1);
    return {{"general.architecture", std::string("llama")}, {"tokenizer.ggml.model", std::string("gpt2")},
            {"tokenizer.ggml.pre", std::string("gpt-2")},   {"tokenizer.ggml.tokens", tokens},
            {"tokenizer.ggml.token_type", kinds},           {"tokenizer.ggml.merges", Texts{"a b", "ab c"}}};
  }
  static int add(Metadata& metadata, const std::string& token, std::int64_t kind) {
    auto& tokens = std::get<Texts>(metadata.at("tokenizer.ggml.tokens"));
    tokens.push_back(token);
    std::get<Numbers>(metadata.at("tokenizer.ggml.token_type")).push_back(kind);
    return static_cast<int>(tokens.size()) - 1;
  }

  test::TemporaryFolder folder;
};

TEST_F(GgufTokenizer, CutsWordsAsLlamaCppDoesForEveryName) {
  const json golden = json::parse(contents_of(data_file("gguf/pre.json")));
  const Texts texts = golden.at("texts");
  ASSERT_GT(golden.at("ids").size(), 40U);
  Metadata metadata = metadata_of("gguf/llama31.gguf");
  for (const auto& [name, ids] : golden.at("ids").items()) {
    metadata.erase("tokenizer.ggml.pre");
    if (!name.empty()) metadata.emplace("tokenizer.ggml.pre", name);
    const auto tokenizer = load(metadata);
    for (std::size_t i = 0; i < texts.size(); ++i) {
      EXPECT_EQ(tokenizer->encode(texts[i], false), ids.at(i).get<std::vector<int>>())
          << name << ": " << json(texts[i]);
    }
  }
}

TEST_F(GgufTokenizer, SaysThatNoNameTellsHowWordsAreCut) {
  Metadata metadata = small();
  EXPECT_THAT(load(metadata)->notes, IsEmpty());
  metadata.erase("tokenizer.ggml.pre");
  EXPECT_THAT(load(metadata)->notes, ElementsAre(HasSubstr("tokenizer.ggml.pre")));
}

TEST_F(GgufTokenizer, RefusesWhatItDoesNotKnowByName) {
  Metadata metadata = small();
  metadata.insert_or_assign("tokenizer.ggml.pre", std::string("kimi-k2"));
  EXPECT_THAT([&] { (void)load(metadata); }, Refuses({"'kimi-k2'", "llama-bpe"}));
  metadata.insert_or_assign("tokenizer.ggml.model", std::string("rwkv"));
  EXPECT_THAT([&] { (void)load(metadata); }, Refuses({"'rwkv'", "gpt2"}));
}

TEST_F(GgufTokenizer, AMergeMayMakeAUserDefinedToken) {
  Metadata metadata = small();
  std::get<Numbers>(metadata.at("tokenizer.ggml.token_type"))[4] = 4;  // abc
  const auto tokenizer = load(metadata);
  EXPECT_THAT(tokenizer->encode("abc ab", false), ElementsAre(4, 5, 3));
}

TEST_F(GgufTokenizer, FindsTheEndOfATurnByItsText) {
  Metadata metadata = small();
  const int end_of_text = add(metadata, "<|endoftext|>", 3);
  const int end_of_turn = add(metadata, "<|im_end|>", 1);  // not even marked as a control token
  add(metadata, "<|im_start|>", 3);
  metadata.emplace("tokenizer.ggml.eos_token_id", std::int64_t{end_of_text});
  const auto tokenizer = load(metadata);
  EXPECT_THAT(tokenizer->eos, ElementsAre(end_of_text));
  EXPECT_THAT(tokenizer->end_tokens(), testing::UnorderedElementsAre(end_of_text, end_of_turn));
  EXPECT_TRUE(tokenizer->is_special(end_of_turn));
  EXPECT_EQ(tokenizer->special_text(end_of_turn), "<|im_end|>");
  EXPECT_EQ(tokenizer->special_text(0), "");
}

TEST_F(GgufTokenizer, AnEndInsideOfAnAnswerIsNone) {
  Metadata metadata = small();
  const int message = add(metadata, "<|end|>", 3);
  const int answer = add(metadata, "<|return|>", 3);
  const int call = add(metadata, "<|call|>", 3);
  EXPECT_THAT(load(metadata)->end_tokens(), testing::UnorderedElementsAre(answer, call));
  EXPECT_THAT(load(metadata)->end_tokens(), Not(Contains(message)));
}

TEST_F(GgufTokenizer, AnEndOfTextThatIsHtmlIsNone) {  // as in Gemma's vocabulary
  Metadata metadata = small();
  const int html = add(metadata, "</s>", 4);
  EXPECT_THAT(load(metadata)->end_tokens(), Not(Contains(html)));
  std::get<Numbers>(metadata.at("tokenizer.ggml.token_type")).back() = 3;
  EXPECT_THAT(load(metadata)->end_tokens(), Contains(html));
}

TEST_F(GgufTokenizer, SpecialTokensOfPhi3TakeTheSpaceAfterThem) {
  Metadata metadata = small();
  const int end = add(metadata, "<|end|>", 3);
  EXPECT_THAT(load(metadata)->encode("<|end|> a", false), ElementsAre(end, 5, 0));
  metadata.emplace("general.name", std::string("Phi-3 Mini"));
  EXPECT_THAT(load(metadata)->encode("<|end|> a", false), ElementsAre(end, 0));
}

TEST_F(GgufTokenizer, KnowsAPromptThatBeginsWithBosTwice) {
  Metadata metadata = small();
  const int bos = add(metadata, "<s>", 3);
  metadata.emplace("tokenizer.ggml.bos_token_id", std::int64_t{bos});
  metadata.emplace("tokenizer.ggml.add_bos_token", true);
  const auto tokenizer = load(metadata);
  EXPECT_TRUE(tokenizer->doubles_bos(tokenizer->encode("<s>ab", true)));
  EXPECT_FALSE(tokenizer->doubles_bos(tokenizer->encode("<s>ab", false)));
  EXPECT_FALSE(tokenizer->doubles_bos(tokenizer->encode("ab", true)));
}

TEST_F(GgufTokenizer, SentencePieceWithoutKeysHasItsOwnBosAndEos) {  // as in llama.cpp
  Metadata metadata = metadata_of("gguf/llama2.gguf");
  const auto named = load(metadata)->encode("a", true);
  for (const auto* key : {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"}) metadata.erase(key);
  const auto tokenizer = load(metadata);
  EXPECT_EQ(tokenizer->encode("a", true), named);
  EXPECT_EQ(named.front(), 1);
  EXPECT_THAT(tokenizer->eos, ElementsAre(2));
}

TEST_F(GgufTokenizer, SentencePieceWithoutASpaceInFrontKeepsUserDefinedTokens) {  // as Gemma 3's
  Texts tokens = {"<pad>", "<eos>", "<bos>", "<unk>", "\n\n", "▁▁", "▁", "a", "b", "▁a", "ab", "▁ab"};
  Numbers kinds = {3, 3, 3, 2, 4, 4, 1, 1, 1, 1, 1, 1};
  std::vector<double> scores = {0, 0, 0, 0, 0, 0, -8, -7, -7, -2, -3, -1};
  for (int byte = 0; byte < 256; ++byte) {
    tokens.push_back(std::format("<0x{:02X}>", byte));
    kinds.push_back(6);
    scores.push_back(0);
  }
  const Metadata metadata = {{"general.architecture", std::string("gemma3")},
                             {"tokenizer.ggml.model", std::string("llama")},
                             {"tokenizer.ggml.tokens", tokens},
                             {"tokenizer.ggml.token_type", kinds},
                             {"tokenizer.ggml.scores", scores},
                             {"tokenizer.ggml.bos_token_id", std::int64_t{2}},
                             {"tokenizer.ggml.eos_token_id", std::int64_t{1}},
                             {"tokenizer.ggml.add_space_prefix", false}};
  const auto tokenizer = load(metadata);
  EXPECT_THAT(tokenizer->encode("ab ab", true), ElementsAre(2, 10, 11));
  EXPECT_THAT(tokenizer->encode("a  b\n\na\n", false), ElementsAre(7, 5, 8, 4, 7, 12 + '\n'));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("a  b\n\na\n", false), false), "a  b\n\na\n");
}

}  // namespace
}  // namespace grist::text
