// When a sequence of kernels is recorded and replayed, with a recorder that keeps the calls.
#include <grist/backends/recorded_graph.hpp>

#include <gtest/gtest.h>

#include <stdexcept>

namespace {

using namespace grist;

struct Events {
  int plain = 0, recorded = 0, launched = 0;
};

struct FakeRecorder {
  Events* events;
  bool able = true;

  struct Recording {
    Events* events;
    void launch(const Exec&) const { ++events->launched; }
  };
  std::optional<Recording> record(const Exec&, const std::function<void()>& enqueue) {
    if (!able) return {};
    enqueue();
    --events->plain;  // it was recorded, not run
    ++events->recorded;
    return Recording{events};
  }
};

struct RecordedGraphs : testing::Test {
  Events events;
  Exec exec;
  RecordedGraph<FakeRecorder> graph{FakeRecorder{&events}};
  void run(const std::vector<Index>& key) {
    graph.run(exec, key, [&] { ++events.plain; });
  }
};

TEST_F(RecordedGraphs, RunPlainlyThenRecordThenReplay) {
  for (int i = 0; i < 5; ++i) run({1, 2});
  EXPECT_EQ(events.plain, 1);
  EXPECT_EQ(events.recorded, 1);
  EXPECT_EQ(events.launched, 4);
}

TEST_F(RecordedGraphs, KeepOneRecordingForEachKey) {
  for (int i = 0; i < 3; ++i) {
    run({1, 2});
    run({1, 3});
  }
  EXPECT_EQ(events.recorded, 2);
  EXPECT_EQ(events.launched, 4);
}

TEST_F(RecordedGraphs, HoldABoundedNumber) {
  for (Index key = 0; key < 1000; ++key) run({key});
  for (int i = 0; i < 3; ++i) run({7});  // forgotten by now
  EXPECT_EQ(events.plain, 1001);
  EXPECT_EQ(events.recorded, 1);
}

TEST_F(RecordedGraphs, ADeviceThatCannotRecordRunsPlainly) {
  RecordedGraph<FakeRecorder> unable(FakeRecorder{&events, false});
  for (int i = 0; i < 4; ++i) unable.run(exec, {1}, [&] { ++events.plain; });
  EXPECT_EQ(events.plain, 4);
  EXPECT_EQ(events.launched, 0);
}

void increment(const Exec& exec, View1<int> count) {
  Kokkos::parallel_for(
      "grist::test::increment", Kokkos::RangePolicy<Exec>(exec, 0, 1), KOKKOS_LAMBDA(Index) { count(0) += 1; });
}

TEST(Graphs, OfThisBuildDoWhatIsEnqueued) {
  const auto graph = make_graph();
  const Exec exec;
  const Buffer<int> count("count", 1);
  Kokkos::deep_copy(count.view(), 0);
  for (int i = 0; i < 4; ++i) graph->run(exec, {1}, [&] { increment(exec, count.view()); });
  exec.fence();
  int found = 0;
  Kokkos::deep_copy(found, Kokkos::View<int, Memory, Kokkos::MemoryUnmanaged>(count.data()));
  EXPECT_EQ(found, 4);
}

}  // namespace
