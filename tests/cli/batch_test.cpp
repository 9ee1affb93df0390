// Batch inference: every prompt of a file has one answer, the one that it has alone, whatever shares the machine and
// however often the work is stopped.
#include "training_run.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <random>
#include <set>

namespace {

using namespace grist::test;
using namespace std::chrono_literals;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

class Batch : public TrainingRun {
protected:
  /// Prompts of very different lengths; a third of them draws its tokens, a fourth begins alike.
  std::string prompts(int count, const std::string& name = "prompts.jsonl") const {
    std::mt19937 draw(7);
    std::string lines;
    for (int i = 0; i < count; ++i) {
      json line{{"id", "prompt " + std::to_string(i)}, {"max_new_tokens", 1 + draw() % 24}};
      std::vector<int> ids;
      for (int at = 0; i % 4 == 1 && at < 70; ++at) ids.push_back(3 + at * at % 90);
      for (unsigned left = 1 + (i % 7 == 0 ? draw() % 90 : draw() % 9); left > 0; --left)
        ids.push_back(static_cast<int>(3 + draw() % 90));
      line["prompt_ids"] = ids;
      if (i % 3 == 0) line.update({{"temperature", 0.8}, {"top_k", 20}, {"seed", i}});
      lines += line.dump() + "\n";
    }
    return folder.write(name, lines);
  }
  [[nodiscard]] Words batch(const std::string& prompts, const std::string& answers, const Words& more = {}) const {
    Words all{"generate", "--model", model, "--dtype", "f32", "--prompts", prompts, "--output", answers};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  static Outcome run(const Words& given, int ranks = 1) { return grist::test::grist(given, ranks); }
  /// The answers by id; each once.
  static std::map<std::string, json> read(const std::string& answers) {
    std::map<std::string, json> found;
    std::ifstream lines(answers);
    for (std::string line; std::getline(lines, line);) {
      const auto answer = json::parse(line);
      EXPECT_TRUE(found.emplace(answer.at("id").dump(), answer).second) << "twice: " << line;
    }
    return found;
  }
  static std::size_t whole_lines(const std::string& answers) {
    const auto text = contents_of(answers);
    return static_cast<std::size_t>(std::ranges::count(text, '\n'));
  }
  /// Those of each prompt alone.
  std::map<std::string, json> alone(const std::string& prompts) const {
    const std::string answers = folder / "alone.jsonl";
    EXPECT_EQ(quiet(batch(prompts, answers, {"--max-sequences", "1"})), "");
    return read(answers);
  }
};
using TwoRanksOfBatches = Batch;
using BatchUsage = Batch;

TEST_F(Batch, GivesEachPromptTheAnswerThatItHasAlone) {
  const auto file = prompts(60);
  const auto answers = folder / "answers.jsonl";
  EXPECT_EQ(quiet(batch(file, answers)), "");
  const auto together = read(answers), expected = alone(file);
  EXPECT_EQ(together.size(), 60U);
  EXPECT_EQ(together, expected);
  // A greedy one, as `grist generate` alone gives it.
  const auto& answer = together.at("\"prompt 1\"");
  std::string ids;
  for (const int id : answer.at("prompt_ids")) ids += (ids.empty() ? "" : ",") + std::to_string(id);
  const auto count = std::to_string(answer.at("new_ids").size());
  const auto one = json::parse(quiet({"generate", "--model", model, "--dtype", "f32", "--prompt-ids", ids,
                                      "--max-new-tokens", count, "--json", "--ignore-eos"}));
  EXPECT_EQ(one.at("new_ids"), answer.at("new_ids"));
}

TEST_F(TwoRanksOfBatches, GiveTheSameAnswersAtEveryLayout) {
  const auto file = prompts(200);
  const auto expected = alone(file);
  for (const Words& layout : {Words{"--dp", "2"}, Words{}, Words{"--pp", "2"}, Words{"--tp", "2"}}) {
    const auto answers = folder / ("answers" + std::to_string(layout.size()) + (layout.empty() ? "" : layout[0]));
    EXPECT_EQ(quiet(batch(file, answers, layout), 2), "");
    EXPECT_EQ(read(answers), expected) << testing::PrintToString(layout);
  }
}

TEST_F(TwoRanksOfBatches, GuessFromACorpusOrByADraftModelAndGiveTheSameAnswersAtEveryLayout) {
  const auto file = prompts(30);
  const auto expected = alone(file);
  int number = 0;
  for (const Words& source : {Words{"--draft-corpus", text}, Words{"--draft-model", model}}) {
    for (const Words& layout : {Words{"--dp", "2"}, Words{"--pp", "2"}, Words{"--tp", "2"}}) {
      Words more = layout;
      more.insert(more.end(), source.begin(), source.end());
      const auto answers = folder / std::format("answers{}", number++);
      const auto outcome = run(batch(file, answers, more), 2);
      EXPECT_EQ(outcome.code, 0);
      EXPECT_THAT(outcome.err,
                  testing::MatchesRegex("grist: note: guessed [0-9]+ tokens, [0-9]+ of them right: [0-9.]+ tokens a "
                                        "pass; .* passes without guesses.*\n"));
      EXPECT_EQ(read(answers), expected) << testing::PrintToString(more);
    }
  }
}

/// Every kill hits a start that has work left.
TEST_F(TwoRanksOfBatches, KilledAtAnyInstantLoseNoAnswerAndWriteNoneTwice) {
  constexpr std::size_t count = 200;
  constexpr int kills = 20;
  const auto file = prompts(count);
  const auto answers = folder / "answers.jsonl";
  const std::vector<Words> layouts{{}, {"--dp", "2"}, {"--pp", "2"}, {"--tp", "2"}};
  const unsigned seed = std::random_device()();
  std::mt19937 draw(seed);
  SCOPED_TRACE(std::format("seed {}", seed));
  int hits = 0;
  for (int longest = 700, tries = 0; hits < kills && tries < 4 * kills; ++tries) {
    Words more = layouts[draw() % layouts.size()];
    const int ranks = more.empty() ? 1 : 2;
    more.insert(more.end(), {"--max-sequences", "2"});
    auto running = start_words(batch(file, answers, more), ranks);
    const int victim = pid_of(static_cast<int>(draw() % static_cast<unsigned>(ranks)));
    ASSERT_GT(victim, 0);
    running.wait_for(std::uniform_int_distribution(20, longest)(draw) * 1ms);
    kill(victim, SIGKILL);
    running.get();
    if (std::filesystem::exists(answers) && whole_lines(answers) == count) {  // it was too late
      std::filesystem::remove(answers);
      longest = std::max(100, longest / 2);
    } else {
      ++hits;
    }
  }
  EXPECT_EQ(hits, kills);
  const auto last = run(batch(file, answers), 2);
  EXPECT_EQ(last.code, 0) << last.err;
  EXPECT_EQ(read(answers), alone(file));
}

/// Where machines are so fast that the signal comes too late, they have more to answer. With stages the signal is heard
/// between the passes of two groups.
TEST_F(TwoRanksOfBatches, EndWithCode75WhereASignalComesToOneOfThemAndGoOn) {
  for (const Words& layout : {Words{"--dp", "2"}, Words{"--pp", "2"}}) {
    SCOPED_TRACE(layout[0]);
    const auto answers = folder / "answers.jsonl";
    std::string file;
    Outcome outcome;
    std::size_t count = 1000;
    for (int tries = 0; outcome.code != 75 && tries < 4; ++tries) {
      std::filesystem::remove(answers);
      file = prompts(static_cast<int>(count *= 2));
      Words more = layout;
      more.insert(more.end(), {"--max-sequences", "2"});
      auto running = start_words(batch(file, answers, more), 2);
      const int pid = pid_of(1);
      ASSERT_TRUE(soon([&] { return std::filesystem::exists(answers) && std::filesystem::file_size(answers) > 0; }));
      kill(pid, SIGTERM);
      outcome = running.get();
      if (outcome.code != 75) {
        ASSERT_EQ(read(answers).size(), count) << outcome.code << ": " << outcome.err;
      }
    }
    ASSERT_EQ(outcome.code, 75) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("the same command goes on"));
    const auto before = read(answers).size();
    EXPECT_LT(before, count);
    const auto next = run(batch(file, answers), 2);
    EXPECT_EQ(next.code, 0) << next.err;
    EXPECT_THAT(next.err, HasSubstr(std::format("{} of {} prompts are answered already", before, count)));
    EXPECT_EQ(read(answers).size(), count);
    std::filesystem::remove(answers);
  }
}

TEST_F(Batch, CutsOffALineThatWasNotFinished) {
  const auto file = prompts(12);
  const auto answers = folder / "answers.jsonl";
  EXPECT_EQ(quiet(batch(file, answers)), "");
  const auto whole = read(answers);
  std::filesystem::resize_file(answers, std::filesystem::file_size(answers) - 5);
  const auto outcome = run(batch(file, answers));
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("its last line was not whole"), HasSubstr("11 of 12 prompts")));
  EXPECT_EQ(read(answers), whole);
}

