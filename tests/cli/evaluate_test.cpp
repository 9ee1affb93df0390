// `grist evaluate`: the figures of the reference at every layout, and which tasks it refuses.
#include "program.hpp"

#include "support/files.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace {

using namespace grist::test;
using testing::AllOf;
using testing::HasSubstr;

const std::string facts = data_file("evaluate/facts.jsonl").string();

/// The tiny model in f32, with these arguments.
Outcome evaluate(std::vector<std::string> more, int ranks = 1, const std::string& input = "") {
  more.insert(more.begin(), {"evaluate", "--model", tiny(), "--dtype", "f32"});
  return grist::test::grist(more, ranks, input);
}

nlohmann::json expected() { return nlohmann::json::parse(contents_of(data_file("evaluate/llama2.json"))); }

TEST(Evaluate, GivesTheFiguresOfTheReferenceAtEveryLayout) {
  const auto reference = expected();
  for (const auto& [tp, pp] : std::vector<std::pair<int, int>>{{1, 1}, {2, 1}, {1, 2}}) {
    if (tp * pp > most_ranks()) continue;
    SCOPED_TRACE(std::to_string(tp) + " x " + std::to_string(pp));
    const TemporaryFolder folder;
    const auto file = (folder.path() / "answers.jsonl").string();
    const auto outcome = evaluate({"--task", facts, "--output", file, "--json", "--tp", std::to_string(tp), "--pp",
                                   std::to_string(pp)}, tp * pp);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("4 choices are longer"));
    const auto figures = nlohmann::json::parse(outcome.out);
    for (const char* name : {"acc", "acc_stderr", "acc_norm", "acc_norm_stderr"})
      EXPECT_NEAR(figures.at(name).get<double>(), reference.at(name).get<double>(), 1e-12) << name;
    EXPECT_EQ(figures.at("questions"), 25);
    EXPECT_EQ(figures.at("cut_choices"), 4);
    std::istringstream lines(contents_of(file));
    std::size_t number = 0;
    for (std::string line; std::getline(lines, line); ++number) {
      const auto found = nlohmann::json::parse(line);
      const auto& right = reference.at("questions").at(number);
      for (const char* name : {"id", "pred", "pred_norm", "gold"}) EXPECT_EQ(found.at(name), right.at(name)) << line;
      for (std::size_t i = 0; i < right.at("loglikelihoods").size(); ++i)
        EXPECT_NEAR(found.at("loglikelihoods").at(i).get<double>(), right.at("loglikelihoods")[i].get<double>(), 2e-3);
    }
    EXPECT_EQ(number, 25U);
  }
}

/// What each question gave, in the order of the file, to the last bit.
TEST(SeveralRanksOfQuestions, OfWhichReplicasShareTheQuestionsGiveTheSame) {
  const TemporaryFolder folder;
  const auto all = [&](int ranks, const std::vector<std::string>& layout) {
    const std::string file = folder / "answers.jsonl";
    std::vector<std::string> words{"--task", facts, "--output", file, "--json"};
    words.insert(words.end(), layout.begin(), layout.end());
    const auto outcome = evaluate(words, ranks);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome.out + contents_of(file);
  };
  const auto alone = all(1, {});
  EXPECT_EQ(all(2, {"--dp", "2"}), alone);
  EXPECT_EQ(all(2, {}), alone) << "ranks that are left over are replicas";
}

TEST(Evaluate, EndsWithCode75AtTheWallTime) {
  const auto outcome = evaluate({"--task", facts, "--max-walltime", "00:00:01"});  // less than it takes to end
  EXPECT_EQ(outcome.code, 75);
  EXPECT_EQ(outcome.out, "");
  EXPECT_THAT(outcome.err, HasSubstr("stopped after 0 of 25 questions; the same command begins anew"));
}

