// Collectives on Views: against sums that each rank can make by itself, for every type, and in pieces.
#include <grist/comm/communicator.hpp>
#include <grist/core/errors.hpp>

#include <support/ranks.hpp>
#include <support/views.hpp>

#include <cmath>

namespace {

using grist::as_const;
using grist::Buffer;
using grist::Communicator;
using grist::Exec;
using grist::Index;
using grist::Reduction;
using grist::test::on_device;
using grist::test::on_host;
using grist::test::world;

/// What rank r holds at i: small integers, exact in every type.
int held(int r, Index i) { return static_cast<int>((i * 3 + r) % 7); }

template <class T>
Buffer<T> filled(int rank, Index n) {
  std::vector<float> values;
  for (Index i = 0; i < n; ++i) values.push_back(static_cast<float>(held(rank, i)));
  return on_device<T>(values);
}

/// A communicator that keeps MPI from the memory of Views, as where kernels run on a device and MPI knows none.
Communicator by_copies(int largest_message) {
  setenv("GRIST_GPU_AWARE_MPI", "off", 1);
  Communicator comm(world(), largest_message);
  unsetenv("GRIST_GPU_AWARE_MPI");
  EXPECT_EQ(comm.direct(), !grist::has_mpi);
  return comm;
}

template <class T>
class Collectives : public testing::Test {
protected:
  // Whole messages and pieces of three elements, each from the Views' own memory and by copies.
  std::vector<Communicator> comms{Communicator(world()), Communicator(world(), 3), by_copies(1 << 30),
                                  by_copies(3)};
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
    const auto sums = on_host(sum), maxima = on_host(max);
    for (Index i = 0; i < 10; ++i) {
      int expected_sum = 0;
      int expected_max = 0;
      for (int r = 0; r < comm.size(); ++r) {
        expected_sum += held(r, i);
        expected_max = std::max(expected_max, held(r, i));
      }
      EXPECT_EQ(sums[static_cast<std::size_t>(i)], static_cast<float>(expected_sum)) << i;
      EXPECT_EQ(maxima[static_cast<std::size_t>(i)], static_cast<float>(expected_max)) << i;
    }
  }
}

/// Thirds and the like, of very different size: their sum depends on its order.
float uneven(int rank, Index i) {
  return std::ldexp(1.0F / static_cast<float>(3 + (i + rank) % 11), static_cast<int>((i * 7 + rank * 5) % 30));
}

TEST(AllReduce, SumsInTheOrderOfRanksWhateverTheSize) {
  const Exec exec;
  for (const int largest : {1 << 30, 1000}) {
    const Communicator comm(world(), largest);
    for (const Index n : {1, 7, 576, 5000, 100003}) {
      std::vector<float> mine, expected;
      for (Index i = 0; i < n; ++i) {
        mine.push_back(uneven(comm.rank(), i));
        float sum = uneven(0, i);
        for (int rank = 1; rank < comm.size(); ++rank) sum += uneven(rank, i);
        expected.push_back(sum);
      }
      const auto values = on_device<float>(mine);
      comm.all_reduce(exec, values.view());
      EXPECT_EQ(on_host(values), expected) << n << " elements";
    }
  }
}

TYPED_TEST(Collectives, AllGatherPutsRanksInOrder) {
  for (const auto& comm : this->comms) {
    const auto mine = filled<TypeParam>(comm.rank(), 5);
    Buffer<TypeParam> all("all", 5 * comm.size());
    comm.all_gather(this->exec, as_const(mine.view()), all.view());
    const auto found = on_host(all);
    for (int r = 0; r < comm.size(); ++r)
      for (Index i = 0; i < 5; ++i)
        EXPECT_EQ(found[static_cast<std::size_t>(r * 5 + i)], static_cast<float>(held(r, i)));
  }
}

TYPED_TEST(Collectives, PiecesMayBeUnevenAndEmpty) {
  for (const auto& comm : this->comms) {
    std::vector<Index> counts, begins{0};
    for (int r = 0; r < comm.size(); ++r) {
      counts.push_back(r == 1 ? 0 : 7 - 2 * r);
      begins.push_back(begins.back() + counts.back());
    }
    const auto me = static_cast<std::size_t>(comm.rank());
    const auto mine = filled<TypeParam>(comm.rank(), counts[me]);
    Buffer<TypeParam> all("all", begins.back());
    comm.all_gather(this->exec, as_const(mine.view()), all.view(), counts);
    const auto gathered = on_host(all);
    for (int r = 0; r < comm.size(); ++r)
      for (Index i = 0; i < counts[static_cast<std::size_t>(r)]; ++i)
        EXPECT_EQ(gathered[static_cast<std::size_t>(begins[static_cast<std::size_t>(r)] + i)],
                  static_cast<float>(held(r, i)));

    const auto parts = filled<TypeParam>(comm.rank(), begins.back());
    Buffer<TypeParam> sum("sum", counts[me]);
    comm.reduce_scatter(this->exec, as_const(parts.view()), sum.view(), counts);
    const auto found = on_host(sum);
    for (Index i = 0; i < counts[me]; ++i) {
      int expected = 0;
      for (int r = 0; r < comm.size(); ++r) expected += held(r, begins[me] + i);
      EXPECT_EQ(found[static_cast<std::size_t>(i)], static_cast<float>(expected));
    }
  }
}

/// So that a model has the same loss, to the bit, whether ranks hold its stream whole or in shares.
TEST(ReduceScatter, OfUnevenPiecesHasTheBitsOfAllReduce) {
  const Exec exec;
  for (const int largest : {1 << 30, 1000}) {
    const Communicator comm(world(), largest);
    std::vector<Index> counts;
    Index begin = 0, total = 0;
    for (int r = 0; r < comm.size(); ++r) {
      if (r == comm.rank()) begin = total;
      counts.push_back(5000 + 77 * r);
      total += counts.back();
    }
    std::vector<float> values;
    for (Index i = 0; i < total; ++i) values.push_back(uneven(comm.rank(), i));
    const auto all = on_device<float>(values);
    const Buffer<float> mine("mine", counts[static_cast<std::size_t>(comm.rank())]);
    comm.reduce_scatter(exec, as_const(all.view()), mine.view(), counts);
    comm.all_reduce(exec, all.view());
    const auto whole = on_host(all);
    EXPECT_EQ(on_host(mine), std::vector<float>(whole.begin() + begin, whole.begin() + begin + mine.size()));
  }
}

TYPED_TEST(Collectives, BroadcastAndARingOfMessages) {
  for (const auto& comm : this->comms) {
    const int last = comm.size() - 1;
    auto values = filled<TypeParam>(comm.rank(), 8);
    comm.broadcast(this->exec, values.view(), last);
    EXPECT_EQ(on_host(values)[7], static_cast<float>(held(last, 7)));

    // Passed from rank to rank: each adds nothing, the last one sees what the first sent.
    if (comm.rank() > 0) comm.recv(this->exec, values.view(), comm.rank() - 1);
    if (comm.rank() == 0) values = filled<TypeParam>(0, 8);
    if (comm.rank() < last) comm.send(this->exec, as_const(values.view()), comm.rank() + 1);
    EXPECT_EQ(on_host(values), on_host(filled<TypeParam>(0, 8)));
  }
}

TEST(Node, AllRanksOfThisMachineAreOnOne) {
  const Communicator all(world());
  const Communicator node = all.split_by_node();
  EXPECT_EQ(node.size(), all.size());
  EXPECT_EQ(node.rank(), all.rank());
}

TEST(CollectiveErrors, AWrongSizeNamesBothCounts) {
  const Communicator comm(world());
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