/// It leaves three seconds of the wall time to end. Where machines are so fast that nothing is left, or so slow that
/// nothing was answered, it is given more work, or more time.
TEST_F(Batch, WorksUntilTheWallTimeAndGoesOn) {
  std::size_t count = 1500, before = 0;
  for (int seconds = 5; before == 0 && seconds < 60;) {
    const auto file = prompts(static_cast<int>(count));
    const auto answers = folder / "answers.jsonl";
    std::filesystem::remove(answers);
    const auto first =
        run(batch(file, answers, {"--max-walltime", std::format("00:00:{:02}", seconds), "--max-sequences", "1"}));
    if (first.code == 0) {
      count *= 4;
      continue;
    }
    ASSERT_EQ(first.code, 75) << first.err;
    EXPECT_THAT(first.err, HasSubstr("stopped before all prompts were answered"));
    before = read(answers).size();
    seconds *= 2;
    if (before == 0) continue;
    EXPECT_LT(before, count);
    const auto next = run(batch(file, answers, {"--max-sequences", "64"}));
    EXPECT_EQ(next.code, 0) << next.err;
    EXPECT_THAT(next.err, HasSubstr(std::format("{} of {} prompts are answered already", before, count)));
    EXPECT_EQ(read(answers).size(), count);
  }
  EXPECT_GT(before, 0U);
}

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
  for (const std::string precious : {R"({"precious": 1})", R"({"id":1,"prompt":"a"})", "x"}) {
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

TEST_F(Batch, EqualPromptsWithSeedsOfTheirOwnAnswerAsAlone) {
  const std::string line = R"("prompt_ids": [1, 2, 3], "temperature": 1, "max_new_tokens": 12)";
  const auto file = folder.write("three.jsonl", R"({"id": 0, )" + line + R"(, "seed": 5})" + "\n" + R"({"id": 1, )" +
                                                    line + R"(, "seed": 6})" + "\n" + R"({"id": 2, )" + line +
                                                    R"(, "seed": 6})" + "\n");
  const auto only = folder.write("one.jsonl", R"({"id": 1, )" + line + R"(, "seed": 6})");
  EXPECT_EQ(quiet(batch(file, folder / "three.out")), "");
  EXPECT_EQ(quiet(batch(only, folder / "one.out")), "");
  const auto three = read(folder / "three.out"), one = read(folder / "one.out");
  EXPECT_EQ(three.at("1"), one.at("1"));
  EXPECT_NE(three.at("2").at("new_ids"), one.at("1").at("new_ids")) << "a second copy draws by itself";
}

/// Each replica and each group gets its share where prompts are few.
TEST_F(TwoRanksOfBatches, ShareFewPrompts) {
  const auto file = prompts(6);
  for (const Words& layout : {Words{"--dp", "2"}, Words{"--pp", "2"}}) {
    const auto answers = folder / layout[0];
    EXPECT_EQ(quiet(batch(file, answers, layout), 2), "");
    EXPECT_EQ(read(answers), alone(file));
    std::filesystem::remove(folder / "alone.jsonl");
  }
}

class Guesses : public Batch {
protected:
  /// Lines of random letters: after most pairs of them something is known.
  [[nodiscard]] static std::string letters(int bytes) {
    std::mt19937 draw(3);
    std::string text;
    for (int i = 0; i < bytes; ++i) text += i % 50 == 49 ? '\n' : static_cast<char>('!' + draw() % 90);
    return text;
  }
  [[nodiscard]] json drawn(const Words& more, int ranks = 1) const {
    Words all{"generate", "--model", model, "--dtype", "f32", "--prompt-ids", "5,6,7", "--temperature", "1",
              "--max-new-tokens", "400", "--json", "--ignore-eos"};
    all.insert(all.end(), more.begin(), more.end());
    const auto outcome = run(all, ranks);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.err, testing::StartsWith(more.empty() ? "" : "grist: note: guessed "));
    EXPECT_EQ(outcome.err.empty(), more.empty()) << outcome.err;
    return json::parse(outcome.out);
  }
  static int guessed(const json& answer) { return answer.at("timings").at("guessed_tokens"); }
  static int right(const json& answer) { return answer.at("timings").at("guessed_right"); }
};

