// A signal is heard wherever it comes: in a step, in an evaluation, in a save, while a text becomes tokens.
#include "training_run.hpp"

#include <random>

namespace {

using namespace grist::test;
using namespace std::chrono_literals;
using testing::HasSubstr;

using TwoRanksOfSignals = TrainingRun;

/// Steps are short here: nearly all of the time is evaluation and saving.
TEST_F(TwoRanksOfSignals, SaveTheStepInWhichASignalComesToOneOfThem) {
  const unsigned seed = std::random_device()();
  std::mt19937 draw(seed);
  SCOPED_TRACE(std::format("seed {}", seed));
  for (const int signal : {SIGTERM, SIGUSR1, SIGUSR2, SIGHUP}) {
    auto running = start({"--steps", "1000000", "--checkpoint", checkpoints, "--save-every", "2", "--eval-data", text,
                          "--eval-every", "1", "--resume", "auto", "--sequence", "64"},
                         2);
    const auto before = lines().size();
    ASSERT_TRUE(soon([&] { return lines().size() > before + 2; }));
    std::this_thread::sleep_for(std::uniform_int_distribution(0, 300)(draw) * 1ms);
    ASSERT_EQ(kill(pid_of(std::uniform_int_distribution(0, 1)(draw)), signal), 0);
    const auto outcome = running.get();
    EXPECT_EQ(outcome.code, 75) << outcome.err;
    EXPECT_EQ(outcome.out, "") << "UCX answers SIGHUP there";
    const auto all = losses();
    EXPECT_EQ(newest(), all.back().first);
    for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i].first, static_cast<int>(i) + 1);
    EXPECT_THAT(outcome.err, HasSubstr(std::format("stopped after step {} of 1000000, saved", newest())));
    const std::string saved = std::format("step {}: saved", newest());
    EXPECT_EQ(outcome.err.find(saved), outcome.err.rfind(saved)) << "not twice";
  }
}

/// As where a scheduler warns, and ends the job while it saves.
TEST_F(TwoRanksOfSignals, MayComeTwice) {
  auto running = start({"--steps", "1000000", "--checkpoint", checkpoints}, 2);
  ASSERT_TRUE(soon([&] { return lines().size() > 2; }));
  for (const int signal : {SIGUSR1, SIGTERM, SIGTERM}) ASSERT_EQ(kill(pid_of(0), signal), 0);
  const auto outcome = running.get();
  EXPECT_EQ(outcome.code, 75) << outcome.err;
  EXPECT_EQ(newest(), losses().back().first);
}

using Signals = TrainingRun;

TEST_F(Signals, OfATerminalThatIsClosedAreNotHeardUnderNohup) {
  auto running = start({"--steps", "1000000", "--checkpoint", checkpoints}, 1, "trap '' HUP; ");
  ASSERT_TRUE(soon([&] { return lines().size() > 2; }));
  ASSERT_EQ(kill(pid_of(0), SIGHUP), 0);
  const auto before = lines().size();
  ASSERT_TRUE(soon([&] { return lines().size() > before + 2; }));
  ASSERT_EQ(kill(pid_of(0), SIGTERM), 0);
  EXPECT_EQ(running.get().code, 75);
}

TEST_F(Signals, AreHeardWhileTheProgramStarts) {
  auto running = start({"--steps", "1000000", "--checkpoint", checkpoints}, 1);
  const int pid = pid_of(0);
  ASSERT_TRUE(soon([&] { return listens(pid); }));
  ASSERT_EQ(kill(pid, SIGTERM), 0);
  EXPECT_EQ(running.get().code, 75);
}

/// Texts that take seconds to become tokens.
class LongTexts : public TrainingRun {
protected:
  LongTexts() {
    std::mt19937 draw(1);
    std::string words;
    while (words.size() < 30'000'000) {
      for (unsigned left = 3 + draw() % 12; left > 0; --left) words += static_cast<char>('a' + draw() % 26);
      words += ' ';
    }
    large = folder.write("large.txt", words);
  }
  /// How it ends, and how long after the signal.
  std::pair<Outcome, std::chrono::duration<double>> interrupted(const Words& given) const {
    auto running = start_words(given, 1);
    const int pid = pid_of(0);
    EXPECT_TRUE(soon([&] { return listens(pid); }));
    std::this_thread::sleep_for(300ms);
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(kill(pid, SIGTERM), 0);
    auto outcome = running.get();
    return {std::move(outcome), std::chrono::steady_clock::now() - begin};
  }
  std::string large;
};

TEST_F(LongTexts, AreNotReadToTheirEndAfterASignal) {
  const auto [training, trained_for] = interrupted(words({"--data", large}));
  EXPECT_EQ(training.code, 75) << training.err;
  EXPECT_THAT(training.err, HasSubstr("stopped by a signal while tokenizing"));
  EXPECT_LT(trained_for, 10s);
  const auto [tokenizing, tokenized_for] = interrupted(
      {"tokenize", "--model", model, "--file", text, "--file", large, "--output", folder / "large.tokens"});
  EXPECT_EQ(tokenizing.code, 75) << tokenizing.err;
  EXPECT_THAT(tokenizing.err, HasSubstr("stopped by a signal after 1 documents"));
  EXPECT_LT(tokenized_for, 10s);
}

}  // namespace
