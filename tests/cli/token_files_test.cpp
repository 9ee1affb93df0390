// grist tokenize --output: what training will read, from texts, folders and conversations, whatever interrupts it.
#include "program.hpp"

#include "support/files.hpp"

#include <grist/io/token_file.hpp>
#include <grist/text/tokenizer.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <format>

namespace {

using namespace grist::test;
using grist::io::TokenFile;
using testing::HasSubstr;

/// What `grist tokenize` prints for it, as numbers.
std::vector<int> printed(const std::vector<std::string>& more) {
  std::vector<std::string> words = {"tokenize", "--model", tiny(), "--json"};
  words.insert(words.end(), more.begin(), more.end());
  return nlohmann::json::parse(quiet(words));
}

/// The same, and the token that ends a document.
std::vector<int> ended(const std::vector<std::string>& more) {
  auto ids = printed(more);
  ids.push_back(grist::text::load_tokenizer(tiny())->eos.front());
  return ids;
}

std::vector<int> ids_of(const TokenFile& file, std::uint64_t document) {
  std::vector<int> ids(file.document_begin(document + 1) - file.document_begin(document));
  file.read(file.document_begin(document), ids);
  return ids;
}

class TokenFiles : public testing::Test {
protected:
  std::vector<std::string> command(std::vector<std::string> more, const std::string& model = tiny()) {
    more.insert(more.begin(), {"tokenize", "--model", model, "--output", output});
    return more;
  }
  void expect_refused(const std::vector<std::string>& more, int code, const std::vector<std::string>& words) {
    const auto outcome = grist::test::grist(command(more));
    EXPECT_EQ(outcome.code, code);
    for (const auto& word : words) EXPECT_THAT(outcome.err, HasSubstr(word));
    EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1) << outcome.err;
    EXPECT_FALSE(std::filesystem::exists(output));
  }

  TemporaryFolder folder, inputs;
  std::string output = folder / "data.tokens";
};

TEST_F(TokenFiles, HoldForATextWhatTokenizePrintsAndItsEnd) {
  for (const std::string special : {"", "--no-special"}) {
    std::vector<std::string> words = {"--file", inputs.write("a.txt", "hello world\n").string()};
    if (!special.empty()) words.push_back(special);
    EXPECT_THAT(quiet(command(words)), HasSubstr("data.tokens: 1 documents, "));
    const TokenFile file(output);
    EXPECT_EQ(file.documents(), 1U);
    EXPECT_EQ(ids_of(file, 0), special.empty() ? ended(words) : printed(words));
    EXPECT_FALSE(file.masked());
    EXPECT_EQ(file.origin().vocab_size, 288U);
    EXPECT_EQ(file.origin().fingerprint, grist::text::fingerprint(*grist::text::load_tokenizer(tiny())));
    std::filesystem::remove(output);
  }
}

TEST_F(TokenFiles, HoldFilesAndFoldersInOrderAndALineOfJsonlAsADocument) {
  std::filesystem::create_directories(inputs / "folder/inner");
  inputs.write("folder/b.txt", "bb");
  inputs.write("folder/a.txt", "aa");
  inputs.write("folder/inner/c.jsonl", "{\"text\": \"cc\\n\"}\n\n{\"text\": \"\"}\n{\"text\":\"dd\"}");
  const std::string last = inputs.write("last", "ee");
  quiet(command({"--file", inputs / "folder", "--file", last, "--file", last}));
  const TokenFile file(output);
  const std::vector<std::string> texts = {"aa", "bb", "cc\n", "", "dd", "ee", "ee"};
  ASSERT_EQ(file.documents(), texts.size());
  for (std::size_t d = 0; d < texts.size(); ++d) EXPECT_EQ(ids_of(file, d), ended({"--text", texts[d]})) << d;
}

TEST_F(TokenFiles, EndADocumentOnce) {
  quiet(command({"--file", inputs.write("a.txt", "aa</s>")}));
  EXPECT_EQ(ids_of(TokenFile(output), 0), ended({"--text", "aa"}));
}

/// The text that is trained on, answers separated by |.
std::string trained_text(const TokenFile& file, const std::string& model) {
  const auto tokenizer = grist::text::load_tokenizer(model);
  std::string text;
  std::vector<int> run;
  for (std::uint64_t t = 0; t <= file.tokens(); ++t) {
    if (t < file.tokens() && file.trained(t)) {
      run.resize(run.size() + 1);
      file.read(t, std::span(&run.back(), 1));
    } else if (!run.empty()) {
      text += tokenizer->decode(run, false) + "|";
      run.clear();
    }
  }
  return text;
}

