// What a user writes is taken as it is: brackets, nothing, stdin; and results come as they are done.
#include "program.hpp"

#include "support/golden.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <sstream>

namespace {

using namespace grist::test;
using testing::HasSubstr;
using testing::StartsWith;

std::vector<nlohmann::json> in_order(const std::string& text) {
  std::istringstream in(text);
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(nlohmann::json::parse(line));
  std::ranges::sort(lines, {}, [](const auto& line) { return line.at("index").template get<int>(); });
  return lines;
}

std::vector<nlohmann::json> generate(std::vector<std::string> more, const std::string& model = tiny()) {
  more.insert(more.begin(), {"generate", "--model", model, "--dtype", "f32", "--max-new-tokens", "4", "--json"});
  return in_order(quiet(more));
}

std::string text_of(const std::vector<int>& ids) {
  std::string list;
  for (const int id : ids) list += (list.empty() ? "" : ",") + std::to_string(id);
  return list;
}

TEST(Texts, InBracketsAreOnePromptEach) {
  for (const std::string text : {"[INST] Hello, world [/INST]", "[]", "[[aa]]", "[[aabb]]", "{}", "%%", "[", "'[a]'"}) {
    const TemporaryFolder folder;
    const auto by_file = generate({"--prompt-file", folder.write("prompt", text)});
    for (const auto& given : {generate({"--prompt", text}), generate({"--prompt=" + text})}) {
      ASSERT_EQ(given.size(), 1U) << text;
      EXPECT_EQ(given[0].at("prompt_ids"), by_file[0].at("prompt_ids")) << text;
    }
    const auto ids = quiet({"tokenize", "--model", tiny(), "--text", text, "--json"});
    EXPECT_EQ(nlohmann::json::parse(ids), by_file[0].at("prompt_ids")) << text;
  }
}

TEST(Texts, InBracketsAreNoListOfStops) {
  const auto all = generate({"--prompt", "the cat"})[0].at("text").get<std::string>();
  const auto list = "[" + all.substr(0, 1) + "]";
  EXPECT_EQ(generate({"--prompt", "the cat", "--stop", list})[0].at("text"), all);
}

TEST(Texts, KeepTheOrderOfTheCommandLine) {
  const auto lines = generate({"--prompt-ids", "1,7", "--prompt", "ab", "--prompt-ids", "1,9"});
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_EQ(lines[0].at("prompt_ids"), (std::vector<int>{1, 7}));
  EXPECT_EQ(lines[2].at("prompt_ids"), (std::vector<int>{1, 9}));
}

TEST(Texts, AnEmptySystemMessageIsGiven) {
  const TemporaryFolder folder;
  copy_model(tiny(), folder / "model");
  write_file(folder / "model/chat_template.jinja", "{% for m in messages %}({{ m.role }}:{{ m.content }}){% endfor %}");
  const auto prompt = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"--chat", "hi"});
    return generate(more, folder / "model")[0].at("prompt_ids").get<std::vector<int>>();
  };
  EXPECT_THAT(quiet({"tokenize", "--model", folder / "model", "--ids", text_of(prompt({"--system", ""}))}),
              HasSubstr("(system:)(user:hi)"));
  EXPECT_THAT(quiet({"tokenize", "--model", folder / "model", "--ids", text_of(prompt({"--system", "{}"}))}),
              HasSubstr("(system:{})(user:hi)"));
  EXPECT_NE(prompt({"--system", ""}), prompt({}));
}

TEST(Texts, ComeFromStdinWithTheirLastNewline) {
  const auto ids = nlohmann::json::parse(quiet({"tokenize", "--model", tiny(), "--text", "hello\n", "--json"}));
  EXPECT_EQ(
      nlohmann::json::parse(quiet({"tokenize", "--model", tiny(), "--file", "-", "--json"}, 1, "hello\n")),
      ids);
  for (int ranks = 1; ranks <= most_ranks(); ++ranks) {
    const auto out = quiet({"generate", "--model", tiny(), "--prompt-file", "-", "--max-new-tokens", "2",
                            "--json", "--tp", std::to_string(ranks)},
                           ranks, "hello\n");
    EXPECT_EQ(nlohmann::json::parse(out).at("prompt_ids"), ids);
  }
  const auto twice =
      grist::test::grist({"generate", "--model", tiny(), "--prompt-file", "-", "--prompt-file", "-"});
  EXPECT_EQ(twice.code, 2);
  EXPECT_THAT(twice.err, HasSubstr("stdin (-) can be read once"));
}

