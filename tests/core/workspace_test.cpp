// Buffer and Workspace: pieces do not touch, scopes give back, too much is refused with the sizes, poison shows.
#include <grist/core/errors.hpp>
#include <grist/core/workspace.hpp>

#include <gmock/gmock.h>

#include <cmath>
#include <cstdlib>

namespace {

using namespace grist;

std::uintptr_t address(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer); }

TEST(Buffer, SaysWhatItWantedWhereThereIsNoMemory) {
  try {
    const Buffer<double> buffer("too much", Index{1} << 50);
    FAIL() << "2^53 bytes were given";
  } catch (const MemoryError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("too much: 9007199254740992 bytes"));
  }
}

TEST(Workspace, IsEmptyUnlessGivenASize) {
  const Workspace none;
  EXPECT_EQ(none.capacity(), 0U);
  EXPECT_EQ(none.used(), 0U);
}

TEST(Workspace, TakesPiecesThatLieApartAndAligned) {
  Workspace workspace(4096);
  const Exec exec;
  const auto first = workspace.take<float>(exec, "first", 3);
  const auto second = workspace.take<bf16>(exec, "second", 5, 7);
  const auto third = workspace.take<double>(exec, "third", 2, 3, 4);
  EXPECT_EQ(first.extent(0), 3U);
  EXPECT_EQ(second.extent(1), 7U);
  EXPECT_EQ(third.extent(2), 4U);
  EXPECT_GE(address(second.data()), address(first.data() + first.size()));
  EXPECT_GE(address(third.data()), address(second.data() + second.size()));
  EXPECT_EQ((address(second.data()) - address(first.data())) % 256, 0U);
  EXPECT_EQ((address(third.data()) - address(first.data())) % 256, 0U);
  EXPECT_EQ(address(first.data()) % 64, 0U) << "a whole vector register, a whole cache line";
  EXPECT_EQ(workspace.used(), 3U * 256);
}

TEST(Workspace, PlansWhatItTakes) {
  Workspace workspace(1 << 16);
  const Exec exec;
  for (const Index size : {0, 1, 63, 64, 65, 1000}) {
    const std::size_t before = workspace.used();
    workspace.take<float>(exec, "piece", size);
    EXPECT_EQ(workspace.used() - before, Workspace::bytes_for<float>(size)) << size;
  }
  EXPECT_EQ(Workspace::bytes_for<float>(64), 256U);
  EXPECT_EQ(Workspace::bytes_for<float>(65), 512U);
}

TEST(Workspace, GivesBackAtTheEndOfAScope) {
  Workspace workspace(2048);
  const Exec exec;
  workspace.take<float>(exec, "kept", 64);
  const float* inner = nullptr;
  {
    const Workspace::Scope scope(workspace);
    inner = workspace.take<float>(exec, "scratch", 64).data();
    {
      const Workspace::Scope nested(workspace);
      workspace.take<float>(exec, "nested", 64);
      EXPECT_EQ(workspace.used(), 3U * 256);
    }
    EXPECT_EQ(workspace.used(), 2U * 256);
  }
  EXPECT_EQ(workspace.used(), 256U);
  EXPECT_EQ(workspace.take<float>(exec, "again", 64).data(), inner) << "the same memory serves again";
}

TEST(Workspace, RefusesMoreThanIsLeftAndStaysUsable) {
  Workspace workspace(512);
  const Exec exec;
  workspace.take<float>(exec, "first", 1);
  EXPECT_THAT(
      [&] { workspace.take<float>(exec, "scores", 65); },
      testing::ThrowsMessage<MemoryError>(testing::StrEq("workspace: 'scores' wants 512 bytes, 256 of 512 are left")));
  EXPECT_EQ(workspace.used(), 256U);
  EXPECT_NO_THROW(workspace.take<float>(exec, "fits", 64));
  EXPECT_THROW(workspace.take<float>(exec, "full", 1), MemoryError);
}

/// Whether a piece is all NaN when taken, also after something else was written where it lies.
template <class T>
bool is_nan_when_taken(const char* poison) {
  ::setenv("GRIST_WORKSPACE_POISON", poison, 1);
  Workspace workspace(1024);
  ::unsetenv("GRIST_WORKSPACE_POISON");
  const Exec exec;
  bool all = true;
  for (int turn = 0; turn < 2; ++turn) {
    const Workspace::Scope scope(workspace);
    const auto piece = workspace.take<T>(exec, "piece", 101);
    exec.fence("test");
    const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), piece);
    for (std::size_t i = 0; i < piece.extent(0); ++i) all = all && std::isnan(static_cast<float>(host(i)));
    Kokkos::deep_copy(exec, piece, T(1.0F));
    exec.fence("test");
  }
  return all;
}

TEST(Workspace, FillsEveryPieceWithNaNWhenPoisoned) {
  EXPECT_TRUE(is_nan_when_taken<float>("1"));
  EXPECT_TRUE(is_nan_when_taken<bf16>("1"));
  EXPECT_TRUE(is_nan_when_taken<f16>("1"));
  EXPECT_FALSE(is_nan_when_taken<float>("0"));
}

}  // namespace
