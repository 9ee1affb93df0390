// The grid: tp varies fastest, each axis' communicator holds the ranks that differ in it alone.
#include <grist/comm/process_grid.hpp>
#include <grist/core/errors.hpp>

#include <support/ranks.hpp>

#include <gtest/gtest.h>

namespace {

using grist::Layout;
using grist::ProcessGrid;
using grist::test::ranks;
using grist::test::world;

std::vector<Layout> layouts() {
  std::vector<Layout> all;
  for (int tp = 1; tp <= ranks(); tp *= 2)
    for (int pp = 1; pp * tp <= ranks(); pp *= 2)
      if (ranks() % (pp * tp) == 0) all.push_back({.dp = ranks() / (pp * tp), .pp = pp, .tp = tp});
  return all;
}

TEST(ProcessGrid, CoordinatesGiveTheRankBack) {
  for (const auto& layout : layouts()) {
    const ProcessGrid grid(world(), layout);
    EXPECT_EQ(grid.tp().size(), layout.tp);
    EXPECT_EQ(grid.pp().size(), layout.pp);
    EXPECT_EQ(grid.dp().size(), layout.dp);
    EXPECT_EQ((grid.dp().rank() * layout.pp + grid.pp().rank()) * layout.tp + grid.tp().rank(), grid.world().rank());
  }
}

TEST(ProcessGrid, AnAxisJoinsExactlyTheRanksThatDifferInItAlone) {
  for (const auto& layout : layouts()) {
    const ProcessGrid grid(world(), layout);
    const int world = grid.world().rank();
    EXPECT_EQ(grid.tp().all_reduce(world, grist::Reduction::max), world - grid.tp().rank() + layout.tp - 1);
    EXPECT_EQ(grid.pp().all_reduce(world, grist::Reduction::max),
              world + (layout.pp - 1 - grid.pp().rank()) * layout.tp);
  }
}

TEST(ProcessGrid, ALayoutThatDoesNotFitIsRefusedWithTheNumbers) {
  try {
    const ProcessGrid grid(world(), {.pp = ranks() + 1, .tp = 1});
    FAIL() << "no error";
  } catch (const grist::UsageError& error) {
    const int needed = ranks() + 1;
    EXPECT_EQ(error.what(),
              grist::has_mpi
                  ? std::format("layout pp={} needs {} ranks, {} were started; start them with `mpirun -n {}`", needed,
                                needed, ranks(), needed)
                  : "layout pp=2 needs 2 ranks, and this grist was built without MPI: one rank is all it has");
  }
  EXPECT_THROW(ProcessGrid(world(), {.tp = 0}), grist::UsageError);
}

}  // namespace
