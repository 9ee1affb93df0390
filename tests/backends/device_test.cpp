// Which device is whose, what this one is, and what it can do.
#include <grist/backends/device.hpp>
#include <grist/backends/rates.hpp>

#include <gtest/gtest.h>

namespace {

using namespace grist;

TEST(Devices, AreDealtToTheRanksOfANodeOneEach) {
  for (int rank = 0; rank < 4; ++rank) EXPECT_EQ(device_of(rank, 4), rank);
}

TEST(Devices, AreSharedEvenlyByMoreRanks) {
  int ranks_of[3] = {};
  for (int rank = 0; rank < 6; ++rank) ++ranks_of[device_of(rank, 3)];
  for (const int ranks : ranks_of) EXPECT_EQ(ranks, 2);
}

TEST(Devices, ALauncherThatShowsEachRankItsOwnHasItsWay) { EXPECT_EQ(device_of(3, 1), 0); }

TEST(Devices, ShareMemoryWhereTheyAreOne) {
  // Two parts of a divided device have one address, and memory of their own.
  const DeviceFacts first{.address = "0000:17:00.0", .identity = "a"},
      again = first, second{.address = "0000:17:00.0", .identity = "b"};
  EXPECT_EQ(memory_hash(first), memory_hash(again));
  EXPECT_NE(memory_hash(first), memory_hash(second));
  EXPECT_GE(memory_hash(first), 0);
  EXPECT_GE(memory_hash(second), 0);
  EXPECT_GE(memory_hash({}), 0);
}

TEST(Devices, ThisOneHasANameAndMemory) {
  const auto facts = device_facts();
  EXPECT_FALSE(facts.name.empty());
  EXPECT_GT(facts.memory, std::uint64_t{1} << 28);
  EXPECT_LE(facts.available, facts.memory);
  EXPECT_GT(facts.available, 0U);
}

TEST(Rates, OfThisDeviceAreThoseOfAComputer) {
  const Exec exec;
  const double read = ReadBandwidth(exec).measure();
  EXPECT_GT(read, 1e7);
  EXPECT_LT(read, 1e14);
  const double products = gemm_rate(exec, *make_gemm(), DType::f32);
  EXPECT_GT(products, 1e7);
  EXPECT_LT(products, 1e16);
}

}  // namespace
