// The file of answers: whatever a killed program left of its last line, the next start has each answer once.
#include "answer_file.hpp"

#include "support/files.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace {

using namespace grist;
using cli::AnswerFile;
using cli::PromptLine;

PromptLine prompt(const nlohmann::json& id, std::vector<int> ids) {
  PromptLine line{id, {}};
  line.request.prompt = std::move(ids);
  return line;
}

std::string answer(const PromptLine& line) {
  const nlohmann::ordered_json json{{"id", line.id},
                                    {"prompt_ids", line.request.prompt},
                                    {"new_ids", {4, 5}},
                                    {"text", "a \"quoted\"\nline, \xc3\xa4"},
                                    {"finish", "stop"}};
  return json.dump();
}

class Answers : public testing::Test {
protected:
  /// What one start does: answers what has no answer yet. How many it answered.
  std::size_t start() {
    AnswerFile answers(file);
    const auto left = answers.without_answered(prompts);
    for (const auto& line : left) answers.append(answer(line));
    return left.size();
  }

  const test::TemporaryFolder folder;
  const std::string file = folder / "answers.jsonl";
  std::vector<PromptLine> prompts{prompt("a, \"b\": {\xc3\xa4", {3, 4}), prompt(7, {5})};
};

TEST_F(Answers, OfAFileThatIsCutAtAnyByteOfItsLastLineAreCompletedAndNoneIsThereTwice) {
  for (int order = 0; order < 2; ++order, std::ranges::reverse(prompts)) {
    std::filesystem::remove(file);
    ASSERT_EQ(start(), prompts.size());
    const std::string whole = test::contents_of(file);
    ASSERT_EQ(std::ranges::count(whole, '\n'), std::ssize(prompts));
    for (std::size_t bytes = whole.rfind('\n', whole.size() - 2) + 1; bytes < whole.size(); ++bytes) {
      test::write_file(file, whole.substr(0, bytes));
      ASSERT_EQ(start(), 1U) << bytes << " bytes";
      ASSERT_EQ(test::contents_of(file), whole) << bytes << " bytes";
    }
    EXPECT_EQ(start(), 0U);
  }
}

TEST_F(Answers, TellWhetherALineWasCutOff) {
  start();
  {
    AnswerFile whole(file);
    EXPECT_EQ(whole.without_answered(prompts).size(), 0U);
    EXPECT_FALSE(whole.cut_off());
  }
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 1);
  AnswerFile answers(file);
  EXPECT_EQ(answers.without_answered(prompts).size(), 1U);
  EXPECT_TRUE(answers.cut_off());
}

TEST_F(Answers, AreWrittenByOneStartAtATime) {
  AnswerFile first(file);
  EXPECT_THROW(AnswerFile{file}, InputError);
}

}  // namespace
