// The learning rate is that of transformers' schedulers at every step.
#include <grist/train/learning_rate.hpp>

#include <support/files.hpp>

#include <nlohmann/json.hpp>

#include <map>

namespace {

using namespace grist;
using namespace grist::train;
using Schedule = LearningRate::Schedule;

TEST(LearningRates, AreThoseOfTransformers) {
  const auto cases = nlohmann::json::parse(test::contents_of(test::data_file("train/learning_rates.json")));
  const std::map<std::string, Schedule> schedules = {{"constant", Schedule::constant},
                                                     {"linear", Schedule::linear},
                                                     {"cosine", Schedule::cosine},
                                                     {"wsd", Schedule::wsd}};
  ASSERT_EQ(cases.size(), 8U);
  for (const auto& entry : cases) {
    SCOPED_TRACE(entry["schedule"].dump() + ", warm-up " + entry["warmup"].dump());
    const LearningRate rate{.schedule = schedules.at(entry["schedule"]), .peak = entry["peak"],
                            .least = entry["least"], .warmup = entry["warmup"], .steps = entry["steps"],
                            .decay = entry["decay"]};
    Index step = 0;
    for (const double expected : entry["values"]) {
      EXPECT_NEAR(rate.at(step), expected, 1e-12 * rate.peak) << "step " << step;
      ++step;
    }
  }
}

TEST(LearningRates, FirstAndLastStepTrain) {
  for (const auto schedule : {Schedule::linear, Schedule::cosine, Schedule::wsd}) {
    const LearningRate rate{.schedule = schedule, .peak = 1, .least = 0.125, .warmup = 4, .steps = 16, .decay = 8};
    EXPECT_EQ(rate.at(1), 0.25);
    EXPECT_EQ(rate.at(4), 1);
    EXPECT_NEAR(rate.at(16), 0.125, 1e-15);
    EXPECT_NEAR(rate.at(1000), 0.125, 1e-15);
  }
}

TEST(LearningRates, AWarmUpAsLongAsTheRunEndsAtThePeak) {
  const LearningRate rate{.schedule = Schedule::cosine, .peak = 1, .warmup = 5, .steps = 5};
  EXPECT_EQ(rate.at(5), 1);
}

}  // namespace
