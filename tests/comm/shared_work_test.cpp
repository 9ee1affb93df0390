// Texts that ranks take from rank 0, each by one rank, and texts that go back.
#include <grist/comm/shared_work.hpp>

#include <support/ranks.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <format>

namespace {

using namespace grist;
using namespace grist::test;

std::vector<std::string> numbered(int count) {
  std::vector<std::string> texts;
  for (int i = 0; i < count; ++i)
    texts.push_back(std::format("{}:", i) + std::string(static_cast<std::size_t>(i), 'x'));
  return texts;
}

/// What all ranks sent to rank 0; there alone.
std::vector<std::string> gathered(const Communicator& ranks, ToRoot& to_root, std::size_t expected) {
  std::vector<std::string> all;
  while (ranks.rank() == 0 && all.size() < expected)
    for (auto& text : to_root.receive()) all.push_back(std::move(text));
  to_root.flush();
  return all;
}

TEST(SharedWork, GoesToOneRankEach) {
  const Communicator ranks(world());
  const auto texts = ranks.rank() == 0 ? numbered(101) : std::vector<std::string>();
  SharedWork work(ranks, texts);
  ToRoot to_root(ranks);
  while (auto text = work.take()) to_root.send(*text);
  auto all = gathered(ranks, to_root, 101);
  if (ranks.rank() != 0) return;
  auto expected = numbered(101);
  std::ranges::sort(all);
  std::ranges::sort(expected);
  EXPECT_EQ(all, expected);
}

TEST(SharedWork, IsGivenToNobodyOnceARankStopsIt) {
  const Communicator ranks(world());
  const auto texts = ranks.rank() == 0 ? numbered(50) : std::vector<std::string>();
  SharedWork work(ranks, texts);
  EXPECT_FALSE(work.stopped());
  ranks.barrier();
  if (ranks.rank() == ranks.size() - 1) {
    EXPECT_TRUE(work.take());
    work.stop();
  }
  ranks.barrier();
  EXPECT_TRUE(work.stopped());
  EXPECT_FALSE(work.take());
  work.stop();
  EXPECT_FALSE(work.take());
  EXPECT_FALSE(work.closed());
  ranks.barrier();
  if (ranks.rank() == 0) work.close();
  ranks.barrier();
  EXPECT_TRUE(work.closed());
  EXPECT_TRUE(work.stopped());
}

TEST(SharedWork, MayBeNone) {
  const Communicator ranks(world());
  SharedWork work(ranks, {});
  EXPECT_FALSE(work.take());
  EXPECT_FALSE(work.stopped());
}

TEST(ToRoot, KeepsTheOrderOfEachRank) {
  const Communicator ranks(world());
  ToRoot to_root(ranks);
  for (int i = 0; i < 20; ++i) to_root.send(std::format("{} {:02}", ranks.rank(), i));
  const auto all = gathered(ranks, to_root, 20 * static_cast<std::size_t>(ranks.size()));
  if (ranks.rank() != 0) return;
  for (int rank = 0; rank < ranks.size(); ++rank) {
    std::vector<std::string> of_rank;
    for (const auto& text : all)
      if (text.starts_with(std::format("{} ", rank))) of_rank.push_back(text);
    EXPECT_EQ(of_rank.size(), 20U);
    EXPECT_TRUE(std::ranges::is_sorted(of_rank));
  }
}

}  // namespace
