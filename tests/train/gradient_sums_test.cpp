// Sums of gradients in the background: of ranks on one node and on several, whole and by shares.
#include <grist/train/gradient_sums.hpp>

#include <support/ranks.hpp>
#include <support/views.hpp>

#include <cmath>

namespace {

using grist::Buffer;
using grist::Communicator;
using grist::Exec;
using grist::Index;
using grist::Range;
using grist::test::on_device;
using grist::test::on_host;
using grist::test::world;
using grist::train::GradientSums;

/// Thirds and the like, of very different size: their sum depends on its order.
float held(int rank, Index i) {
  return std::ldexp(1.0F / static_cast<float>(3 + (i + rank) % 11), static_cast<int>((i * 7 + rank * 5) % 30));
}

/// In the order of ranks within each of the nodes, then in that of nodes.
float sum(Index i, int ranks, int ranks_of_a_node) {
  float total = 0;
  for (int first = 0; first < ranks; first += ranks_of_a_node) {
    float node = held(first, i);
    for (int rank = first + 1; rank < first + ranks_of_a_node; ++rank) node += held(rank, i);
    total = first == 0 ? node : total + node;
  }
  return total;
}

constexpr Index share = 1500000;  // elements of each rank: several pieces, the last one short

void expect_sums(const Communicator& dp, int of_a_node, bool shares) {
  const Exec exec;
  const Index size = share * dp.size();
  std::vector<float> mine;
  for (Index i = 0; i < size; ++i) mine.push_back(held(dp.rank(), i));
  const auto gradients = on_device<float>(mine);
  GradientSums sums(dp, dp.split(dp.rank() / of_a_node, dp.rank()), gradients.view(), shares);
  // From the last to the first, as a backward pass makes them; one is empty.
  for (const Range range : {Range{share / 2, size}, Range{7, share / 2}, Range{7, 7}, Range{0, 7}}) {
    sums.start(exec, range);
    sums.progress(exec);
  }
  sums.finish(exec);
  const auto found = on_host(gradients);
  const Index first = shares ? share * dp.rank() : 0, last = shares ? first + share : size;
  Index wrong = 0;
  for (Index i = first; i < last; ++i)
    wrong += found[static_cast<std::size_t>(i)] != sum(i, dp.size(), of_a_node) ? 1 : 0;
  EXPECT_EQ(wrong, 0) << of_a_node << " ranks on a node";
  EXPECT_LE(sums.bytes(), GradientSums::bytes_for(dp.size(), shares));
}

TEST(GradientSums, EachElementIsTheSumInOneOrderOnOneNodeAndOnSeveral) {
  const Communicator dp(world());
  for (int of_a_node = 1; of_a_node <= dp.size(); ++of_a_node)
    if (dp.size() % of_a_node == 0) expect_sums(dp, of_a_node, false);
}

TEST(GradientSums, EachRankGetsTheSumOfItsShare) {
  const Communicator dp(world());
  for (int of_a_node = 1; of_a_node <= dp.size(); ++of_a_node)
    if (dp.size() % of_a_node == 0) expect_sums(dp, of_a_node, true);
}

TEST(GradientSums, NodesWithOtherNumbersOfRanksAreSummedAsOne) {
  const Exec exec;
  const Communicator dp(world());
  const auto gradients = on_device<float>(std::vector<float>(1000, static_cast<float>(dp.rank() + 1)));
  GradientSums sums(dp, dp.split(dp.rank() == 0 ? 0 : 1, dp.rank()), gradients.view(), false);
  sums.start(exec, {0, 1000});
  sums.finish(exec);
  const auto expected = static_cast<float>(dp.size() * (dp.size() + 1) / 2);
  EXPECT_EQ(on_host(gradients), std::vector<float>(1000, expected));
}

}  // namespace
