// Training that is killed, by kill -9 of any rank at any instant, also in the middle of a save. GRIST_KILLS=100: so
// often.
#include "training_run.hpp"

#include <cstdlib>
#include <iostream>
#include <random>

namespace {

using namespace grist::test;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

int kills() {
  const char* const text = std::getenv("GRIST_KILLS");
  return text == nullptr ? 6 : std::atoi(text);
}

class TwoRanksOfKills : public TrainingRun {
protected:
  /// What a checkpoint holds: every tensor's checksum, held against its numbers.
  [[nodiscard]] std::string tensors(int step) const {
    const std::string all = quiet({"inspect", checkpoint(step), "--verify"});
    return all.substr(all.find("/model/"));
  }
  [[nodiscard]] bool writing() const {
    for (const auto& entry : std::filesystem::directory_iterator(checkpoints))
      if (entry.path().extension() == ".part") return true;
    return false;
  }
};

TEST_F(TwoRanksOfKills, KilledAtAnyInstantLoseTheStepsSinceTheLastCheckpointAlone) {
  const unsigned seed = std::random_device()();
  std::mt19937 draw(seed);
  SCOPED_TRACE(std::format("seed {}", seed));
  const std::vector<Words> layouts = {{"--dp", "2", "--zero", "1"}, {"--tp", "2"}, {"--pp", "2"}};
  std::chrono::milliseconds slowest = 0ms;
  int in_saves = 0;
  for (std::size_t i = 0; i < layouts.size(); ++i) {
    SCOPED_TRACE(layouts[i].front());
    const auto run = [&](const std::string& steps, const Words& more) {
      Words all = layouts[i];
      all.insert(all.end(), {"--steps", steps, "--checkpoint", checkpoints});
      all.insert(all.end(), more.begin(), more.end());
      return all;
    };
    for (int left = (kills() + static_cast<int>(i)) / static_cast<int>(layouts.size()); left > 0; --left) {
      auto running = start(run("1000000", {"--save-every", "1", "--resume", "auto"}), 2);
      const int victim = std::uniform_int_distribution(0, 1)(draw);
      const int pids[] = {pid_of(0), pid_of(1)};
      ASSERT_TRUE(pids[0] > 0 && pids[1] > 0);
      std::this_thread::sleep_for(std::uniform_int_distribution(0, 2000)(draw) * 1ms);
      const auto begin = Clock::now();
      ASSERT_EQ(kill(pids[victim], SIGKILL), 0);
      const auto outcome = running.get();
      slowest = std::max(slowest, std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin));
      EXPECT_NE(outcome.code, 0);
      EXPECT_TRUE(outcome.all_gone);
      EXPECT_EQ(outcome.err.find("damaged"), std::string::npos) << outcome.err;
      EXPECT_EQ(outcome.err.find("no complete"), std::string::npos) << outcome.err;
      in_saves += std::filesystem::exists(checkpoints) && writing();
      const auto all = losses();
      const int done = all.empty() ? 0 : all.back().first;
      EXPECT_GE(newest(), done - 1) << "of the step before the one that was killed";
      if (const int step = newest(); step > 0) {
        EXPECT_NE(tensors(step), "");
      }
    }
    const int steps = newest() + 3;
    const auto last = train(run(std::to_string(steps), {"--resume", "auto"}), 2);
    ASSERT_EQ(last.code, 0) << last.err;
    const auto disturbed = losses();
    const std::string weights = tensors(steps);
    std::filesystem::remove_all(checkpoints);
    std::filesystem::remove(metrics);
    ASSERT_EQ(train(run(std::to_string(steps), {}), 2).code, 0);
    EXPECT_EQ(losses(), disturbed) << "each step once, with its bits";
    EXPECT_EQ(tensors(steps), weights);
    std::filesystem::remove_all(checkpoints);
    std::filesystem::remove(metrics);
  }
  EXPECT_LT(slowest, 10s);
  std::cout << kills() << " kills, " << in_saves << " of them in a save; all ranks were gone " << slowest.count()
            << " ms later at most\n";
}

}  // namespace
