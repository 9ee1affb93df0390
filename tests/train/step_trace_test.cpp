// What is seen of a step: regions for Kokkos' tools, events of a trace, and where its time went.
#include "training.hpp"

#include <support/tools_recorder.hpp>

#include <grist/comm/broadcast_text.hpp>

#include <gmock/gmock.h>

#include <chrono>
#include <map>

namespace {

using namespace grist;
using test::ranks;
using test::world;
using testing::Contains;

constexpr Index micro_batches = 4;

/// Four micro-batches a rank, over two stages where there are two ranks.
struct Steps : testing::Test {
  const ModelFiles files = open_model(test::data_file("tiny/llama2"));
  const Layout layout = ranks() == 1 ? Layout{} : Layout{.dp = ranks() / 2, .pp = 2};
  const test::TrainingCase data{.steps = 3, .batch = micro_batches * layout.dp, .sequence = 64};
  test::TrainedModel model{files, world(), layout, data, train::TrainerOptions{}};
};

TEST_F(Steps, HaveARegionForEachKindOfWork) {
  test::ToolsRecorder seen;
  model.step(1);
  for (const char* kind : {"forward", "backward", "optimizer", "communication"})
    EXPECT_THAT(seen.regions, Contains("grist::train::" + std::string(kind)));
  EXPECT_EQ(std::ranges::count(seen.regions, "grist::train::forward"), micro_batches);
  EXPECT_EQ(std::ranges::count(seen.regions, "grist::train::backward"), micro_batches);
}

TEST_F(Steps, AreTracedOnEveryRankWithEveryPass) {
  const Communicator everyone(world());
  train::Trace trace(everyone.rank(), "rank");
  model.trainer->step(model.exec, 1, model.batches(1), &trace);
  for (int rank = 0; rank < everyone.size(); ++rank) {
    const auto events = nlohmann::json::parse("[" + broadcast_text(everyone, trace.events(), rank) + "]");
    std::map<std::string, int> count;
    double end = 0;
    for (const auto& event : events) {
      EXPECT_EQ(event.at("pid"), rank);
      if (event.at("ph") != "X") continue;
      ++count[event.at("name").get<std::string>() + ", " + event.value("args", nlohmann::json({{"detail", ""}}))
                                                             .at("detail")
                                                             .get<std::string>()];
      if (event.at("tid") != 0) continue;
      EXPECT_GE(event.at("ts"), end) << "passes of a rank do not overlap";
      end = event.at("ts").get<double>() + event.at("dur").get<double>();
    }
    for (int m = 0; m < micro_batches; ++m)
      for (const char* pass : {"forward", "backward"})
        EXPECT_EQ(count[std::format("{}, micro-batch {}, chunk 0", pass, m)], 1) << "rank " << rank;
    EXPECT_EQ(count["optimizer, "], 1);
    EXPECT_EQ(count["sum gradients, "], 1);
  }
}

TEST_F(Steps, TellWhereTheirTimeWent) {
  model.steps(1, 2);
  const auto begin = std::chrono::steady_clock::now();
  const auto spent = model.step(3).spent;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const double sum = spent.compute + spent.communication + spent.bubble + spent.data;
  EXPECT_LE(sum, seconds);
  EXPECT_GE(sum, 0.8 * seconds) << std::format("compute {}, communication {}, bubble {}, data {} of {}", spent.compute,
                                               spent.communication, spent.bubble, spent.data, seconds);
  for (const double part : {spent.compute, spent.communication, spent.data}) EXPECT_GT(part, 0);
  EXPECT_EQ(spent.bubble > 0, layout.pp > 1);
}

}  // namespace