TEST(Texts, LoseAByteOrderMarkWithANote) {
  const auto outcome =
      grist::test::grist({"tokenize", "--model", tiny(), "--file", "-"}, 1, "\xEF\xBB\xBFhello");
  EXPECT_EQ(outcome.out, quiet({"tokenize", "--model", tiny(), "--text", "hello"}));
  EXPECT_THAT(outcome.err, StartsWith("grist: note: stdin: begins with a byte order mark"));
}

TEST(Texts, ASecondBosIsTold) {
  const std::string said = "grist: note: a prompt begins with the BOS token";
  const auto tokens = grist::test::grist({"tokenize", "--model", tiny(), "--text", "<s>hello"});
  EXPECT_THAT(tokens.err, StartsWith(said));
  const auto outcome = grist::test::grist(
      {"generate", "--model", tiny(), "--prompt", "<s>hello", "--prompt", "<s>ab", "--max-new-tokens", "2"});
  EXPECT_THAT(outcome.err, StartsWith(said));
  EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1) << outcome.err;
  EXPECT_NE(quiet({"generate", "--model", tiny(), "--prompt", "hello", "--max-new-tokens", "2"}), "");
}

TEST(Models, AreGgufByTheirFirstBytes) {
  const TemporaryFolder folder;
  const auto expected = generate({"--prompt", "ab"}, data_file("gguf/llama2.gguf"))[0].at("new_ids");
  std::filesystem::copy(data_file("gguf/llama2.gguf"), folder / "blob");
  EXPECT_EQ(generate({"--prompt", "ab"}, folder / "blob")[0].at("new_ids"), expected);
  std::filesystem::create_directory(folder / "folder");
  std::filesystem::copy(data_file("gguf/llama2.gguf"), folder / "folder/model.gguf");
  EXPECT_EQ(generate({"--prompt", "ab"}, folder / "folder")[0].at("new_ids"), expected);
  EXPECT_THAT(quiet({"info", "--model", folder / "blob"}), HasSubstr("llama"));
  EXPECT_NE(quiet({"tokenize", "--model", folder / "folder", "--text", "ab"}), "");
}

TEST(Results, AreWrittenAsTheyAreDone) {
  const TemporaryFolder folder;
  std::string words;
  for (int i = 0; i < 40; ++i) words += " --prompt-ids 1," + std::to_string(i + 3);
  const std::string file = folder / "lines";
  // 32 sequences run at a time; when the first are done, the program is ended.
  const auto outcome = run_command({"bash", "-c",
                                    std::string(GRIST_PROGRAM) + " generate --model " + tiny() + words +
                                        " --ignore-eos --max-new-tokens 240 --json --json-file " + file + " > " + file +
                                        ".out & "
                                        "while kill -0 $! && ! [ -s " +
                                        file + " ]; do sleep 0.01; done; kill -TERM $!; wait $!"});
  EXPECT_EQ(outcome.code, 128 + 15) << outcome.err;
  for (const auto& name : {file, file + ".out"}) {
    const auto text = contents_of(name);
    EXPECT_TRUE(text.ends_with('\n'));
    std::set<int> seen;
    for (const auto& line : in_order(text)) {
      EXPECT_EQ(line.at("prompt_ids")[1], line.at("index").get<int>() + 3);
      seen.insert(line.at("index").get<int>());
    }
    EXPECT_GE(seen.size(), 1U);
    EXPECT_LT(seen.size(), 40U);
  }
}