/// The model drafts for itself: nearly all is right, drawn as it is.
TEST_F(Guesses, AreToldOfEachAnswer) {
  const auto plain = drawn({}), by_model = drawn({"--draft-model", model, "--draft-tokens", "5"});
  EXPECT_EQ(by_model.at("new_ids"), plain.at("new_ids"));
  EXPECT_EQ(guessed(plain), 0);
  EXPECT_GT(right(by_model), 200);
}

TEST_F(Guesses, ThatWereNoneAreToldToo) {
  const auto file = folder.write("one.jsonl", R"({"prompt_ids": [5, 6, 7], "max_new_tokens": 2})");
  const auto outcome = run(batch(file, folder / "none.jsonl", {"--draft-tokens", "4"}));
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.err, "grist: note: nothing was guessed: every pass gave one token\n");
}

/// 200 passes or more of one sequence: six of them are measured without guesses.
TEST_F(Guesses, OfALongAnswerAreToldToBeSoMuchFaster) {
  const auto file = folder.write("one.jsonl", R"({"prompt_ids": [5], "max_new_tokens": 400, "ignore_eos": true})");
  const auto outcome = run(batch(file, folder / "one.out", {"--draft-model", model, "--draft-tokens", "1"}));
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.err, testing::MatchesRegex("grist: note: guessed [0-9]+ tokens, [0-9]+ of them right: [0-9.]+ "
                                                 "tokens a pass; [0-9.]+ x as fast as passes without guesses\n"));
}

