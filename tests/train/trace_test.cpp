// A trace is what Chrome reads: events of all ranks in one array.
#include <grist/core/errors.hpp>
#include <grist/train/trace.hpp>

#include <support/files.hpp>
#include <support/refuses.hpp>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include <set>

namespace {

using namespace grist;
using namespace grist::test;
using namespace grist::train;

TEST(Trace, HoldsEveryRankAsAProcessAndEveryLaneAsAThread) {
  const TemporaryFolder folder;
  std::vector<std::string> ranks;
  for (int rank = 0; rank < 2; ++rank) {
    Trace trace(rank, "rank " + std::to_string(rank));
    const auto begin = Trace::Clock::now();
    trace.add(Lane::compute, "forward", begin, begin + std::chrono::milliseconds(3), "micro-batch 1, chunk 0");
    trace.add(Lane::communication, "all_reduce", begin, begin + std::chrono::microseconds(5));
    ranks.push_back(trace.events());
  }
  write_trace(folder / "trace.json", ranks);
  const auto events = nlohmann::json::parse(contents_of(folder / "trace.json"));
  std::vector<nlohmann::json> complete;
  std::set<std::string> names;
  for (const auto& event : events) {
    if (event["ph"] == "X") complete.push_back(event);
    if (event["ph"] == "M" && event["args"].contains("name")) names.insert(event["args"]["name"]);
  }
  EXPECT_THAT(names, testing::UnorderedElementsAre("rank 0", "rank 1", "compute", "communication", "data",
                                                   "checkpoint"));
  ASSERT_EQ(complete.size(), 4U);
  EXPECT_EQ(complete[2]["name"], "forward");
  EXPECT_EQ(complete[2]["pid"], 1);
  EXPECT_EQ(complete[2]["tid"], 0);
  EXPECT_EQ(complete[2]["args"]["detail"], "micro-batch 1, chunk 0");
  EXPECT_DOUBLE_EQ(complete[2]["dur"], 3000);
  EXPECT_GE(complete[2]["ts"], 0);
  EXPECT_EQ(complete[3]["tid"], 1);
  EXPECT_DOUBLE_EQ(complete[3]["dur"], 5);
}

TEST(Trace, NamesAFileThatCannotBeWritten) {
  EXPECT_THAT([] { write_trace("/no/such/trace.json", {}); }, (Refuses<InputError>({"/no/such/trace.json"})));
}

}  // namespace