/// A model whose generation_config.json a test writes.
class Recommended : public testing::Test {
protected:
  void SetUp() override { copy_model(tiny(), model); }
  void config(const std::string& json) const { write_file(model / "generation_config.json", json); }
  [[nodiscard]] Outcome run(std::vector<std::string> more) const {
    more.insert(more.begin(), {"generate", "--model", model, "--dtype", "f32", "--prompt", "the cat", "--seed", "3"});
    more.insert(more.end(), {"--max-new-tokens", "24"});
    return grist::test::grist(more);
  }
  TemporaryFolder folder;
  std::filesystem::path model = folder.path() / "model";
};

TEST_F(Recommended, SamplingIsUsedWithANote) {
  const auto greedy = run({});
  const auto sampled = run({"--temperature", "1.5", "--top-k", "40"});
  EXPECT_NE(greedy.out, sampled.out);
  config(R"({"do_sample": true, "temperature": 1.5, "top_k": 40})");
  const auto recommended = run({});
  EXPECT_EQ(recommended.out, sampled.out);
  EXPECT_THAT(recommended.err,
              HasSubstr("generation_config.json says how to choose tokens: temperature 1.5, top-k 40"));
  EXPECT_EQ(run({"--temperature", "0"}).out, greedy.out);
  EXPECT_EQ(run({"--temperature", "0"}).err, "");
}

TEST_F(Recommended, SamplingGivesWayToOptions) {
  const auto sampled = run({"--temperature", "1.2", "--top-k", "40"});
  config(R"({"do_sample": true, "temperature": 0.1, "top_k": 40})");
  const auto mixed = run({"--temperature", "1.2"});
  EXPECT_EQ(mixed.out, sampled.out);
  EXPECT_THAT(mixed.err, testing::Not(HasSubstr("temperature 0.1")));
}

TEST_F(Recommended, SamplingCountsOnlyWhereTheModelSamples) {
  const auto greedy = run({});
  config(R"({"do_sample": false, "temperature": 1.5, "top_k": 40, "typical_p": 0.5})");
  EXPECT_EQ(run({}).out, greedy.out);
  EXPECT_EQ(run({}).err, "");
}

TEST_F(Recommended, PenaltiesCountWithoutSampling) {
  const auto punished = run({"--temperature", "0", "--repetition-penalty", "5"});
  config(R"({"repetition_penalty": 5})");
  const auto recommended = run({});
  EXPECT_EQ(recommended.out, punished.out);
  EXPECT_THAT(recommended.err, HasSubstr("says how to choose tokens: repetition-penalty 5"));
  EXPECT_NE(run({"--temperature", "0"}).out, punished.out);
}

TEST_F(Recommended, SamplingIsAmongFiftyTokensWhereTheFileNamesNoNumber) {
  const auto sampled = run({"--temperature", "3", "--top-k", "50"});
  config(R"({"do_sample": true, "temperature": 3})");
  EXPECT_EQ(run({}).out, sampled.out);
}

TEST_F(Recommended, WhatIsNotDoneIsNamed) {
  config(R"({"no_repeat_ngram_size": 2, "min_new_tokens": null, "num_beams": 1, "suppress_tokens": [5]})");
  for (const auto& more : {std::vector<std::string>(), {"--temperature", "0"}})
    EXPECT_THAT(run(more).err, HasSubstr("asks for no_repeat_ngram_size, suppress_tokens, which grist does not do"));
}

TEST_F(Recommended, SamplingOutOfRangeIsRefused) {
  config(R"({"do_sample": true, "top_p": 7})");
  EXPECT_EQ(run({}).code, 2);
}

TEST_F(Recommended, EndTokensEndUnlessTheyAreIgnored) {
  const auto golden = read_golden("llama2")[1];
  const auto prompt = text_of(golden.ids);
  config("{\"eos_token_id\": " + std::to_string(golden.greedy_ids[0]) + "}");
  const auto ended = generate({"--prompt-ids", prompt}, model)[0];
  EXPECT_EQ(ended.at("finish"), "stop");
  const auto all = generate({"--prompt-ids", prompt, "--ignore-eos"}, model)[0];
  EXPECT_EQ(all.at("finish"), "length");
  EXPECT_EQ(all.at("new_ids"), std::vector<int>(golden.greedy_ids.begin(), golden.greedy_ids.begin() + 4));
}

}  // namespace
