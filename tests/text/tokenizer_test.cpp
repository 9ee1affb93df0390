// Tokenizers: ids and texts are those of the tokenizers library, SentencePiece and llama.cpp; what is wrong is refused.
#include <grist/core/errors.hpp>
#include <grist/text/tokenizer.hpp>
#include <support/files.hpp>
#include <support/refuses.hpp>

#include <nlohmann/json.hpp>

#include <random>

namespace grist::text {
namespace {

using nlohmann::json;
using std::filesystem::path;
using test::contents_of;
using test::Refuses;
using testing::HasSubstr;

const path test_data = GRIST_TEST_DATA;
const path shared = GRIST_SHARED_DATA;
const path smollm2 = test::smollm2_file();

json read_vectors(const path& file) { return json::parse(contents_of(file)); }

std::string streamed(const Tokenizer& tokenizer, const std::vector<int>& ids, bool skip_special) {
  StreamDecoder decoder(tokenizer, skip_special);
  std::string text;
  for (const int id : ids) {
    const std::string piece = decoder.put(id);
    EXPECT_NO_THROW(json(piece).dump()) << "a piece that is not whole UTF-8";  // dump() refuses what is not
    text += piece;
  }
  return text + decoder.finish();
}

void expect_decodes(const Tokenizer& tokenizer, const std::vector<int>& ids, bool skip_special,
                    const std::string& text) {
  EXPECT_EQ(tokenizer.decode(ids, skip_special), text) << json(ids);
  EXPECT_EQ(streamed(tokenizer, ids, skip_special), text) << json(ids);
}

/// Vectors of the form {text, ids, ids_with_special, decoded, decoded_skip}.
void expect_vectors(const Tokenizer& tokenizer, const json& vectors) {
  ASSERT_FALSE(vectors.empty());
  for (const json& vector : vectors) {
    const std::string text = vector.at("text");
    const std::vector<int> full = vector.at("ids_with_special");
    EXPECT_EQ(tokenizer.encode(text, false), vector.at("ids").get<std::vector<int>>()) << vector;
    EXPECT_EQ(tokenizer.encode(text, true), full) << vector;
    expect_decodes(tokenizer, full, false, vector.at("decoded"));
    expect_decodes(tokenizer, full, true, vector.at("decoded_skip"));
  }
}

class SmallTokenizer : public testing::TestWithParam<std::string> {
protected:
  path folder = test_data / "tokenizers" / GetParam();
  std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(folder);
};

TEST_P(SmallTokenizer, GivesTheIdsOfTheTokenizersLibrary) {
  expect_vectors(*tokenizer, read_vectors(folder / "vectors.json"));
}

TEST_P(SmallTokenizer, DecodesRandomIdsAndInvalidUtf8AsTheTokenizersLibraryDoes) {
  for (const json& vector : read_vectors(folder / "decode.json")) {
    expect_decodes(*tokenizer, vector.at("ids"), false, vector.at("decoded"));
    expect_decodes(*tokenizer, vector.at("ids"), true, vector.at("decoded_skip"));
  }
}

TEST_P(SmallTokenizer, GivesTheSampleTextBack) {
  std::string text = contents_of(test_data / "text/sample.txt");
  std::vector<int> ids = tokenizer->encode(text, true);
  if (GetParam() == "qwen2") {  // NFC changes the text, but only once
    text = tokenizer->decode(ids, true);
    ids = tokenizer->encode(text, true);
  }
  EXPECT_EQ(tokenizer->decode(ids, true), text);
}

TEST_P(SmallTokenizer, DecodesIdsOutsideTheVocabularyToNothing) {
  std::vector<int> ids = tokenizer->encode("Hello", false);
  const std::string text = tokenizer->decode(ids, false);
  ids.insert(ids.begin() + 1, {tokenizer->vocab_size(), -1, 1 << 30});
  expect_decodes(*tokenizer, ids, false, text);
}

TEST_P(SmallTokenizer, NamesTheByteAtWhichUtf8Ends) {
  for (const std::string bad : {"\xFF", "\xC3", "\xC0\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE2\x82", "\x80"}) {
    try {
      (void)tokenizer->encode("caf\xC3\xA9 " + bad, false);
      FAIL() << "encoded invalid UTF-8";
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(), HasSubstr("at offset 6"));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Files, SmallTokenizer,
                         testing::Values("gpt2", "llama3", "qwen2", "smollm", "llama2", "llama2_metaspace", "mistral"),
                         [](const auto& param) { return param.param; });

TEST(Tokenizer, OfAGgufFileGivesTheIdsOfTheFolderItWasMadeFrom) {
  for (const std::string name : {"llama2", "llama31"}) {
    const auto tokenizer = load_tokenizer(test_data / "gguf" / (name + ".gguf"));
    const auto twin = load_tokenizer(test_data / "tiny" / name);
    ASSERT_TRUE(tokenizer && twin);
    expect_vectors(*tokenizer, read_vectors(test_data / "gguf" / (name + "_vectors.json")));
    EXPECT_EQ(tokenizer->bos, twin->bos);
    EXPECT_EQ(tokenizer->eos, twin->eos);
    for (const char* const key : {"bos_token", "eos_token"})
      EXPECT_EQ(tokenizer->special_tokens.at(key), twin->special_tokens.at(key));
  }
}

TEST(Tokenizer, OfSmolLm2GivesTheReferenceIds) {
  if (!exists(smollm2)) GTEST_SKIP() << smollm2 << " is absent";
  const auto tokenizer = load_tokenizer(smollm2);
  for (const json& vector : read_vectors(test_data / "tokenizers/smollm2_vectors.json")) {
    const std::vector<int> ids = vector.at("ids");
    EXPECT_EQ(tokenizer->encode(vector.at("text").get<std::string>(), false), ids) << vector;
    expect_decodes(*tokenizer, ids, false, vector.at("decoded"));
  }
  const json golden = read_vectors(test_data / "smollm2/golden.json");
  for (const json& vector : golden.at("cases")) {
    EXPECT_EQ(tokenizer->encode(vector.at("prompt").get<std::string>(), false),
              vector.at("prompt_ids").get<std::vector<int>>());
    expect_decodes(*tokenizer, vector.at("new_ids"), true, vector.at("text"));
  }
  EXPECT_EQ(tokenizer->bos, 1);
  EXPECT_EQ(tokenizer->eos, std::vector{2});
  EXPECT_EQ(tokenizer->special_tokens.at("eos_token"), "<|im_end|>");
  EXPECT_THAT(tokenizer->chat_template, HasSubstr("<|im_start|>"));
  EXPECT_TRUE(tokenizer->is_special(2));
  EXPECT_FALSE(tokenizer->is_special(6403));
}

TEST(Tokenizer, OfLlama2sSentencePieceModelGivesTheReferenceIds) {
  const path folder = shared / "llama2_tokenizer";
  if (!exists(folder)) GTEST_SKIP() << folder << " is absent";
  const auto tokenizer = load_tokenizer(folder);
  EXPECT_EQ(tokenizer->vocab_size(), 32000);
  EXPECT_EQ(tokenizer->bos, 1);
  EXPECT_EQ(tokenizer->eos, std::vector{2});
  EXPECT_EQ(tokenizer->special_tokens.at("bos_token"), "<s>");
  for (const json& vector : read_vectors(test_data / "tokenizers/llama2_vectors.json")) {
    const std::string text = vector.at("text");
    EXPECT_EQ(tokenizer->encode(text, false), vector.at("parsed_ids").get<std::vector<int>>()) << vector;
    if (vector.at("ids") == vector.at("parsed_ids"))
      expect_decodes(*tokenizer, vector.at("ids"), false, vector.at("decoded"));
  }
  for (const json& vector : read_vectors(folder / "vectors_llama2c.json")) {
    EXPECT_EQ(tokenizer->encode(vector.at("text").get<std::string>(), true),
              vector.at("ids_with_bos").get<std::vector<int>>());
  }
}

TEST(Tokenizer, OfASentencePieceModelGivesTheLibrarysIds) {
  const auto tokenizer = load_tokenizer(test_data / "tokenizers/stories260K");
  EXPECT_EQ(tokenizer->vocab_size(), 512);
  const json vectors = read_vectors(test_data / "tokenizers/stories260K/vectors.json");
  ASSERT_GT(vectors.size(), 20U);
  for (const json& vector : vectors) {
    const std::vector<int> ids = vector.at("ids");
    EXPECT_EQ(tokenizer->encode(vector.at("text").get<std::string>(), false), ids) << vector;
    expect_decodes(*tokenizer, ids, false, vector.at("decoded"));
  }
}

/// WikiText-2 where it is, and the larger vocabularies that are there; a text of this repository and small ones
/// anywhere.
TEST(Tokenizer, GivesALongTextBack) {
  const path wikitext = shared / "wikitext2/wiki.test.lf.txt";
  const std::string text = contents_of(exists(wikitext) ? wikitext : test_data / "text/sample.txt");
  const path tokenizers = test_data / "tokenizers";
  for (const path& model : {smollm2, shared / "llama2_tokenizer", tokenizers / "stories260K", tokenizers / "llama3",
                            tokenizers / "llama2", tokenizers / "gpt2"}) {
    if (!exists(model)) continue;
    const auto tokenizer = load_tokenizer(model);
    EXPECT_TRUE(tokenizer->decode(tokenizer->encode(text, true), true) == text) << model;
  }
}

TEST(Tokenizer, GivesRandomUnicodeBack) {
  std::mt19937 random(1);
  std::string text;
  for (int i = 0; i < 20000; ++i) {
    const unsigned bound = 1U << std::uniform_int_distribution<unsigned>(1, 16)(random);
    unsigned code = std::uniform_int_distribution<unsigned>(0, bound - 1)(random);
    if (code >= 0xD800 && code < 0xE000) code -= 0x1000;
    if (code < 0x80) {
      text += static_cast<char>(code);
    } else if (code < 0x800) {
      text += {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
    } else {
      text += {static_cast<char>(0xE0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 0x3F)),
               static_cast<char>(0x80 | (code & 0x3F))};
    }
  }
  for (const std::string name : {"gpt2", "llama3", "smollm"}) {
    const auto tokenizer = load_tokenizer(test_data / "tokenizers" / name);
    const std::vector<int> ids = tokenizer->encode(text, false);
    EXPECT_TRUE(tokenizer->decode(ids, false) == text) << name;
    EXPECT_TRUE(streamed(*tokenizer, ids, false) == text) << name;
  }
}

TEST(Tokenizer, EndsOnLongWordsAndLongRuns) {
  for (const std::string name : {"gpt2", "llama3", "qwen2", "smollm", "llama2", "mistral"}) {
    const auto tokenizer = load_tokenizer(test_data / "tokenizers" / name);
    for (const std::string unit : {"a", "the", " ", "\n", " \n", "<", "1", "\xE2\x96\x81", "\xC3\xA9", "e\xCC\x81",
                                   "\xF0\x9F\x98\x80", "<left"}) {
      std::string text;
      while (text.size() < 100'000) text += unit;
      EXPECT_FALSE(tokenizer->encode(text, false).empty()) << name;
    }
  }
}

TEST(StreamDecoder, HoldsACharacterBackUntilItIsWhole) {
  const auto tokenizer = load_tokenizer(test_data / "tokenizers/gpt2");
  const std::string letter = "\xF0\x90\x8D\x88";  // a Gothic one, of which the vocabulary knows no more than bytes
  const std::vector<int> ids = tokenizer->encode(letter, false);
  ASSERT_GT(ids.size(), 1U);
  StreamDecoder decoder(*tokenizer, true);
  for (std::size_t i = 0; i + 1 < ids.size(); ++i) EXPECT_EQ(decoder.put(ids[i]), "");
  EXPECT_EQ(decoder.put(ids.back()), letter);
  EXPECT_EQ(decoder.finish(), "");
}

// ---- files that are broken, or that ask for what grist does not have ----

class BrokenTokenizer : public testing::Test {
protected:
  test::TemporaryFolder folder;

  void write(std::string_view name, const std::string& text) const { test::write_file(folder / name, text); }
  [[nodiscard]] std::unique_ptr<Tokenizer> load() const { return load_tokenizer(folder.path()); }

  /// Loading fails with one line that names the file and holds the words.
  void expect_refused(std::string_view file, std::vector<std::string> words) const {
    words.push_back((folder / file).string());
    EXPECT_THAT([&] { (void)load(); }, Refuses(words));
  }

  /// A good tokenizer.json in which one value is replaced is refused.
  void expect_refused_with(const std::string& pointer, const json& value, const std::vector<std::string>& words,
                           const std::string& name = "llama2") const {
    json changed = read_vectors(test_data / "tokenizers" / name / "tokenizer.json");
    changed[json::json_pointer(pointer)] = value;
    write("tokenizer.json", changed.dump());
    expect_refused("tokenizer.json", words);
  }
};

TEST_F(BrokenTokenizer, NothingIsFoundInAnEmptyFolder) { EXPECT_EQ(load(), nullptr); }

TEST_F(BrokenTokenizer, NothingIsFoundInAGgufFileOfTensorsAlone) {
  EXPECT_EQ(load_tokenizer(test_data / "gguf/types.gguf"), nullptr);
}

TEST_F(BrokenTokenizer, ATruncatedFileIsRefusedAtAnyLength) {
  const std::string good = contents_of(test_data / "tokenizers/llama3/tokenizer.json");
  for (std::size_t size = 0; size < good.size(); size += 1009) {
    write("tokenizer.json", good.substr(0, size));
    expect_refused("tokenizer.json", {"not valid JSON"});
  }
}

TEST_F(BrokenTokenizer, AnyValueOfAWrongTypeIsRefusedOrHarmless) {
  for (const std::string name : {"llama3", "llama2_metaspace", "qwen2"}) {
    json good = read_vectors(test_data / "tokenizers" / name / "tokenizer.json");
    for (const char* const list : {"/model/merges", "/model/vocab"}) {  // a few entries show as much as all
      json& entries = good[json::json_pointer(list)];
      while (entries.size() > 60) entries.erase(std::prev(entries.end()));
    }
    good["model"]["merges"] = json::array({good["model"]["merges"][0]});
    const json flat = good.flatten();
    int count = 0;
    for (const auto& [pointer, value] : flat.items()) {
      if (pointer.starts_with("/model/vocab") && ++count > 20) continue;
      for (const json& wrong : {json(), json(true), json(-1), json(1e300), json("x"), json::array(), json::object()}) {
        json bad = good;
        bad[json::json_pointer(pointer)] = wrong;
        write("tokenizer.json", bad.dump());
        try {
          const auto tokenizer = load();
          (void)tokenizer->decode(tokenizer->encode("Hello <s> 123", true), false);
        } catch (const InputError&) {
        }
      }
    }
  }
}

TEST_F(BrokenTokenizer, WhatIsNotSupportedIsNamed) {
  expect_refused_with("/model/type", "Unigram", {"'vocab'", "found object"});
  expect_refused_with("/model/type", "Magic", {"'Magic'"});
  expect_refused_with("/model/dropout", 0.1, {"dropout is 0.1"});
  expect_refused_with("/model/merges", nullptr, {"'merges'", "found null"});
  expect_refused_with("/model/merges", json::array({"h e x"}), {"'h e x'"});
  expect_refused_with("/model/merges", json::array({"h nowhere"}), {"'nowhere'"});
  expect_refused_with("/model/unk_token", "<none>", {"'<none>'"});
  expect_refused_with("/model/vocab/<s>", "one", {"'<s>'", "found string"});
  expect_refused_with("/model/vocab/<s>", 1 << 30, {"1073741824"});
  expect_refused_with("/normalizer", {{"type", "Magic"}}, {"normalizer", "'Magic'"});
  expect_refused_with("/normalizer", {{"type", "Precompiled"}, {"precompiled_charsmap", "AAAA"}},
                      {"precompiled_charsmap"});
  expect_refused_with("/pre_tokenizer", {{"type", "FixedLength"}}, {"'FixedLength'"});
  for (const char* const pattern :
       {"(", "\\k<a>", "\\Ga", "(?~a)", "[[:graph:]]", "a{1,2}+", "\\p{Nonsense}", "[a", "(?u)a", "\\X", "x(?i)y|z",
        "\\((?i)y|z", "(?i)ss", "(?i:a|\u00df)", "(?i)of f|off"})
    expect_refused_with("/pre_tokenizer/pretokenizers/0/pattern/Regex", pattern, {"regular expression"}, "llama3");
  expect_refused_with("/pre_tokenizer/pretokenizers/0/behavior", "Sideways", {"'Sideways'"}, "llama3");
  expect_refused_with("/decoder", {{"type", "CTC"}}, {"decoder", "'CTC'"});
  expect_refused_with("/post_processor", {{"type", "Magic"}}, {"'Magic'"});
  expect_refused_with("/post_processor/special_tokens/<s>/ids/0", 9999, {"9999"});
  expect_refused_with("/added_tokens/0/id", -1, {"added_tokens"});
}

TEST_F(BrokenTokenizer, TheCompanionFilesAreCheckedToo) {
  write("tokenizer.json", contents_of(test_data / "tokenizers/llama3/tokenizer.json"));
  write("tokenizer_config.json", R"({"bos_token": 7})");
  expect_refused("tokenizer_config.json", {"'bos_token'", "found number"});
  write("tokenizer_config.json", R"({"chat_template": {"a": 1}})");
  expect_refused("tokenizer_config.json", {"'chat_template'"});
  write("tokenizer_config.json", "[");
  expect_refused("tokenizer_config.json", {"not valid JSON"});
}

TEST_F(BrokenTokenizer, ATemplateComesFromTheListOrFromItsOwnFile) {
  write("tokenizer.json", contents_of(test_data / "tokenizers/llama3/tokenizer.json"));
  write("tokenizer_config.json", R"({"bos_token": {"content": "<|begin_of_text|>"}, "eos_token": "<|eot_id|>",
    "chat_template": [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]})");
  auto tokenizer = load();
  EXPECT_EQ(tokenizer->chat_template, "plain");
  EXPECT_EQ(tokenizer->special_tokens.at("bos_token"), "<|begin_of_text|>");
  EXPECT_EQ(tokenizer->bos, 640);
  EXPECT_EQ(tokenizer->eos, std::vector{644});
  write("chat_template.jinja", "from the file");
  EXPECT_EQ(load()->chat_template, "from the file");
}

TEST_F(BrokenTokenizer, ASentencePieceModelIsRefusedWhereItIsCut) {
  const std::string bytes = contents_of(test_data / "tokenizers/stories260K/tokenizer.model");
  for (std::size_t size = 0; size + 200 < bytes.size(); size += 37) {  // the normalizer stands at the end
    write("tokenizer.model", bytes.substr(0, size));
    expect_refused("tokenizer.model", {"SentencePiece model"});
  }
}

}  // namespace
}  // namespace grist::text