TEST_F(Guesses, AreTheSameOfATextADocumentAndATokenFile) {
  const auto corpus = letters(60000);
  const auto file = folder.write("corpus.txt", corpus).string(), tokens = (folder / "corpus.tokens").string();
  const auto line = folder.write("corpus.jsonl", json({{"text", corpus}}).dump() + "\n").string();
  EXPECT_THAT(quiet({"tokenize", "--model", model, "--file", file, "--no-special", "--output", tokens}),
              HasSubstr("1 documents"));
  const auto plain = drawn({}), by_text = drawn({"--draft-corpus", file});
  EXPECT_GT(guessed(by_text), 20);
  for (const auto& other : {line, tokens}) {
    const auto by_other = drawn({"--draft-corpus", other});
    EXPECT_EQ(by_other.at("new_ids"), plain.at("new_ids"));
    EXPECT_EQ(guessed(by_other), guessed(by_text)) << other;
  }
}

using TwoRanksOfGuesses = Guesses;
TEST_F(TwoRanksOfGuesses, AreTheSameOfALongTextThatTwoRanksCount) {
  const auto file = folder.write("corpus.txt", letters(400000)).string();
  const auto one = drawn({"--draft-corpus", file}), two = drawn({"--draft-corpus", file, "--pp", "2"}, 2);
  EXPECT_EQ(two.at("new_ids"), one.at("new_ids"));
  EXPECT_GT(guessed(one), 20);
  EXPECT_EQ(guessed(two), guessed(one));
  EXPECT_EQ(right(two), right(one));
}

TEST_F(BatchUsage, OfSourcesOfGuessesIsTold) {
  const auto refused = [&](const Words& more, int code, const std::string& why) {
    Words all{"generate", "--model", model, "--prompt-ids", "5"};
    all.insert(all.end(), more.begin(), more.end());
    const auto outcome = run(all);
    EXPECT_EQ(outcome.code, code) << testing::PrintToString(more);
    EXPECT_THAT(outcome.err, HasSubstr(why)) << testing::PrintToString(more);
  };
  refused({"--draft-corpus", text, "--draft-model", model}, 2, "excludes");
  refused({"--draft-corpus", text, "--draft-tokens", "0"}, 2, "--draft-tokens is 0, and --draft-corpus says");
  refused({"--draft-model", model, "--draft-tokens", "0"}, 2, "--draft-tokens is 0, and --draft-model says");
  refused({"--draft-corpus", "-"}, 2, "not stdin");
  refused({"--draft-corpus", folder / "none.txt"}, 3, "none.txt: cannot be read");
  refused({"--draft-model", folder / "none"}, 3, "none: ");
  refused({"--draft-model", data_file("tiny/mistral")}, 3, "has a vocabulary of 96 tokens");
  refused({"--draft-corpus", data_file("tokens/wide.tokens")}, 3, "wide.tokens: has tokens of another tokenizer");
}

TEST_F(BatchUsage, OfBothWaysToGivePromptsIsRefused) {
  EXPECT_EQ(run(batch(prompts(2), folder / "a.jsonl", {"--prompt", "a"})).code, 2);
  EXPECT_EQ(run({"generate", "--model", model, "--prompts", prompts(2)}).code, 2) << "without --output";
}

}  // namespace
