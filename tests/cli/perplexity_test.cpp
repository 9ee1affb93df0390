// `grist perplexity`: what is scored by each protocol, the same figure whoever shares the windows, and an early end.
#include "training_run.hpp"

#include "support/golden.hpp"

#include <cmath>
#include <cstdio>
#include <random>

namespace {

using namespace grist::test;
using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::StartsWith;

TEST(Perplexity, IsThatOfTheReference) {
  if (!std::filesystem::exists(smollm2_file())) GTEST_SKIP() << "no " << smollm2_file();
  const auto golden = nlohmann::json::parse(contents_of(data_file("smollm2/golden.json"))).at("perplexity");
  const auto out =
      quiet({"perplexity", "--model", smollm2_file().string(), "--file", data_file("text/sample.txt").string(),
             "--context", std::to_string(golden.at("context").get<int>()), "--windows", "1", "--dtype", "f32"});
  ASSERT_THAT(out, StartsWith("perplexity "));
  EXPECT_NEAR(std::log(std::stod(out.substr(11))), golden.at("window_nll")[0].get<double>(), 1e-3);
}

/// What `grist perplexity` says of a text with the tiny model: tokens scored, windows, the sum of their nll.
struct Scored {
  double nll = 0;
  int tokens = 0, windows = 0;
};

Scored scored(const std::string& text, std::vector<std::string> more) {
  more.insert(more.begin(), {"perplexity", "--model", tiny(), "--dtype", "f32", "--file", "-"});
  const auto out = quiet(more, 1, text);
  Scored result;
  double perplexity = 0, mean = 0;
  EXPECT_EQ(std::sscanf(out.c_str(), "perplexity %lf | mean nll %lf | %d tokens scored in %d windows", &perplexity,
                        &mean, &result.tokens, &result.windows),
            4)
      << out;
  EXPECT_NEAR(perplexity, std::exp(mean), 1e-3 * perplexity);
  result.nll = mean * result.tokens;
  return result;
}

TEST(Perplexity, CountsWhatItsHelpSays) {
  const std::string text =
      "the cat sat on the mat and the dog lay beside it all day long, and slept, and dreamt of cats";
  const auto ids = nlohmann::json::parse(quiet({"tokenize", "--model", tiny(), "--text", text, "--json",
                                                "--no-special"}));
  const int count = static_cast<int>(ids.size());
  ASSERT_GT(count, 40);
  const auto plain = scored(text, {"--context", "16"});
  EXPECT_EQ(plain.windows, count / 16);
  EXPECT_EQ(plain.tokens, count / 16 * 15);
  const auto bos = scored(text, {"--context", "16", "--bos"});
  EXPECT_EQ(bos.windows, count / 15);
  EXPECT_EQ(bos.tokens, count / 15 * 15);
  const auto llama_cpp = scored(text, {"--context", "16", "--protocol", "llama.cpp"});
  EXPECT_EQ(llama_cpp.windows, (count + 1) / 16);
  EXPECT_EQ(llama_cpp.tokens, (count + 1) / 16 * 7);
}

TEST(Perplexity, PutsBosInFrontAndLeavesOutTheFirstHalf) {
  const std::string text =
      "the cat sat on the mat and the dog lay beside it all day long, and slept, and dreamt of cats";
  // <s> written in the text is BOS: the first window is the same.
  const auto written = scored("<s>" + text, {"--context", "16", "--windows", "1"});
  EXPECT_NEAR(scored(text, {"--context", "16", "--windows", "1", "--bos"}).nll, written.nll, 1e-4);
  // Tokens 9 to 15 are scored: those of a window of 16 without those of a window of 9.
  const auto half = scored("<s>" + text, {"--context", "9", "--windows", "1"});
  const auto llama_cpp = scored(text, {"--context", "16", "--windows", "1", "--protocol", "llama.cpp"});
  EXPECT_NEAR(llama_cpp.nll, written.nll - half.nll, 1e-4);
  // A later window begins with BOS in place of its first token.
  const auto both = scored(text, {"--context", "16", "--windows", "2", "--protocol", "llama.cpp"});
  EXPECT_EQ(both.tokens, 14);
  EXPECT_GT(std::abs(both.nll - llama_cpp.nll), 1.0);
}

/// llama.cpp parses no special tokens in the text, and leaves out a last newline.
TEST(Perplexity, TakesSpecialTokensForTextAsLlamaCppDoes) {
  std::string ends;
  for (int i = 0; i < 40; ++i) ends += "</s>";
  EXPECT_EQ(scored(ends, {"--context", "16"}).windows, 40 / 16);
  const auto text = scored(ends, {"--context", "16", "--protocol", "llama.cpp"});
  EXPECT_GE(text.windows, 40 * 3 / 16);
  EXPECT_EQ(scored(ends + "\n", {"--context", "16", "--protocol", "llama.cpp"}).nll, text.nll);
}

TEST(Perplexity, RefusesATextThatIsTooShortForTheProtocol) {
  const std::vector<std::string> arguments = {"perplexity", "--model", tiny(), "--file", "-",
                                              "--context", "64", "--protocol", "llama.cpp"};
  const auto outcome = grist::test::grist(arguments, 1, "a short text");
  EXPECT_EQ(outcome.code, 3);
  EXPECT_THAT(outcome.err, HasSubstr("two windows, 128"));
}

class SharedWindows : public TrainingRun {
protected:
  /// So many words of a text, in windows of 16 tokens.
  [[nodiscard]] Words score(int count, const Words& more = {}) const {
    std::mt19937 draw(3);
    std::string words;
    for (int i = 0; i < count; ++i) {
      for (unsigned left = 1 + draw() % 7; left > 0; --left) words += static_cast<char>('a' + draw() % 26);
      words += ' ';
    }
    Words all{"perplexity", "--model", tiny(), "--dtype", "f32", "--context", "16", "--file",
              folder.write("words.txt", words)};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
};
using TwoRanksOfPerplexity = SharedWindows;

TEST_F(TwoRanksOfPerplexity, PrintTheSameFigureAtEveryLayout) {
  for (const Words& protocol : {Words{}, Words{"--protocol", "llama.cpp"}}) {
    auto given = score(400, protocol);
    given.insert(given.end(), {"--gemm", "portable"});  // a library may sum a share of the rows otherwise
    const auto alone = quiet(given);
    EXPECT_THAT(alone, MatchesRegex("perplexity .* in [0-9]+ windows of 16\n"));
    for (const Words& layout : {Words{"--dp", "2"}, Words{}, Words{"--pp", "2"}, Words{"--tp", "2"}}) {
      Words words = given;
      words.insert(words.end(), layout.begin(), layout.end());
      EXPECT_EQ(quiet(words, 2), alone) << testing::PrintToString(layout);
    }
  }
}

TEST_F(TwoRanksOfPerplexity, EndWithCode75WhereASignalComesToOneOfThem) {
  auto running = start_words(score(400'000), 2);
  const int pid = pid_of(1);
  ASSERT_TRUE(soon([&] { return listens(pid); }));
  ASSERT_EQ(kill(pid, SIGUSR1), 0);
  const auto outcome = running.get();
  EXPECT_EQ(outcome.code, 75) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  EXPECT_THAT(outcome.err, MatchesRegex("grist: error: stopped (after [0-9]+ of [0-9]+ windows; the same command "
                                        "begins anew|by a signal while loading the model; run the same command again)"
                                        "\n"));
}

/// It leaves three seconds of the wall time to end. Where a machine is so slow that nothing was scored, it has more
/// time; where it is so fast that nothing is left, more text.
TEST_F(SharedWindows, EndWithCode75AtTheWallTime) {
  int scored = 0, words = 400'000;
  for (int seconds = 4; scored == 0 && seconds < 60 && words < 50'000'000;) {
    const auto outcome = grist::test::grist(score(words, {"--max-walltime", std::format("00:00:{:02}", seconds)}));
    if (outcome.code == 0) {
      words *= 4;
      continue;
    }
    seconds *= 2;
    ASSERT_EQ(outcome.code, 75) << outcome.err;
    ASSERT_EQ(std::sscanf(outcome.err.c_str(), "grist: error: stopped after %d of", &scored), 1) << outcome.err;
  }
  EXPECT_GT(scored, 0);
  EXPECT_EQ(grist::test::grist(score(400, {"--max-walltime", "soon"})).code, 2);
}

TEST_F(TwoRanksOfPerplexity, ThatAreNoReplicasAreRefused) {
  const auto outcome = grist::test::grist(score(400, {"--dp", "3"}), 2);
  EXPECT_EQ(outcome.code, 2) << outcome.err;
}

}  // namespace
