// The order of documents: a permutation of every size, another one for every key.
#include <grist/train/permutation.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <vector>

namespace {

using grist::train::Permutation;

std::vector<std::uint64_t> order_of(std::uint64_t size, std::uint64_t key) {
  const Permutation permutation(size, key);
  std::vector<std::uint64_t> order(size);
  for (std::uint64_t i = 0; i < size; ++i) order[i] = permutation(i);
  return order;
}

TEST(Permutation, HasEachNumberOnceForEverySize) {
  std::vector<std::uint64_t> sizes(300);
  std::iota(sizes.begin(), sizes.end(), 1U);
  for (const std::uint64_t large : {4095U, 4096U, 4097U, 100003U}) sizes.push_back(large);
  for (const std::uint64_t size : sizes) {
    auto order = order_of(size, 42);
    std::ranges::sort(order);
    for (std::uint64_t i = 0; i < size; ++i) ASSERT_EQ(order[i], i) << size;
  }
}

TEST(Permutation, StaysInTheRangeBeyond32Bits) {
  const std::uint64_t size = (std::uint64_t{1} << 40U) + 17;
  const Permutation permutation(size, 1);
  std::set<std::uint64_t> seen;
  for (std::uint64_t i = 0; i < 10000; ++i) {
    const std::uint64_t to = permutation(size - 1 - i);
    EXPECT_LT(to, size);
    EXPECT_TRUE(seen.insert(to).second);
  }
}

TEST(Permutation, IsAnotherOneForEveryKey) {
  std::set<std::vector<std::uint64_t>> orders;
  for (std::uint64_t key = 0; key < 100; ++key) EXPECT_TRUE(orders.insert(order_of(100, key)).second) << key;
}

// Each of 5 documents comes first, second ... last equally often: 24000 draws, 4800 expected, five standard deviations.
TEST(Permutation, PutsNoDocumentBefore) {
  std::vector<int> counts(25);
  for (std::uint64_t key = 0; key < 24000; ++key)
    for (std::uint64_t i = 0; i < 5; ++i) ++counts[5 * i + Permutation(5, key)(i)];
  for (const int count : counts) EXPECT_NEAR(count, 4800, 310);
}

}  // namespace
