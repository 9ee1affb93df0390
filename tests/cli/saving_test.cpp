// Checkpoints of `grist train` that cannot be written, or read: what is said, and what goes on.
#include "training_run.hpp"
#include "train/hdf5_edit.hpp"

#include <sys/resource.h>
#include <unistd.h>

namespace {

using namespace grist::test;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

using Saving = TrainingRun;
using TwoRanksOfSaving = TrainingRun;

int count_lines(const std::string& text) { return static_cast<int>(std::ranges::count(text, '\n')); }

/// From now on the files of a process end at so many bytes, as on a full disk, or under a quota.
bool limit_files(int pid, rlim_t bytes) {
  const rlimit limit{bytes, RLIM_INFINITY};
  return prlimit(pid, RLIMIT_FSIZE, &limit, nullptr) == 0;
}

/// Two checkpoints, of steps 2 and 4, and the losses of a run that went on.
class Resuming : public TrainingRun {
protected:
  Resuming() {
    EXPECT_EQ(train({"--steps", "6"}).code, 0);
    undisturbed = losses();
    EXPECT_EQ(train({"--steps", "4", "--checkpoint", checkpoints, "--save-every", "2"}).code, 0);
    whole = contents_of(checkpoint(4));
    std::filesystem::copy_file(model + "/config.json", folder / "config.json");
    edit_json(folder / "config.json", [](nlohmann::json& json) { json["intermediate_size"] = 80; });
    quiet({"init", "--config", folder / "config.json", "--out", folder / "model"});
    quiet({"convert", folder / "model", folder / "other.h5"});
    other = contents_of(folder / "other.h5");
  }
  /// Ways to spoil the newest one, and what is said of it.
  struct Case {
    std::function<void()> spoil;
    std::string said;
  };
  std::vector<Case> cases() const {
    const std::string newest = checkpoint(4);
    return {{[=, this] { write_file(newest, whole.substr(0, whole.size() / 2)); }, "no complete HDF5 file"},
            {[=, this] { write_file(newest, whole.substr(0, whole.size() - 1)); }, "no complete HDF5 file"},
            {[=, this] { write_file(newest, ""); }, "no complete HDF5 file"},
            {[=, this] {
               auto flipped = whole;
               flipped[place_of(newest, "/optimizer/v/model.layers.1.mlp.down_proj.weight") + 321] ^= 16;
               write_file(newest, flipped);
             },
             "'/optimizer/v/model.layers.1.mlp.down_proj.weight' was damaged"},
            {[=] { remove_object(newest, "/model/model.norm.weight"); }, "'model.norm.weight' is missing in '/model'"},
            {[=, this] { write_file(newest, other); }, "the model wants"}};
  }

  std::vector<std::pair<int, double>> undisturbed;
  std::string whole, other;  // the newest one, and one of a model with other widths
};

TEST_F(Resuming, FromABrokenCheckpointEndsInOneLine) {
  for (const auto& [spoil, said] : cases()) {
    SCOPED_TRACE(said);
    write_file(checkpoint(4), whole);
    spoil();
    for (int ranks = 1; ranks <= most_ranks(); ++ranks) {
      const auto outcome = train({"--resume", checkpoint(4)}, ranks);
      EXPECT_EQ(outcome.code, 3) << outcome.err;
      EXPECT_THAT(outcome.err, AllOf(HasSubstr("step_000000004.h5"), HasSubstr(said)));
      EXPECT_EQ(count_lines(outcome.err), 1) << outcome.err;
    }
  }
}

TEST_F(Resuming, AutoTakesTheOneBeforeABrokenOneAndSaysSo) {
  for (const auto& [spoil, said] : cases()) {
    SCOPED_TRACE(said);
    write_file(checkpoint(4), whole);
    spoil();
    const auto outcome = train({"--steps", "6", "--checkpoint", checkpoints, "--resume", "auto", "--keep", "9"},
                               most_ranks());
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.err, AllOf(HasSubstr("grist: note: "), HasSubstr("step_000000004.h5"), HasSubstr(said)));
    const auto found = losses();
    ASSERT_EQ(found.size(), undisturbed.size());
    for (std::size_t i = 0; i < found.size(); ++i)
      EXPECT_NEAR(found[i].second, undisturbed[i].second, 1e-5 * undisturbed[i].second) << "step " << i + 1;
    std::filesystem::remove(checkpoint(6));
  }
  for (const int step : {2, 4}) write_file(checkpoint(step), "x");
  const auto outcome = train({"--checkpoint", checkpoints, "--resume", "auto"});
  EXPECT_EQ(outcome.code, 3) << "to begin anew would overwrite what may be saved yet";
  EXPECT_THAT(outcome.err, HasSubstr("none of 2 checkpoints can be read"));
}

