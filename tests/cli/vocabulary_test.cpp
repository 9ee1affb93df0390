// grist vocabulary: a tokenizer of one's own texts, which gives every text back.
#include "program.hpp"
#include "support/files.hpp"

#include <grist/text/tokenizer.hpp>

#include <gmock/gmock.h>

namespace {

using namespace grist::test;
using testing::AllOf;
using testing::HasSubstr;
using Words = std::vector<std::string>;

class Vocabulary : public testing::Test {
protected:
  Outcome make(const Words& more = {}) const {
    Words words = {"vocabulary", "--output", output};
    if (std::ranges::find(more, "--file") == more.end()) words.insert(words.end(), {"--file", text});
    if (std::ranges::find(more, "--size") == more.end()) words.insert(words.end(), {"--size", "600"});
    words.insert(words.end(), more.begin(), more.end());
    return grist::test::grist(words);
  }

  const std::string text = data_file("text/sample.txt");
  TemporaryFolder folder;
  const std::string output = folder / "tokenizer";
};

TEST_F(Vocabulary, GivesEveryTextBack) {
  for (const std::string kind : {"unigram", "bpe"}) {
    const auto outcome = make({"--kind", kind});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    EXPECT_THAT(outcome.out, HasSubstr("600 pieces"));
    const auto tokenizer = grist::text::load_tokenizer(output);
    ASSERT_TRUE(tokenizer);
    EXPECT_EQ(tokenizer->vocab_size(), 600);
    const std::string sample = contents_of(text);
    for (const std::string& whole : {sample, std::string("tabs\t and  two spaces\n\n  an indent"),
                                     std::string("\xE6\xB0\xB4\xE8\xBB\x8A \xF0\x9F\x98\x80 \xC3\xA9\xCC\x81 1234")})
      EXPECT_EQ(tokenizer->decode(tokenizer->encode(whole, true), true), whole) << kind;
    EXPECT_LT(3 * tokenizer->encode(sample, false).size(), 2 * sample.size()) << "pieces are longer than bytes";
    std::filesystem::remove_all(output);
  }
}

TEST_F(Vocabulary, IsTheSameEveryTime) {
  ASSERT_EQ(make().code, 0);
  const std::string first = contents_of(output + "/tokenizer.model");
  std::filesystem::remove_all(output);
  ASSERT_EQ(make().code, 0);
  EXPECT_TRUE(contents_of(output + "/tokenizer.model") == first);
}

TEST_F(Vocabulary, ReadsWhatTokenizeReadsAndTrainsAModel) {
  const auto chats = folder.write("chats.jsonl",
                                  "{\"text\":\"hello there\"}\n{\"messages\":[{\"role\":\"user\",\"content\":\"a "
                                  "question\"},{\"role\":\"assistant\",\"content\":\"an answer\"}]}\n");
  ASSERT_EQ(make({"--file", text, "--file", chats}).code, 0);
  const std::string tokens = folder / "data.tokens";
  EXPECT_THAT(quiet({"tokenize", "--model", output, "--file", text, "--output", tokens}), HasSubstr("1 documents"));
  const auto config = folder.write("config.json", contents_of(data_file("tiny/llama2/config.json")));
  edit_json(config, [](auto& json) { json["vocab_size"] = 600; });
  const auto trained =
      grist::test::grist({"train", "--config", config, "--tokenizer", output, "--data", tokens, "--steps", "2",
                          "--batch", "2", "--sequence", "32", "--save-hf", folder / "model"});
  EXPECT_EQ(trained.code, 0) << trained.err;
  EXPECT_NE(quiet({"generate", "--model", folder / "model", "--prompt", "The", "--max-new-tokens", "4"}), "");
}

TEST_F(Vocabulary, SaysInOneLineWhatItCannot) {
  struct Case {
    Words words;
    int code;
    std::string said;
  };
  for (const auto& [words, code, said] : std::vector<Case>{
           {{"--size", "100000"}, 3, "a vocabulary of 100000 cannot be made of these texts"},
           {{"--size", "300"}, 3, "smaller than required_chars. 300 vs "},
           {{"--size", "100"}, 2, "--size"},
           {{"--kind", "wordpiece"}, 2, "wordpiece"},
           {{"--file", folder / "no.txt"}, 3, "no.txt: cannot be read"},
           {{"--file", folder.write("empty.txt", "\n \n")}, 3, "empty.txt: holds no text"},
       }) {
    const auto outcome = make(words);
    EXPECT_EQ(outcome.code, code) << said << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(said));
    EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1) << outcome.err;
    EXPECT_FALSE(std::filesystem::exists(output + "/tokenizer.model"));
  }
  ASSERT_EQ(make().code, 0);
  const auto again = make();
  EXPECT_EQ(again.code, 2);
  EXPECT_THAT(again.err, AllOf(HasSubstr("already holds a tokenizer.model"), HasSubstr("another folder")));
}

}  // namespace
