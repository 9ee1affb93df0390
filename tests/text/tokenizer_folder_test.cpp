// What a Hugging Face folder holds beside, or in place of, tokenizer.json.
#include <grist/core/errors.hpp>
#include <grist/text/tokenizer.hpp>
#include <support/files.hpp>
#include <support/refuses.hpp>

#include <nlohmann/json.hpp>

namespace grist::text {
namespace {

using nlohmann::json;
using test::contents_of;
using test::data_file;
using test::Refuses;
using testing::ElementsAre;

class TokenizerFolder : public testing::Test {
protected:
  void config(const json& value) const { folder.write("tokenizer_config.json", value.dump()); }
  [[nodiscard]] std::unique_ptr<Tokenizer> load() const { return load_tokenizer(folder.path()); }

  static json tokenizer_json(const std::string& name) {
    return json::parse(contents_of(data_file("tokenizers/" + name + "/tokenizer.json")));
  }
  /// vocab.json and merges.txt of a tokenizer.json.
  void write_vocab_and_merges(const json& tokenizer) const {
    folder.write("vocab.json", tokenizer.at("model").at("vocab").dump());
    std::string merges = "#version: 0.2\n";
    for (const json& merge : tokenizer.at("model").at("merges")) {
      merges += (merge.is_string() ? merge.get<std::string>()
                                   : merge[0].get<std::string>() + " " + merge[1].get<std::string>()) +
                "\n";
    }
    folder.write("merges.txt", merges);
  }
  void use_sentencepiece() const {
    folder.write("tokenizer.model", contents_of(data_file("tokenizers/stories260K/tokenizer.model")));
  }

