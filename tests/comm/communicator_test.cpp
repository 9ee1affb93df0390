// Collectives on Views: against sums that each rank can make by itself, for every type, and in pieces.
#include <grist/comm/communicator.hpp>
#include <grist/core/errors.hpp>

#include <gtest/gtest.h>

namespace {

using grist::as_const;
using grist::Buffer;
using grist::Communicator;
using grist::Exec;
using grist::Index;
using grist::Reduction;

/// What rank r holds at i: small integers, exact in every type.
int held(int r, Index i) { return static_cast<int>((i * 3 + r) % 7); }

template <class T>
Buffer<T> filled(int rank, Index n) {
  Buffer<T> buffer("test", n);
  for (Index i = 0; i < n; ++i) buffer.view()(i) = static_cast<T>(static_cast<float>(held(rank, i)));
  return buffer;
}

template <class T>
class Collectives : public testing::Test {
protected:
  // The second communicator splits each message into pieces of three elements.
  std::vector<Communicator> comms{Communicator(MPI_COMM_WORLD), Communicator(MPI_COMM_WORLD, 3)};
  Exec exec;
};
using Types = testing::Types<float, double, int, Index, grist::bf16, grist::f16>;
TYPED_TEST_SUITE(Collectives, Types);

TYPED_TEST(Collectives, AllReduceSumsAndFindsTheMaximum) {
  for (const auto& comm : this->comms) {
    auto sum = filled<TypeParam>(comm.rank(), 10);
    auto max = filled<TypeParam>(comm.rank(), 10);
    comm.all_reduce(this->exec, sum.view());
    comm.all_reduce(this->exec, max.view(), Reduction::max);
    for (Index i = 0; i < 10; ++i) {
      int expected_sum = 0;
      int expected_max = 0;
      for (int r = 0; r < comm.size(); ++r) {
        expected_sum += held(r, i);
        expected_max = std::max(expected_max, held(r, i));
      }
      EXPECT_EQ(static_cast<double>(sum.view()(i)), expected_sum) << i;
      EXPECT_EQ(static_cast<double>(max.view()(i)), expected_max) << i;
    }
  }
}

TYPED_TEST(Collectives, AllGatherPutsRanksInOrder) {
  for (const auto& comm : this->comms) {
    const auto mine = filled<TypeParam>(comm.rank(), 5);
    Buffer<TypeParam> all("all", 5 * comm.size());
    comm.all_gather(this->exec, as_const(mine.view()), all.view());
    for (int r = 0; r < comm.size(); ++r)
      for (Index i = 0; i < 5; ++i) EXPECT_EQ(static_cast<double>(all.view()(r * 5 + i)), held(r, i));
  }
}

TYPED_TEST(Collectives, ReduceScatterGivesEachRankItsPieceOfTheSum) {
  for (const auto& comm : this->comms) {
    const auto all = filled<TypeParam>(comm.rank(), 5 * comm.size());
    Buffer<TypeParam> mine("mine", 5);
    comm.reduce_scatter(this->exec, as_const(all.view()), mine.view());
    for (Index i = 0; i < 5; ++i) {
      int expected = 0;
      for (int r = 0; r < comm.size(); ++r) expected += held(r, comm.rank() * 5 + i);
      EXPECT_EQ(static_cast<double>(mine.view()(i)), expected);
    }
  }
}

TYPED_TEST(Collectives, BroadcastAndARingOfMessages) {
  for (const auto& comm : this->comms) {
    const int last = comm.size() - 1;
    auto values = filled<TypeParam>(comm.rank(), 8);
    comm.broadcast(this->exec, values.view(), last);
    EXPECT_EQ(static_cast<double>(values.view()(7)), held(last, 7));

    // Passed from rank to rank: each adds nothing, the last one sees what the first sent.
    if (comm.rank() > 0) comm.recv(this->exec, values.view(), comm.rank() - 1);
    if (comm.rank() == 0) values = filled<TypeParam>(0, 8);
    if (comm.rank() < last) comm.send(this->exec, as_const(values.view()), comm.rank() + 1);
    for (Index i = 0; i < 8; ++i) EXPECT_EQ(static_cast<double>(values.view()(i)), held(0, i));
  }
}

TEST(Node, AllRanksOfThisMachineAreOnOne) {
  const Communicator world(MPI_COMM_WORLD);
  const Communicator node = world.split_by_node();
  EXPECT_EQ(node.size(), world.size());
  EXPECT_EQ(node.rank(), world.rank());
}

TEST(CollectiveErrors, AWrongSizeNamesBothCounts) {
  const Communicator comm(MPI_COMM_WORLD);
  const Buffer<float> mine("mine", 2);
  const Buffer<float> all("all", 2 * comm.size() + 1);
  try {
    comm.all_gather(Exec{}, as_const(mine.view()), all.view());
    FAIL() << "no error";
  } catch (const grist::ShapeError& error) {
    EXPECT_STREQ(error.what(), std::format("all_gather: {} elements given, {} expected", 2 * comm.size() + 1,
                                           2 * comm.size()).c_str());
  }
}

}  // namespace
