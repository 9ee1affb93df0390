// Guesses leave every answer as it is, and what they gave is told.
#include "batch_run.hpp"

namespace {

using namespace grist::test;
using testing::HasSubstr;

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

TEST_F(TwoRanksOfGuesses, FromACorpusOrByADraftModelLeaveTheAnswersOfEveryLayout) {
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

TEST_F(Guesses, OfWrongSourcesAreRefused) {
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

}  // namespace
