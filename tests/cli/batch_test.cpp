// Batch inference: every prompt of a file has one answer, the one that it has alone, whatever shares the machine and
// however often the work is stopped.
#include "batch_run.hpp"

namespace {

using namespace grist::test;
using namespace std::chrono_literals;
using testing::AllOf;
using testing::HasSubstr;

using TwoRanksOfBatches = Batch;

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

}  // namespace
