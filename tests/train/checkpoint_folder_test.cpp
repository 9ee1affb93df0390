// Folders of checkpoints: the newest complete one is found, the others are kept or go.
#include "stored_model.hpp"
#include "support/refuses.hpp"
#include "support/shared_folder.hpp"

#include <grist/core/errors.hpp>
#include <grist/train/checkpoint_folder.hpp>

namespace {

using namespace grist;
using test::Refuses;

class CheckpointFolder : public testing::Test {
protected:
  CheckpointFolder()
      : files(open_model(test::data_file("tiny/llama2"))),
        table(tensor_table(files.spec, files.names)),
        model(files, table, {.dp = test::ranks()}) {
    model.fill();
  }
  void save(Index step) {
    save_checkpoint(exec, folder / checkpoint_name(step), *model.where, model.groups(), test::a_state(step),
                    model.grid);
  }
  std::optional<TrainingState> load() {
    return load_latest(exec, folder.path(), *model.where, model.groups(), model.grid,
                       [&](const std::string& text) { warnings.push_back(text); });
  }
  /// By the first rank alone, between all.
  template <class F>
  void once(F&& f) {
    model.grid.world().barrier();
    if (model.grid.world().rank() == 0) f();
    model.grid.world().barrier();
  }

  ModelFiles files;
  TensorTable table;
  test::StoredModel model;
  test::SharedFolder folder;
  std::vector<std::string> warnings;
  Exec exec;
};

TEST_F(CheckpointFolder, WithoutCheckpointsThereIsNone) {
  EXPECT_FALSE(load());
  EXPECT_FALSE(latest_checkpoint(folder / "nowhere", {}));
}

TEST_F(CheckpointFolder, TheNewestCompleteOneIsTakenWithAWarningForABrokenOne) {
  for (const Index step : {9, 10, 100}) save(step);
  once([&] { test::write_file(folder / (checkpoint_name(200) + ".part"), "a save that was killed"); });
  EXPECT_EQ(load()->step, 100);
  EXPECT_TRUE(warnings.empty());
  const auto newest = folder / checkpoint_name(100);
  once([&] { std::filesystem::resize_file(newest, std::filesystem::file_size(newest) - 1); });
  EXPECT_EQ(load()->step, 10);
  const auto newer = folder / checkpoint_name(10);
  once([&] {  // the last tensor's last byte
    auto bytes = test::contents_of(newer);
    bytes[bytes.size() - 100] ^= 1;
    test::write_file(newer, bytes);
  });
  warnings.clear();
  EXPECT_EQ(load()->step, 9);
  if (model.grid.world().rank() == 0) {
    ASSERT_EQ(warnings.size(), 2U) << "the first rank speaks";
    EXPECT_THAT(warnings[0], testing::HasSubstr(checkpoint_name(100)));
    EXPECT_THAT(warnings[1], testing::HasSubstr(checkpoint_name(10)));
    warnings.clear();
    EXPECT_EQ(latest_checkpoint(folder.path(), [&](const std::string& text) { warnings.push_back(text); })->filename(),
              checkpoint_name(10))
        << "numbers are not read";
    EXPECT_EQ(warnings.size(), 1U);
  } else {
    EXPECT_TRUE(warnings.empty());
  }
  once([&] { test::write_file(folder / checkpoint_name(9), "x"); });
  EXPECT_THAT([&] { load(); }, Refuses({"none of 3 checkpoints"}));
}

TEST_F(CheckpointFolder, TheLastAndEveryNthAreKept) {
  once([&] {
    for (const Index step : {50, 100, 130, 150, 200, 230, 231, 1000000000})
      test::write_file(folder / checkpoint_name(step), "");
    for (const char* other : {"step_1.h5", "step_000000007.h5.part", "notes.part", "step_00000000x.h5", "model.h5"})
      test::write_file(folder / other, "");
    EXPECT_THAT(checkpoint_steps(folder.path()),
                testing::ElementsAre(1000000000, 231, 230, 200, 150, 130, 100, 50));
    prune_checkpoints(folder.path(), 0, 0);
    EXPECT_EQ(checkpoint_steps(folder.path()).size(), 8U) << "0 keeps all";
    test::write_file(folder / "step_000000007.h5.part", "");
    prune_checkpoints(folder.path(), 2, 100);
    EXPECT_THAT(checkpoint_steps(folder.path()), testing::ElementsAre(1000000000, 231, 200, 100));
    EXPECT_FALSE(std::filesystem::exists(folder / "step_000000007.h5.part"));
    for (const char* other : {"step_1.h5", "notes.part", "step_00000000x.h5", "model.h5"})
      EXPECT_TRUE(std::filesystem::exists(folder / other)) << other << " is not ours";
    prune_checkpoints(folder.path(), 1, 0);
    EXPECT_THAT(checkpoint_steps(folder.path()), testing::ElementsAre(1000000000));
  });
}

}  // namespace