TEST_F(Saving, AJobThatIsShorterThanThePeriodIsSavedAtItsEnd) {
  EXPECT_EQ(train({"--steps", "3", "--checkpoint", checkpoints, "--save-every", "100"}).code, 0);
  EXPECT_EQ(newest(), 3);
}

/// Files that cannot grow, as on a full disk; then they can again.
TEST_F(TwoRanksOfSaving, OnAFullDiskSaySoGoOnAndTryAgain) {
  ASSERT_EQ(train({"--steps", "3", "--checkpoint", checkpoints}, 2).code, 0);
  auto running = start({"--steps", "1000000", "--checkpoint", checkpoints, "--save-every", "200", "--resume", "auto",
                        "--log-every", "200"},
                       2);
  const auto reach = [&](int step) { return soon([&] { return !losses().empty() && losses().back().first >= step; }); };
  ASSERT_TRUE(reach(4));
  for (const int rank : {0, 1}) ASSERT_TRUE(limit_files(pid_of(rank), 1'000'000));
  // The first save is due at step 200: until then a period is a long time for a job.
  ASSERT_TRUE(reach(201));
  EXPECT_EQ(newest(), 3);
  quiet({"inspect", checkpoint(3), "--verify"});
  for (const int rank : {0, 1}) ASSERT_TRUE(limit_files(pid_of(rank), RLIM_INFINITY));
  EXPECT_TRUE(soon([&] { return newest() > 200; }));
  EXPECT_LT(newest(), 400) << "tried again before the next one was due";
  ASSERT_EQ(kill(pid_of(0), SIGTERM), 0);
  const auto outcome = running.get();
  EXPECT_EQ(outcome.code, 75) << outcome.err;
  const char* reason = told_by_info("Open MPI") ? "MPI_File_set_size failed" : "File too large";  // its files tell none
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("step 200: not saved: "), HasSubstr(reason),
                                 HasSubstr("saved; the same command")));
  const auto all = losses();
  for (std::size_t i = 0; i < all.size(); ++i) ASSERT_EQ(all[i].first, static_cast<int>(i) + 1);
}

TEST_F(TwoRanksOfSaving, WhoseFolderMayNotBeWrittenSaySoGoOnAndTryAgain) {
  using std::filesystem::perms;
  ASSERT_EQ(train({"--steps", "3", "--checkpoint", checkpoints}, 2).code, 0);
  permissions(std::filesystem::path(checkpoints), perms::owner_read | perms::owner_exec);
  // Root may write everywhere, unless it gives that up.
  auto running = start({"--steps", "1000000", "--checkpoint", checkpoints, "--save-every", "5", "--resume", "auto"}, 2,
                       "", geteuid() == 0 ? "setpriv --bounding-set -dac_override,-dac_read_search" : "");
  ASSERT_TRUE(soon([&] { return losses().size() >= 8; }));
  EXPECT_EQ(newest(), 3);
  permissions(std::filesystem::path(checkpoints), perms::owner_all);
  EXPECT_TRUE(soon([&] { return newest() > 5; }));
  ASSERT_EQ(kill(pid_of(1), SIGTERM), 0);
  const auto outcome = running.get();
  EXPECT_EQ(outcome.code, 75) << outcome.err;
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("step 5: not saved: "), HasSubstr("Permission denied")));
}

TEST_F(Saving, MetricsThatCannotBeWrittenAreToldOnceAndWait) {
  auto running = start({"--steps", "1000000"}, 1);
  ASSERT_TRUE(soon([&] { return lines().size() > 3; }));
  const auto size = [&] { return std::filesystem::file_size(metrics); };
  ASSERT_TRUE(limit_files(pid_of(0), size() + 100));
  ASSERT_TRUE(soon([&, last = size()]() mutable { return std::exchange(last, size()) == size(); }));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const auto written = lines().size();
  ASSERT_TRUE(limit_files(pid_of(0), RLIM_INFINITY));
  ASSERT_TRUE(soon([&] { return lines().size() > written + 3; }));
  ASSERT_EQ(kill(pid_of(0), SIGTERM), 0);
  const auto outcome = running.get();
  EXPECT_EQ(outcome.code, 1) << outcome.err << "nothing was saved";
  const std::string said = "metrics.jsonl: cannot be written: ";
  EXPECT_THAT(outcome.err, HasSubstr(said));
  EXPECT_EQ(outcome.err.find(said), outcome.err.rfind(said));
  const auto all = losses();
  for (std::size_t i = 0; i < all.size(); ++i) ASSERT_EQ(all[i].first, static_cast<int>(i) + 1);
}

TEST_F(TwoRanksOfSaving, ThatCannotRemoveAnOldCheckpointSaySoAndAreDone) {
  std::filesystem::create_directories(checkpoint(1) + "/not_empty");
  const auto outcome = train({"--steps", "4", "--checkpoint", checkpoints, "--save-every", "2", "--keep", "1"}, 2);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("step_000000001.h5: cannot be removed"), HasSubstr("step 4: saved")));
}

}  // namespace
