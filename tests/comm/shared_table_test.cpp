// A table that lies spread over ranks: each rank finds what any of them put in.
#include <grist/comm/shared_table.hpp>

#include <grist/core/philox.hpp>

#include <support/ranks.hpp>

#include <gtest/gtest.h>

#include <algorithm>

namespace {

using namespace grist;
using namespace grist::test;

std::uint64_t key_of(int number) {
  const auto block = philox({{static_cast<std::uint32_t>(number), 0, 0, 0}}, 7);
  return (std::uint64_t{block.word[0]} << 32 | block.word[1]) | 1;
}

/// What rank `rank` of so many brings: every number is brought by one rank.
std::vector<TableEntry> brought(int rank, int size, int count) {
  std::vector<TableEntry> entries;
  for (int i = rank; i < count; i += size) entries.push_back({key_of(i), static_cast<std::uint64_t>(i)});
  return entries;
}

TEST(SharedTable, TellsEveryRankWhatAnyRankPutIn) {
  const Communicator ranks(world());
  for (const int count : {0, 1, 2, 1000}) {
    const SharedTable table(ranks, sent_to_owners(ranks, brought(ranks.rank(), ranks.size(), count)));
    std::vector<std::uint64_t> keys;
    for (int i = 0; i < count + 100; ++i) keys.push_back(key_of(i));
    const auto found = table.find(keys);
    for (int i = 0; i < count + 100; ++i) {
      const auto& value = found[static_cast<std::size_t>(i)];
      ASSERT_EQ(value.has_value(), i < count) << i << " of " << count;
      EXPECT_EQ(value.value_or(0), static_cast<std::uint64_t>(i < count ? i : 0));
    }
    EXPECT_TRUE(table.find({}).empty());
  }
}

/// Keys of one rank's one bucket: they go to the next ones.
TEST(SharedTable, KeepsKeysThatWantTheSamePlace) {
  const Communicator ranks(world());
  std::vector<TableEntry> entries;
  std::vector<std::uint64_t> keys;
  for (std::uint64_t i = 0; i < 50; ++i) keys.push_back((i + 1) << 8 | 0xff);
  if (ranks.rank() == ranks.size() - 1)
    for (const auto key : keys) entries.push_back({key, key + 1});
  const SharedTable table(ranks, sent_to_owners(ranks, entries));
  const auto found = table.find(keys);
  for (std::size_t i = 0; i < keys.size(); ++i) EXPECT_EQ(found[i], keys[i] + 1);
  EXPECT_FALSE(table.find(std::vector<std::uint64_t>{0xff})[0]);
}

TEST(SharedTable, EntriesGoToOneOwnerEachInMessagesOfAnySize) {
  const Communicator ranks(world());
  auto entries = brought(ranks.rank(), ranks.size(), 500);
  entries.push_back({key_of(3), 1000 + static_cast<std::uint64_t>(ranks.rank())});  // one key from all ranks
  const auto sorted = [](std::vector<TableEntry> of) {
    std::ranges::sort(of, {}, [](const TableEntry& e) { return std::pair(e.key, e.value); });
    return of;
  };
  const auto whole = sorted(sent_to_owners(ranks, entries));
  EXPECT_EQ(sorted(sent_to_owners(ranks, entries, 7)), whole);
  EXPECT_EQ(ranks.all_reduce(static_cast<int>(whole.size())), 500 + ranks.size());
  const auto of_key = std::ranges::count(whole, key_of(3), &TableEntry::key);
  EXPECT_TRUE(of_key == 0 || of_key == 1 + ranks.size()) << "all of a key come to one rank";
}

}  // namespace