constexpr const char* conversations =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"be good\"},{\"role\":\"user\",\"content\":\"one\"},"
    "{\"role\":\"assistant\",\"content\":\"first\"},{\"role\":\"user\",\"content\":\"two\"},"
    "{\"role\":\"assistant\",\"content\":\"second\"}]}\n"
    "{\"messages\":[{\"role\":\"user\",\"content\":\"assistant\"},{\"role\":\"assistant\",\"content\":\"user\"}]}\n";

TEST_F(TokenFiles, OfConversationsTrainTheAnswersAlone) {
  const std::string chats = inputs.write("chats.jsonl", conversations);
  quiet(command({"--file", chats}));
  const TokenFile llama2(output);
  EXPECT_EQ(llama2.documents(), 2U);
  EXPECT_EQ(trained_text(llama2, tiny()), "first </s>|second </s>|user </s>|");
  std::filesystem::remove(output);

  copy_model(data_file("tokenizers/qwen2"), inputs / "chatml");
  edit_json(inputs / "chatml/tokenizer_config.json",
            [](auto& config) { config["chat_template"] = contents_of(data_file("chat/qwen2.jinja")); });
  quiet(command({"--file", chats}, inputs / "chatml"));
  EXPECT_EQ(trained_text(TokenFile(output), inputs / "chatml"),
            "first<|im_end|>\n|second<|im_end|>\n|user<|im_end|>\n|");
}

TEST_F(TokenFiles, HoldTheConversationAsChatSendsIt) {
  const std::string chats = inputs.write("chats.jsonl", conversations);
  quiet(command({"--file", chats}));
  const auto whole =
      printed({"--no-special", "--text",
               "<s>[INST] <<SYS>>\nbe good\n<</SYS>>\n\none [/INST] first </s><s>[INST] two [/INST] second </s>"});
  EXPECT_EQ(ids_of(TokenFile(output), 0), whole);
}

TEST_F(TokenFiles, NameALineThatCannotBeRead) {
  const auto refuse = [&](const std::string& line, const std::vector<std::string>& words) {
    SCOPED_TRACE(line);
    auto all = words;
    const auto file = inputs.write("bad.jsonl", "{\"text\":\"fine\"}\n\n" + line + "\n");
    all.push_back(file.string() + ", line 3: ");
    expect_refused({"--file", file}, 3, all);
    for (const auto& entry : std::filesystem::directory_iterator(folder.path())) remove(entry.path());
  };
  refuse("{\"text\":", {"not valid JSON"});
  refuse("{\"text\":\"\xFF\"}", {"not valid JSON"});
  refuse("[1]", {"is a JSON array, expected an object"});
  refuse("{\"prompt\":\"a\"}", {"has neither text nor messages"});
  refuse("{\"text\":\"a\",\"messages\":[]}", {"has text and messages"});
  refuse("{\"text\":7}", {"text is a JSON number, expected a string"});
  refuse("{\"messages\":{}}", {"messages is a JSON object, expected a list of"});
  refuse("{\"messages\":[7]}", {"messages[0] is a JSON number"});
  refuse("{\"messages\":[{\"role\":\"user\"}]}", {"messages[0] has no 'content'"});
  refuse("{\"messages\":[{\"role\":\"user\",\"content\":[]}]}", {"messages[0]: content is a JSON array"});
  refuse("{\"messages\":[{\"role\":\"user\",\"content\":\"a\",\"tool_calls\":[1]}]}", {"the key 'tool_calls'"});
  refuse("{\"tools\":[1],\"messages\":[]}", {"has tools, which are not understood"});
  refuse("{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}", {"nothing to train on"});
  refuse("{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\"}]}", {"chat template", "alternate"});
}

TEST_F(TokenFiles, LeaveOutOtherKeysWithANote) {
  const auto file = inputs.write("a.jsonl", "{\"text\":\"aa\",\"id\":1}\n{\"text\":\"bb\",\"id\":2}\n");
  const auto outcome = grist::test::grist(command({"--file", file}));
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.err, "grist: note: " + file.string() + ": the key 'id' is left out\n");
}

TEST_F(TokenFiles, RefuseWhatCannotBe) {
  const std::string text = inputs.write("a.txt", "aa");
  expect_refused({"--text", "aa"}, 2, {"--output: wants --file"});
  expect_refused({"--ids", "1"}, 2, {"--output: wants --file"});
  expect_refused({"--file", text, "--json"}, 2, {"--output and --json"});
  expect_refused({"--file", inputs / "none"}, 3, {"none: cannot be read: No such file"});
  std::filesystem::create_directory(inputs / "empty");
  expect_refused({"--file", inputs / "empty"}, 3, {"empty: holds no files"});
  expect_refused({"--file", folder.path()}, 2, {"lies in", "which is read"});
  expect_refused({"--file", inputs.write("bad.txt", "a\xFF")}, 3, {"bad.txt: not UTF-8"});
  const auto several = grist::test::grist({"tokenize", "--model", tiny(), "--file", text, "--file", text});
  EXPECT_EQ(several.code, 2);
  EXPECT_THAT(several.err, HasSubstr("several --file"));
}

