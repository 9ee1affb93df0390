// Portability and scaling, by hand.
#include <grist/report/metrics.hpp>

#include "report/results.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace {

using namespace grist::report;

double metric(const std::vector<std::optional<double>>& efficiencies) { return performance_portability(efficiencies); }

TEST(PerformancePortability, IsTheHarmonicMean) {
  EXPECT_DOUBLE_EQ(metric({0.5, 0.25}), 2 / (1 / 0.5 + 1 / 0.25));
  EXPECT_DOUBLE_EQ(metric({0.9, 0.6, 0.3}), 3 / (1 / 0.9 + 1 / 0.6 + 1 / 0.3));
  EXPECT_DOUBLE_EQ(metric({0.7}), 0.7);
}

TEST(PerformancePortability, IsZeroWhereAPlatformIsMissing) {
  EXPECT_EQ(metric({0.9, std::nullopt, 0.8}), 0);
  EXPECT_EQ(metric({0.9, 0.0}), 0);
  EXPECT_EQ(metric({}), 0);
}

TEST(PortabilityOf, TakesThePlatformsOfAllApplicationsAndTheBestResultThere) {
  const std::vector<Result> results = {result("grist", "p", "cpu", 40, 80),  result("grist", "p", "cpu", 60, 80),
                                       result("grist", "p", "gpu", 50, 100), result("other", "p", "cpu", 75, 80),
                                       result("grist", "q", "cpu", 1, 4)};
  const auto all = portability_of(results);
  ASSERT_EQ(all.size(), 3U);
  EXPECT_DOUBLE_EQ(all[0].architectural_metric, 2 / (1 / 0.75 + 1 / 0.5));
  EXPECT_DOUBLE_EQ(all[0].application_metric, 2 / (1 / 0.8 + 1 / 1.0));
  EXPECT_EQ(all[1].application, "other");
  EXPECT_EQ(all[1].architectural_metric, 0) << "it has no result on gpu";
  EXPECT_EQ(all[1].application_efficiency.size(), 2U);
  EXPECT_DOUBLE_EQ(all[2].architectural_metric, 0.25) << "another problem has its own platforms";
}

TEST(PortabilityOf, ComparesResultsOfEquallyManyRanksAndThreads) {
  std::vector<Result> results = {result("grist", "p", "cpu", 40, 50), result("grist", "p", "cpu", 72, 100, 2),
                                 result("peer", "p", "cpu", 45, 50), result("late", "p", "cpu", 90, 100, 2)};
  results.push_back(result("grist", "p", "cpu", 50, 60));
  results.back().threads = 3;
  const auto all = portability_of(results);
  EXPECT_DOUBLE_EQ(all[0].application_metric, 40.0 / 45) << "neither with two ranks nor with another thread";
  EXPECT_DOUBLE_EQ(all[0].architectural_metric, 0.8);
  EXPECT_DOUBLE_EQ(all[1].application_metric, 1);
  EXPECT_EQ(all[2].application_metric, 0) << "it did not run as most applications did";
}

TEST(PortabilityOf, TakesTheFewestRanksAndThenTheMostThreadsOfWhatEquallyManyRan) {
  std::vector<Result> results = {result("grist", "p", "cpu", 30, 100), result("grist", "p", "cpu", 40, 100),
                                 result("grist", "p", "cpu", 90, 100, 2)};
  results[0].threads = 1;
  EXPECT_DOUBLE_EQ(portability_of(results)[0].architectural_metric, 0.4);
}

TEST(ToBestPeer, IsTheRatioToTheBestOtherApplicationOnAsMuchOfTheMachine) {
  const std::vector<Result> results = {result("grist", "p", "cpu", 30), result("grist", "p", "cpu", 60),
                                       result("slow", "p", "cpu", 20),  result("fast", "p", "cpu", 40),
                                       result("fast", "p", "cpu", 80, {}, 2), result("fast", "q", "cpu", 1)};
  EXPECT_DOUBLE_EQ(*to_best_peer(results, results[0]), 0.75);
  EXPECT_DOUBLE_EQ(*to_best_peer(results, results[1]), 1.5);
  EXPECT_DOUBLE_EQ(*to_best_peer(results, results[3]), 40.0 / 60);
  EXPECT_FALSE(to_best_peer(results, results[4])) << "nobody else has two ranks";
  EXPECT_FALSE(to_best_peer(results, results[5]));
}

TEST(ScalingOf, ComparesWhatDiffersInRanksAlone) {
  std::vector<Result> results = {result("grist", "p", "cpu", 10, {}, 1), result("grist", "p", "cpu", 36, {}, 4),
                                 result("grist", "p", "cpu", 18, {}, 2), result("grist", "p", "gpu", 90, {}, 2),
                                 result("grist", "p", "cpu", 17, {}, 2)};
  results.push_back(result("grist", "p", "cpu", 5, {}, 8));
  results.back().threads = 1;
  const auto scalings = scaling_of(results);
  ASSERT_EQ(scalings.size(), 1U) << "one result on gpu scales nowhere, nor does one with other threads";
  std::vector<int> ranks;
  std::vector<double> efficiencies;
  for (const auto& point : scalings[0].points) ranks.push_back(point.ranks), efficiencies.push_back(point.efficiency);
  EXPECT_EQ(ranks, (std::vector<int>{1, 2, 4}));
  EXPECT_THAT(efficiencies, testing::ElementsAre(1, testing::DoubleEq(0.9), testing::DoubleEq(0.9)));
}

TEST(ScalingOf, LeavesOutMessagesWhichGrowWithNoRanks) {
  std::vector<Result> results = {result("grist", "all_reduce", "cpu", 10, {}, 2),
                                 result("grist", "all_reduce", "cpu", 10, {}, 4)};
  for (Result& message : results) message.limit_name = "mpi";
  EXPECT_TRUE(scaling_of(results).empty());
}

TEST(ScalingOf, LeavesOutWhatOneRankCouldNotDo) {
  EXPECT_TRUE(scaling_of({result("grist", "p", "cpu", 0, {}, 1), result("grist", "p", "cpu", 9, {}, 2)}).empty());
}

}  // namespace