  test::TemporaryFolder folder;
};

TEST_F(TokenizerFolder, OfVocabAndMergesAloneCutsWordsAsTheModelsClassDoes) {
  for (const std::string name : {"gpt2", "qwen2"}) {
    json file = tokenizer_json(name);
    const test::TemporaryFolder twin_folder;
    file["added_tokens"] = json::array();
    file["post_processor"] = nullptr;
    twin_folder.write("tokenizer.json", file.dump());
    write_vocab_and_merges(file);
    config({{"tokenizer_class", name == "gpt2" ? "GPT2Tokenizer" : "Qwen2Tokenizer"}});
    const auto tokenizer = load();
    const auto twin = load_tokenizer(twin_folder.path());
    for (const std::string text : {"Hello world, it's 1984!", "  two\n\n x ", "cafe\u0301 12345", ""}) {
      EXPECT_EQ(tokenizer->encode(text, true), twin->encode(text, true)) << name << text;
    }
    ASSERT_EQ(tokenizer->eos.size(), 1U);  // <|endoftext|> is in the vocabulary, or comes after it
    EXPECT_EQ(tokenizer->special_text(tokenizer->eos[0]), "<|endoftext|>");
    EXPECT_THAT(tokenizer->encode("<|endoftext|>", false), ElementsAre(tokenizer->eos[0]));
  }
}

TEST_F(TokenizerFolder, OfVocabAndMergesOfAnotherClassIsRefused) {
  write_vocab_and_merges(tokenizer_json("gpt2"));
  config({{"tokenizer_class", "CLIPTokenizer"}});
  EXPECT_THAT([&] { (void)load(); }, Refuses({"CLIPTokenizer", "tokenizer.json"}));
  config(json::object());
  folder.write("config.json", R"({"model_type": "opt"})");
  EXPECT_THAT([&] { (void)load(); }, Refuses({"'opt'", "tokenizer.json"}));
}

TEST_F(TokenizerFolder, TokenizerJsonAloneSaysWhatIsPutAroundAText) {  // as transformers 5 has it
  folder.write("tokenizer.json", contents_of(data_file("tokenizers/llama2/tokenizer.json")));
  config({{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"add_bos_token", false}, {"add_eos_token", true}});
  const std::vector<int> ids = load()->encode("Hello", true);
  EXPECT_EQ(ids.front(), 1);
  EXPECT_NE(ids.back(), 2);
}

TEST_F(TokenizerFolder, SentencePieceFollowsTheFlagsOfTheConfiguration) {
  use_sentencepiece();
  const std::vector<int> plain = load()->encode("Once", false);
  const auto around = [&](const json& flags) {
    config(flags);
    return load()->encode("Once", true);
  };
  std::vector<int> with_bos = plain, with_eos = plain, with_both = plain;
  with_bos.insert(with_bos.begin(), 1);
  with_eos.push_back(2);
  with_both.insert(with_both.begin(), 1);
  with_both.push_back(2);
  EXPECT_EQ(around(json::object()), with_bos);
  EXPECT_EQ(around({{"add_bos_token", false}}), plain);
  EXPECT_EQ(around({{"add_eos_token", true}}), with_both);
  EXPECT_EQ(around({{"tokenizer_class", "T5Tokenizer"}}), with_eos);
}

TEST_F(TokenizerFolder, SentencePieceTakesAddedTokens) {
  use_sentencepiece();
  folder.write("added_tokens.json", R"({"<|im_start|>": 512, "<|im_end|>": 513, "<tool>": 514})");
  config({{"eos_token", "<|im_end|>"}, {"additional_special_tokens", {"<|im_start|>"}}});
  const auto tokenizer = load();
  EXPECT_EQ(tokenizer->vocab_size(), 515);
  EXPECT_THAT(tokenizer->encode("<|im_start|><tool><|im_end|>", false), ElementsAre(512, 514, 513));
  EXPECT_TRUE(tokenizer->is_special(512) && tokenizer->is_special(513));
  EXPECT_FALSE(tokenizer->is_special(514));
  EXPECT_THAT(tokenizer->eos, ElementsAre(513));
  EXPECT_EQ(tokenizer->decode(std::vector{512, 514, 513}, true), "<tool>");
}

TEST_F(TokenizerFolder, TokensOfTheConfigurationThatTokenizerJsonLacksComeAfterIt) {
  folder.write("tokenizer.json", contents_of(data_file("tokenizers/llama2/tokenizer.json")));
  const int size = load()->vocab_size();
  config({{"added_tokens_decoder",
           {{std::to_string(size), {{"content", "<new>"}, {"special", true}}},
            {"1", {{"content", "<s>"}, {"special", true}}}}}});
  const auto tokenizer = load();
  EXPECT_EQ(tokenizer->vocab_size(), size + 1);
  EXPECT_THAT(tokenizer->encode("<new>", false), ElementsAre(size));
  EXPECT_TRUE(tokenizer->is_special(size));
}

/// As transformers 4.57 and 5 have them.
TEST_F(TokenizerFolder, TheConfigurationSaysHowTokensOfTokenizerJsonAreFoundAndWhichAreSpecial) {
  json file = tokenizer_json("gpt2");
  const int x = file["added_tokens"].back()["id"].get<int>() + 1;
  file["added_tokens"].push_back({{"id", x}, {"content", "[X]"}, {"special", false}, {"single_word", false},
                                  {"lstrip", false}, {"rstrip", false}, {"normalized", false}});
  folder.write("tokenizer.json", file.dump());
  config(json::object());
  const int a = load()->encode("a", false).at(0);
  EXPECT_EQ(load()->encode("a [X]", false).size(), 3U);
  EXPECT_EQ(load()->decode(load()->encode("a[X]a", false), true), "a[X]a");

  config({{"added_tokens_decoder", {{std::to_string(x), {{"content", "[X]"}, {"special", true}, {"single_word", false},
                                                         {"lstrip", true}, {"rstrip", true}, {"normalized", false}}}}},
          {"pad_token", "in"}});
  EXPECT_THAT(load()->encode("a [X] a", false), ElementsAre(a, x, a));
  EXPECT_EQ(load()->decode(load()->encode("a[X]a", false), true), "aa");
  EXPECT_EQ(load()->decode(load()->encode("aina", false), true), "aa") << "a piece that is a special token";
}

TEST_F(TokenizerFolder, TheConfigurationSaysWhetherASpaceIsPutBeforeBytes) {
  json file = tokenizer_json("gpt2");
  ASSERT_EQ(file["pre_tokenizer"]["type"], "ByteLevel");
  for (const bool space : {true, false}) {
    file["pre_tokenizer"]["add_prefix_space"] = !space;
    folder.write("tokenizer.json", file.dump());
    config({{"add_prefix_space", space}});
    EXPECT_EQ(load()->decode(load()->encode("ab", false), false), space ? " ab" : "ab");
  }
}

TEST_F(TokenizerFolder, WithoutLegacyNoSpaceComesAfterASpecialToken) {
  use_sentencepiece();
  const auto old = load();
  config({{"legacy", false}});
  const auto fresh = load();
  const std::string text = "Once upon</s>a time</s> there";
  EXPECT_EQ(fresh->encode("Once upon a time", false), old->encode("Once upon a time", false));
  EXPECT_NE(fresh->encode(text, false), old->encode(text, false));
  EXPECT_EQ(fresh->decode(fresh->encode(text, false), false), text);
  EXPECT_EQ(old->decode(old->encode(text, false), false), "Once upon</s> a time</s>  there");
}

/// Of a processor, which transformers' tokenizers do not read.
TEST_F(TokenizerFolder, AChatTemplateMayStandInAJsonFileWhereTheTokenizerHasNone) {
  folder.write("tokenizer.json", contents_of(data_file("tokenizers/llama3/tokenizer.json")));
  config({{"chat_template", "in the configuration"}, {"pad_token", "<pad>"}});
  EXPECT_EQ(load()->chat_template, "in the configuration");
  EXPECT_EQ(load()->special_tokens, (SpecialTokens{{"pad_token", "<pad>"}}));
  folder.write("chat_template.json", R"({"chat_template": "in its file"})");
  EXPECT_EQ(load()->chat_template, "in the configuration");
  config({{"pad_token", "<pad>"}});
  EXPECT_EQ(load()->chat_template, "in its file");
  folder.write("chat_template.jinja", "in a file of its own");
  EXPECT_EQ(load()->chat_template, "in a file of its own");
}

TEST_F(TokenizerFolder, AnEndOfTurnThatTheTemplateWritesEndsAnAnswer) {
  folder.write("tokenizer.json", contents_of(data_file("tokenizers/llama3/tokenizer.json")));
  config({{"eos_token", "<|end_of_text|>"}, {"chat_template", "{{ messages[0].content }}<|eot_id|>"}});
  const auto tokenizer = load();
  const int end_of_turn = tokenizer->encode("<|eot_id|>", false).at(0);
  EXPECT_THAT(tokenizer->end_tokens(), testing::Contains(end_of_turn));
  config({{"eos_token", "<|end_of_text|>"}});
  EXPECT_THAT(load()->end_tokens(), testing::Not(testing::Contains(end_of_turn)));
}

}  // namespace
}  // namespace grist::text
