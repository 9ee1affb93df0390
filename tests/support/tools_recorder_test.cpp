// The recorder sees each thing that a layer must not do, and nothing where nothing is done.
#include <grist/core/view.hpp>
#include <support/tools_recorder.hpp>

#include <gtest/gtest.h>

namespace {

using grist::Exec;
using grist::Index;
using grist::test::ToolsRecorder;
using Strings = std::vector<std::string>;

TEST(ToolsRecorder, ATidyKernelLeavesItsLabelAndNothingElse) {
  const Exec exec;
  const grist::Buffer<float> buffer("test", 8);
  const auto view = buffer.view();
  const ToolsRecorder seen;
  const Kokkos::RangePolicy<Exec> range(exec, 0, 8);
  Kokkos::parallel_for("grist::test::tidy", range, KOKKOS_LAMBDA(Index i) { view(i) = 1; });
  EXPECT_EQ(seen.kernels, Strings{"grist::test::tidy"});
  EXPECT_EQ(seen.fences, Strings{});
  EXPECT_EQ(seen.allocations, Strings{});
  EXPECT_EQ(seen.copies, Strings{});
}

TEST(ToolsRecorder, EveryKindOfKernelIsSeen) {
  const Exec exec;
  const grist::Buffer<int> result("test", 1);
  const Kokkos::View<int, Exec::memory_space, Kokkos::MemoryUnmanaged> sum(result.data());
  const ToolsRecorder seen;
  const Kokkos::RangePolicy<Exec> range(exec, 0, 8);
  Kokkos::parallel_reduce("reduce", range, KOKKOS_LAMBDA(Index, int& n) { ++n; }, sum);
  Kokkos::parallel_scan("scan", range, KOKKOS_LAMBDA(Index, int& n, bool) { ++n; });
  EXPECT_EQ(seen.kernels, (Strings{"reduce", "scan"}));
}

TEST(ToolsRecorder, AFenceIsSeenByName) {
  const Exec exec;
  const ToolsRecorder seen;
  exec.fence("rogue fence");
  EXPECT_EQ(seen.fences, Strings{"rogue fence"});
}

TEST(ToolsRecorder, AFenceBehindAKernelIsSeenToo) {
  const Exec exec;
  const ToolsRecorder seen;
  Kokkos::parallel_for("kernel", Kokkos::RangePolicy<Exec>(exec, 0, 1), KOKKOS_LAMBDA(Index) {});
  exec.fence("rogue fence");
  EXPECT_EQ(seen.fences, Strings{"rogue fence"});
}

TEST(ToolsRecorder, AnAllocationIsSeenByLabel) {
  const ToolsRecorder seen;
  const grist::Buffer<float> buffer("rogue", 8);
  EXPECT_EQ(seen.allocations, Strings{"grist::rogue"});
}

TEST(ToolsRecorder, ACopyIsSeen) {
  const grist::Buffer<float> from("from", 8), to("to", 8);
  const ToolsRecorder seen;
  Kokkos::deep_copy(Exec(), to.view(), from.view());
  EXPECT_EQ(seen.copies.size(), 1);
}

TEST(ToolsRecorder, ItStopsWhenItEnds) {
  Strings kernels;
  {
    const ToolsRecorder seen;
    Kokkos::parallel_for("during", Kokkos::RangePolicy<Exec>(0, 1), KOKKOS_LAMBDA(Index) {});
    kernels = seen.kernels;
  }
  Kokkos::parallel_for("after", Kokkos::RangePolicy<Exec>(0, 1), KOKKOS_LAMBDA(Index) {});
  EXPECT_EQ(kernels, Strings{"during"});
}

}  // namespace
