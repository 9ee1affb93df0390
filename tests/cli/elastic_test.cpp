// Training that goes on at another number of ranks, in the middle of a later epoch: nobody can tell from its losses.
#include "training_run.hpp"

#include <format>

namespace {

using namespace grist::test;

using SeveralRanksOfRuns = TrainingRun;

/// A node less, and back again.
TEST_F(SeveralRanksOfRuns, GoOnWithOneLessAndOneMoreInALaterEpoch) {
  const std::string whole = contents_of(text), tokens = folder / "documents.tokens";
  Words tokenize = {"tokenize", "--model", model, "--output", tokens};
  for (std::size_t i = 0; i < 7; ++i) {  // documents of unequal lengths
    tokenize.emplace_back("--file");
    tokenize.push_back(folder.write(std::format("{}.txt", i), whole.substr(500 * i, 40 + 20 * i)));
  }
  const std::string said = quiet(tokenize);  // FILE: 7 documents, N tokens
  const int epoch = std::stoi(said.substr(said.find("documents, ") + 11)) / 32 / 6;
  ASSERT_LE(epoch, 3) << "steps: runs end and begin in the middle of later epochs";
  const auto run = [&](int steps, const std::string& zero, const Words& more, int ranks) {
    Words all = {"--data",  tokens,  "--order", "shuffled",           "--batch",
                 "6",       "--steps", std::to_string(steps), "--zero", zero, "--check-replicas"};
    all.insert(all.end(), more.begin(), more.end());
    const auto outcome = train(all, ranks);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
  };
  run(16, "0", {}, 1);
  const auto undisturbed = losses();
  for (const std::string zero : {"0", "1"}) {
    std::filesystem::remove(metrics);
    std::filesystem::remove_all(checkpoints);
    run(7, zero, {"--checkpoint", checkpoints}, 3);
    run(11, zero, {"--checkpoint", checkpoints, "--resume", "auto"}, 2);
    run(16, zero, {"--checkpoint", checkpoints, "--resume", "auto"}, 3);
    const auto found = losses();
    ASSERT_EQ(found.size(), undisturbed.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i].first, static_cast<int>(i) + 1);
      EXPECT_NEAR(found[i].second, undisturbed[i].second, 1e-5 * undisturbed[i].second) << "step " << i + 1;
    }
  }
}

}  // namespace