TEST_F(TokenFiles, AreMadeOnceAndNothingElseIsOverwritten) {
  const std::string text = inputs.write("a.txt", "aa");
  quiet(command({"--file", text}));
  const auto made = contents_of(output);
  const auto again = grist::test::grist(command({"--file", text}));
  EXPECT_EQ(again.code, 0);
  EXPECT_THAT(again.err, HasSubstr("data.tokens: is made already, of the same inputs"));
  const auto other = grist::test::grist(command({"--file", inputs.write("b.txt", "bbb")}));
  EXPECT_EQ(other.code, 3);
  EXPECT_THAT(other.err, HasSubstr("data.tokens: was made from other inputs"));
  EXPECT_EQ(contents_of(output), made);
  write_file(output, "a letter");
  EXPECT_EQ(grist::test::grist(command({"--file", text})).code, 3);
  EXPECT_EQ(contents_of(output), "a letter");
}

/// Some seconds of work: a hundred files and six hundred lines.
class LongWork : public TokenFiles {
protected:
  void SetUp() override {
    std::string words, lines;
    for (int i = 0; i < 1500; ++i) words += std::format("word{} ", i * i);
    for (int i = 0; i < 100; ++i) inputs.write(std::format("{:03}.txt", i), words.substr(static_cast<std::size_t>(i)));
    for (int i = 0; i < 600; ++i)
      lines += i % 2 == 0 ? std::format("{{\"text\":\"{} {}\"}}\n", i, words)
                          : std::format(
                                "{{\"messages\":[{{\"role\":\"user\",\"content\":\"{}\"}},"
                                "{{\"role\":\"assistant\",\"content\":\"{}\"}}]}}\n",
                                words, i);
    inputs.write("lines.jsonl", lines);
    words_ = command({"--file", inputs.path()});
    words_.insert(words_.begin(), GRIST_PROGRAM);
  }

  /// Sends a signal as soon as work has begun.
  Outcome interrupted(const std::string& signal) {
    std::string line;
    for (const auto& word : words_) line += "'" + word + "' ";
    return run_command({"bash", "-c",
                        line + "& while kill -0 $! && ! [ -s " + output +
                            ".part ]; do sleep 0.01; done; "
                            "sleep 0.2; kill -" +
                            signal + " $!; wait $!"});
  }

  std::vector<std::string> words_;
};

TEST_F(LongWork, ThatASignalStopsIsContinuedByTheSameCommand) {
  const std::string first = output;
  ASSERT_EQ(run_command(words_).code, 0);
  const std::string whole = contents_of(output);
  for (const std::string signal : {"TERM", "INT", "USR1", "USR2"}) {
    std::filesystem::remove(output);
    const auto stopped = interrupted(signal);
    EXPECT_EQ(stopped.code, 75) << signal << stopped.err;
    EXPECT_THAT(stopped.err, HasSubstr("data.tokens: stopped by a signal after "));
    EXPECT_FALSE(std::filesystem::exists(output));
    EXPECT_TRUE(std::filesystem::exists(output + ".part"));
    const auto continued = run_command(words_);
    EXPECT_EQ(continued.code, 0);
    EXPECT_THAT(continued.err, HasSubstr(" documents are done, the others follow"));
    EXPECT_TRUE(contents_of(output) == whole) << signal;
  }
  EXPECT_EQ(TokenFile(output).documents(), 700U);
}

TEST_F(LongWork, ThatIsKilledIsDoneByTheSameCommand) {
  ASSERT_EQ(run_command(words_).code, 0);
  const std::string whole = contents_of(output);
  std::filesystem::remove(output);
  EXPECT_EQ(interrupted("KILL").code, 128 + 9);
  EXPECT_EQ(run_command(words_).code, 0);
  EXPECT_TRUE(contents_of(output) == whole);
}

TEST_F(LongWork, IsNotContinuedFromOtherInputs) {
  EXPECT_EQ(interrupted("TERM").code, 75);
  write_file(inputs / "000.txt", "changed");
  const auto refused = run_command(words_);
  EXPECT_EQ(refused.code, 3);
  EXPECT_THAT(refused.err,
              HasSubstr("data.tokens.part: was begun with another tokenizer, other options or other inputs"));
}

TEST_F(LongWork, IsSilentOnAPipe) {
  const auto outcome = run_command(words_);
  EXPECT_EQ(outcome.err, "");
  EXPECT_EQ(outcome.out, output + ": 700 documents, " + std::to_string(TokenFile(output).tokens()) + " tokens\n");
}

}  // namespace
