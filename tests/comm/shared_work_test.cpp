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

/// Texts of rank 0 until none is left, some at a time.
std::vector<std::string> take_all(SharedWork& work, std::size_t wanted) {
  std::vector<std::string> mine;
  while (!work.done() && !work.stopped())
    for (auto& text : work.take(wanted)) mine.push_back(std::move(text));
  return mine;
}

/// Looks until it holds.
template <class F>
void look_until(SharedWork& work, F&& holds) {
  while (!holds()) work.poll();
}

class Shared : public testing::Test {
protected:
  [[nodiscard]] std::vector<std::string> of_root(int count) const {
    return ranks.rank() == 0 ? numbered(count) : std::vector<std::string>();
  }
  Communicator ranks{world()};
};

TEST_F(Shared, GoesToOneRankEach) {
  for (const std::size_t wanted : {1, 3}) {
    SharedWork work(ranks, of_root(101));
    ToRoot to_root(ranks);
    for (auto& text : take_all(work, wanted)) to_root.send(std::move(text));
    std::vector<std::string> all;
    while (ranks.rank() == 0 && all.size() < 101) {
      work.poll();
      for (auto& text : to_root.receive()) all.push_back(std::move(text));
    }
    to_root.flush();
    if (ranks.rank() != 0) continue;
    auto expected = numbered(101);
    std::ranges::sort(all);
    std::ranges::sort(expected);
    EXPECT_EQ(all, expected);
  }
}

TEST_F(Shared, IsAskedForWithoutWaitingForRankZero) {
  SharedWork work(ranks, of_root(40));
  if (ranks.rank() != 0) {
    EXPECT_TRUE(work.take(2).empty());
  }
  ranks.barrier();  // until here rank 0 has not looked
  take_all(work, 2);
  EXPECT_TRUE(work.done());
}

TEST_F(Shared, IsGivenToNobodyOnceARankStopsIt) {
  SharedWork work(ranks, of_root(50));
  EXPECT_FALSE(work.stopped());
  ranks.barrier();
  if (ranks.rank() == ranks.size() - 1) work.stop();
  look_until(work, [&] { return work.stopped(); });
  EXPECT_TRUE(work.take(1).empty());
  work.stop();
  EXPECT_TRUE(work.take(1).empty());
  EXPECT_FALSE(work.closed());
  ranks.barrier();
  if (ranks.rank() == 0) work.close();
  look_until(work, [&] { return work.closed(); });
  EXPECT_TRUE(work.stopped());
}

TEST_F(Shared, MayBeNone) {
  SharedWork work(ranks, {});
  EXPECT_TRUE(take_all(work, 1).empty());
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
