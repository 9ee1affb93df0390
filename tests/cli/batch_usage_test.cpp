// What is said of prompts that are none, and of files of answers to others.
#include "batch_run.hpp"

namespace {

using namespace grist::test;
using testing::AllOf;
using testing::HasSubstr;

using BatchUsage = Batch;

TEST_F(BatchUsage, OfALineIsToldByItsNumber) {
  const auto refused = [&](const std::string& line, const std::string& why) {
    const auto file = folder.write("bad.jsonl", "{\"id\": \"a\", \"prompt_ids\": [5]}\n\n" + line + "\n");
    const auto outcome = run(batch(file, folder / "none.jsonl"));
    EXPECT_EQ(outcome.code, 3) << line;
    EXPECT_THAT(outcome.err, AllOf(HasSubstr("bad.jsonl, line 3: "), HasSubstr(why))) << line;
  };
  refused("{", "not valid JSON");
  refused("[1]", "expected an object");
  refused(R"({"promt": "a"})", "expected one of 'prompt', 'prompt_ids' and 'messages'");
  refused(R"({"prompt": "a", "prompt_ids": [1]})", "expected one of");
  refused(R"({"prompt_ids": [5], "temperatur": 1})", "unknown key 'temperatur'");
  refused(R"({"prompt_ids": [5], "id": "a"})", "is that of line 1 too");
  refused(R"({"prompt_ids": [5], "id": 1.5})", "'id' is 1.5");
  refused(R"({"prompt_ids": [5.5]})", "expected a token id");
  refused(R"({"prompt_ids": [123456789]})", "out of range");
  refused(R"({"prompt_ids": []})", "no tokens");
  refused(R"({"prompt_ids": [5], "max_new_tokens": 0})", "'max_new_tokens' is 0, expected 1 or more");
  refused(R"({"prompt_ids": [5], "max_new_tokens": 5000000000})", "expected an integer from -2147483648 to 2147483647");
  refused(R"({"prompt_ids": [5], "max_new_tokens": 18446744073709551615})", "is 18446744073709551615, expected");
  refused(R"({"prompt_ids": [5], "seed": -1})", "'seed' is -1, expected an integer from 0");
  refused(R"({"prompt_ids": [1, 18446744073709551615]})", "is 18446744073709551615, expected a token id");
  refused(R"({"prompt_ids": [1], "prompt_ids": [5]})", "the key 'prompt_ids' is there twice");
  refused(R"({"prompt_ids": [5], "temperature": "hot"})", "expected a number");
  refused(R"({"prompt_ids": [5], "stop": [1]})", "expected a text or a list of texts");
  refused(R"({"messages": [{"role": "user"}]})", "messages[0] has no 'content'");
  refused(R"({"messages": []})", "messages is an empty list, expected a list of");
}

TEST_F(BatchUsage, OfALineThatAsksForTheMostLikelyTokenLeavesTheModelsFiles) {
  const auto asks = folder.path() / "asks";
  copy_model(model, asks);
  write_file(asks / "generation_config.json", R"({"do_sample": true, "temperature": 0.7, "repetition_penalty": 5})");
  const auto answer = [&](const std::string& name, const std::string& more, const Words& options) {
    const auto file = folder.write(name, R"({"id": 1, "prompt_ids": [1, 251, 251, 251, 251])" + more + "}");
    Words words = batch(file, folder / ("answer to " + name), options);
    words[2] = asks;
    EXPECT_EQ(run(words).code, 0);
    return read(folder / ("answer to " + name)).at("1").at("new_ids");
  };
  const auto greedy = answer("option.jsonl", "", {"--temperature", "0"});
  EXPECT_EQ(answer("line.jsonl", R"(, "temperature": 0)", {}), greedy);
  EXPECT_NE(answer("penalty.jsonl", R"(, "temperature": 0, "repetition_penalty": 5)", {}), greedy);
}

TEST_F(BatchUsage, TellsOfASecondBosAndOfStopsWithoutATokenizer) {
  const auto twice = folder.write("twice.jsonl", R"({"prompt": "<s>Hello", "max_new_tokens": 1})");
  EXPECT_THAT(run(batch(twice, folder / "twice.answers")).err, HasSubstr("the model sees two"));
  const auto stops = folder.write("stops.jsonl", R"({"prompt_ids": [1], "stop": "x"})");
  Words words = batch(stops, folder / "stops.answers");
  words[2] = data_file("tiny/qwen2");
  const auto outcome = run(words);
  EXPECT_EQ(outcome.code, 3);
  EXPECT_THAT(outcome.err, HasSubstr("stops.jsonl, line 1: 'stop' needs a tokenizer, and the model has none"));
}

TEST_F(BatchUsage, OfAnAnswerFileThatIsNotToThesePromptsIsTold) {
  const auto file = prompts(3);
  const auto refused = [&](const std::string& line, const std::string& why) {
    const auto answers = folder.write("answers.jsonl", line + "\n");
    const auto outcome = run(batch(file, answers));
    EXPECT_EQ(outcome.code, 3) << line;
    EXPECT_THAT(outcome.err, AllOf(HasSubstr("answers.jsonl line 1"), HasSubstr(why))) << line;
    EXPECT_EQ(contents_of(answers), line + "\n") << "left as it was";
  };
  refused("a poem", "no answer of");
  refused(R"({"id": "prompt 1", "prompt_ids": [5]})", "no answer of");
  const std::string rest = R"("prompt_ids": [5], "new_ids": [1], "text": "", "finish": "stop"})";
  refused(R"({"id": "other", )" + rest, "not among the prompts");
  refused(R"({"id": "prompt 1", )" + rest, "had other tokens");
}

TEST_F(BatchUsage, OfAnswersOfAnotherModelOrWithOtherOptionsIsRefused) {
  const auto file = prompts(3), answers = (folder / "answers.jsonl").string();
  ASSERT_EQ(run(batch(file, answers)).code, 0);
  const auto written = contents_of(answers);
  auto other_model = batch(file, answers);
  std::ranges::replace(other_model, model, data_file("tiny/llama31").string());
  for (const auto& words : {batch(file, answers, {"--temperature", "0.7"}), batch(file, answers, {"--kv-dtype", "f16"}),
                            other_model}) {
    const auto outcome = run(words);
    EXPECT_EQ(outcome.code, 3);
    EXPECT_THAT(outcome.err, HasSubstr("was answered by another model or with other options"));
    EXPECT_EQ(contents_of(answers), written);
  }
  EXPECT_EQ(run(batch(file, answers, {"--threads", "1", "--max-sequences", "2"})).code, 0);
}

TEST_F(BatchUsage, OfAFileOfSomethingElseLeavesItAsItIs) {
  const auto file = folder.write("same.jsonl", R"({"id":1,"prompt_ids":[5]})");
  for (const std::string precious :
       {R"({"precious": 1})", R"({"id":1,"prompt":"a"})", R"({"id":"a\"","prompt":"a"})", R"({"id":1})", "x"}) {
    const auto answers = folder.write("precious.json", precious);
    const auto outcome = run(batch(file, answers));
    EXPECT_EQ(outcome.code, 3) << precious;
    EXPECT_EQ(contents_of(answers), precious);
  }
  const auto same = run(batch(file, file));
  EXPECT_EQ(same.code, 3);
  EXPECT_THAT(same.err, HasSubstr("is an input of this command; give --output another file"));
  EXPECT_EQ(contents_of(file), R"({"id":1,"prompt_ids":[5]})");
}

