// The recorder sees each thing that a layer must not do, and nothing where nothing is done.
#include <grist/core/view.hpp>
#include <support/tools_recorder.hpp>

#include <gtest/gtest.h>

namespace {

using grist::Exec;
using grist::Index;
using grist::test::ToolsRecorder;
using Strings = std::vector<std::string>;

// Device compilers take no kernel in the body of a test, which is private.
struct Nothing {
  KOKKOS_FUNCTION void operator()(Index) const {}
  KOKKOS_FUNCTION void operator()(Index, int& n) const { ++n; }
  KOKKOS_FUNCTION void operator()(Index, int& n, bool) const { ++n; }
};

void launch(const char* label, const Exec& exec) {
  Kokkos::parallel_for(label, Kokkos::RangePolicy<Exec>(exec, 0, 1), Nothing{});
}

TEST(ToolsRecorder, ATidyKernelLeavesItsLabelAndNothingElse) {
  const Exec exec;
  const ToolsRecorder seen;
  launch("grist::test::tidy", exec);
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
  Kokkos::parallel_reduce("reduce", range, Nothing{}, sum);
  Kokkos::parallel_scan("scan", range, Nothing{});
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
  launch("kernel", exec);
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
    launch("during", Exec());
    kernels = seen.kernels;
  }
  launch("after", Exec());
  EXPECT_EQ(kernels, Strings{"during"});
}

}  // namespace