TEST(Evaluate, PrintsATable) {
  const auto outcome = evaluate({"--task", facts, "--limit", "10", "--num-fewshot", "0"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.err, "");
  EXPECT_EQ(outcome.out,
            "task   questions  metric     value  stderr\n"
            "facts         10  acc       0.4000  0.1633\n"
            "                  acc_norm  0.3000  0.1528\n");
}

TEST(Evaluate, HasNoStandardErrorOfOneQuestion) {
  const std::string line = R"({"query": "a", "choices": ["b", "c"], "gold": 1})";
  const auto outcome = evaluate({"--task", "-", "--json"}, 1, line);
  const auto figures = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(figures.at("questions"), 1);
  EXPECT_TRUE(figures.at("acc_stderr").is_null());
  EXPECT_THAT(evaluate({"--task", "-"}, 1, line).out, HasSubstr("N/A"));
}

TEST(Evaluate, RefusesALineByNameAndNumber) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> lines = {
      {R"({"query": "a", "choices": ["b", "c"], "gold": 0, "answer": 1})", {"the key 'answer' is not understood"}},
      {R"({"query": "a", "context": "a", "choices": ["b", "c"], "gold": 0})", {"query and context"}},
      {R"({"choices": ["b", "c"], "gold": 0})", {"neither query nor context"}},
      {R"({"query": "a", "gold": 0})", {"'choices' is missing"}},
      {R"({"query": "a", "choices": ["b", "c"]})", {"'gold' is missing"}},
      {R"({"query": 3, "choices": ["b", "c"], "gold": 0})", {"'query' is a JSON number, expected a string"}},
      {R"({"query": "a", "choices": "b", "gold": 0})", {"'choices': found string, expected an array"}},
      {R"({"query": "a", "choices": ["b", 2], "gold": 0})", {"'choices'[1] is a JSON number"}},
      {R"({"query": "a", "choices": ["b", ""], "gold": 0})", {"'choices'[1] is empty"}},
      {R"({"query": "a", "choices": ["b"], "gold": 0})", {"'choices' has 1, expected two or more"}},
      {R"({"query": "a", "choices": ["b", "c"], "gold": 2})", {"'gold' is 2, expected the number of a choice, 0 to 1"}},
      {R"({"query": "a", "choices": ["b", "c"], "gold": -1})", {"'gold' is -1"}},
      {R"({"query": "a", "choices": ["b", "c"], "gold": "b"})", {"'gold' is \"b\""}},
      {R"({"query": "a", "choices": ["b", "c"], "gold": 0, "id": [1]})", {"'id': found array"}},
      {R"({"query": "a", "query": "b", "choices": ["b", "c"], "gold": 0})", {"the key 'query' is there twice"}},
      {R"({"query": "a", "choices": ["b", "c"], "gold": 0, "id": 0})", {"id 0 is that of line 1 too"}},
      {R"({"query": "a")", {"not valid JSON"}},
      {R"(["a"])", {"is a JSON array, expected an object"}}};
  const std::string good = R"({"query": "a", "choices": ["b", "c"], "gold": 0})";
  for (const auto& [line, words] : lines) {
    const TemporaryFolder folder;
    const auto file = (folder.path() / "task.jsonl").string();
    write_file(file, good + "\n\n" + line + "\n");
    const auto outcome = evaluate({"--task", file});
    EXPECT_EQ(outcome.code, 3) << line;
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err, HasSubstr(file + ", line 3: "));
    for (const auto& word : words) EXPECT_THAT(outcome.err, HasSubstr(word));
  }
}

TEST(Evaluate, RefusesWhatIsNoTask) {
  EXPECT_EQ(evaluate({"--task", "/nowhere.jsonl"}).code, 3);
  EXPECT_THAT(evaluate({"--task", "-"}).err, HasSubstr("holds no questions"));
  const auto few = evaluate({"--task", facts, "--num-fewshot", "5"});
  EXPECT_EQ(few.code, 2);
  EXPECT_THAT(few.err, HasSubstr("examples stand in each line's query"));
  EXPECT_EQ(evaluate({"--task", facts, "--context", "257"}).code, 2);
  const TemporaryFolder folder;
  const std::string line = R"({"query": "a", "choices": ["b", "c"], "gold": 1})";
  const auto task = folder.write("task.jsonl", line);
  const auto over = evaluate({"--task", task, "--output", folder.path() / "." / "task.jsonl"});
  EXPECT_EQ(over.code, 3);
  EXPECT_THAT(over.err, HasSubstr("is an input of this command; give --output another file"));
  EXPECT_EQ(contents_of(task), line);
  EXPECT_THAT(evaluate({"--task", facts, "--context", "4"}).err, AllOf(HasSubstr("line 1: "), HasSubstr("context 4")));
}

}  // namespace