TEST_F(BatchUsage, OfAPromptWhoseLogitsAreNotFiniteAnswersAllOthersAndNamesIt) {
  const TemporaryFolder broken;
  for (const char* name : {"config.json", "model.safetensors"})
    std::filesystem::copy_file(data_file("tiny/llama_bias") / name, broken / name);
  auto bytes = contents_of(broken / "model.safetensors");
  std::uint64_t length = 0;
  std::copy_n(bytes.data(), sizeof length, reinterpret_cast<char*>(&length));
  const auto embedding = json::parse(bytes.substr(8, length)).at("model.embed_tokens.weight");
  const auto row = embedding.at("shape")[1].get<std::size_t>() * (embedding.at("dtype") == "BF16" ? 2 : 4);
  const auto token = 8 + length + embedding.at("data_offsets")[0].get<std::size_t>() + 7 * row;
  std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(token), row, '\xff');
  broken.write("model.safetensors", bytes);
  const auto file = folder.write("seven.jsonl", R"({"id":"a","prompt_ids":[5,6]}
{"id":"b","prompt_ids":[6,7,8,9]}
{"id":"c","prompt_ids":[9]}
)");
  const auto answer = [&](const std::filesystem::path& with, const std::string& answers, const Words& layout) {
    Words words{"generate", "--model", with, "--prompts", file, "--output", answers, "--max-new-tokens", "3",
                "--ignore-eos", "--dtype", "f32"};
    words.insert(words.end(), layout.begin(), layout.end());
    return run(words, layout.empty() ? 1 : 2);
  };
  const auto whole = (folder / "whole.jsonl").string();
  ASSERT_EQ(answer(data_file("tiny/llama_bias"), whole, {}).code, 0);
  auto expected = read(whole);
  expected.erase("\"b\"");
  std::vector<Words> layouts{{}};
  if (most_ranks() > 1) layouts.insert(layouts.end(), {{"--pp", "2"}, {"--dp", "2"}, {"--tp", "2"}});
  for (const auto& layout : layouts) {
    const auto answers = (folder / ("answers" + (layout.empty() ? "" : layout[0]) + ".jsonl")).string();
    for (int start = 0; start < 2; ++start) {
      const auto outcome = answer(broken.path(), answers, layout);
      EXPECT_EQ(outcome.code, 5) << outcome.err;
      EXPECT_THAT(outcome.err, AllOf(HasSubstr("note: prompt \"b\": "), HasSubstr("1 prompts of")));
      const auto found = read(answers);
      ASSERT_EQ(found.size(), 2U);
      for (const auto& [id, one] : found) EXPECT_EQ(one.at("new_ids"), expected.at(id).at("new_ids"));
    }
  }
}

TEST_F(BatchUsage, OfBothWaysToGivePromptsIsRefused) {
  EXPECT_EQ(run(batch(prompts(2), folder / "a.jsonl", {"--prompt", "a"})).code, 2);
  EXPECT_EQ(run({"generate", "--model", model, "--prompts", prompts(2)}).code, 2) << "without --output";
}

}  // namespace
