// One rank: its values are the sum, the maximum and the whole already. Counts are checked as over MPI.
#include <grist/comm/communicator.hpp>

#include <grist/core/errors.hpp>

namespace grist {
namespace {

void expect(bool holds, const char* call, Index found, Index expected) {
  if (!holds) throw ShapeError("{}: {} elements given, {} expected", call, found, expected);
}

void expect_rank(const char* call, int rank) {
  if (rank != 0) throw InternalError("{}: rank {} does not exist: grist was built without MPI", call, rank);
}

}  // namespace

struct Communicator::Shared {};
struct Transfer::State {};

Transfer::Transfer() = default;
Transfer::Transfer(Transfer&&) noexcept = default;
Transfer& Transfer::operator=(Transfer&&) noexcept = default;
Transfer::~Transfer() = default;
bool Transfer::arrived() { return true; }
void Transfer::wait(const Exec&) {}

Communicator::Communicator(CommHandle, int largest_message) : largest_message_(largest_message) {
  expect(largest_message > 0, "Communicator: largest_message", largest_message, 1);
}

Communicator Communicator::split(int, int) const { return *this; }
Communicator Communicator::split_by_node() const { return *this; }
CommHandle Communicator::handle() const { return {}; }
bool Communicator::direct() const { return true; }
void Communicator::barrier() const {}

template <class T>
void Communicator::all_reduce(const Exec&, View1<T>, Reduction) const {}

template <class T>
T Communicator::all_reduce(T value, Reduction) const { return value; }

template <class T>
void Communicator::all_gather(const Exec& exec, View1<const T> mine, View1<T> all) const {
  expect(all.size() == mine.size(), "all_gather", static_cast<Index>(all.size()), static_cast<Index>(mine.size()));
  if (all.data() != mine.data()) Kokkos::deep_copy(exec, all, mine);
}

template <class T>
void Communicator::all_gather(const Exec& exec, View1<const T> mine, View1<T> all,
                              std::span<const Index> counts) const {
  expect(counts.size() == 1 && static_cast<Index>(mine.size()) == counts[0], "all_gather",
         static_cast<Index>(mine.size()), counts.empty() ? 0 : counts[0]);
  all_gather(exec, mine, all);
}

template <class T>
void Communicator::reduce_scatter(const Exec& exec, View1<const T> all, View1<T> mine,
                                  std::span<const Index> counts) const {
  expect(counts.size() == 1 && static_cast<Index>(mine.size()) == counts[0], "reduce_scatter",
         static_cast<Index>(mine.size()), counts.empty() ? 0 : counts[0]);
  expect(all.size() == mine.size(), "reduce_scatter", static_cast<Index>(all.size()), static_cast<Index>(mine.size()));
  Kokkos::deep_copy(exec, mine, all);
}

template <class T>
void Communicator::broadcast(const Exec&, View1<T>, int root) const { expect_rank("broadcast", root); }

template <class T>
void Communicator::broadcast(T*, Index, int root) const { expect_rank("broadcast", root); }

// A message to oneself needs both ends at once; no caller sends one.
template <class T>
void Communicator::send(const Exec&, View1<const T>, int to, int) const {
  throw InternalError("send to rank {}: there is no other rank, because grist was built without MPI", to);
}

template <class T>
void Communicator::recv(const Exec&, View1<T>, int from, int) const {
  throw InternalError("recv from rank {}: there is no other rank, because grist was built without MPI", from);
}

template <class T>
Transfer Communicator::start_send(const Exec& exec, View1<const T> values, int to, int tag) const {
  send(exec, values, to, tag);
  return {};
}

template <class T>
Transfer Communicator::start_recv(const Exec& exec, View1<T> values, int from, int tag) const {
  recv(exec, values, from, tag);
  return {};
}

#define GRIST_INSTANTIATE(T)                                                                   \
  template void Communicator::all_reduce(const Exec&, View1<T>, Reduction) const;              \
  template void Communicator::all_gather(const Exec&, View1<const T>, View1<T>) const;         \
  template void Communicator::all_gather(const Exec&, View1<const T>, View1<T>, std::span<const Index>) const;     \
  template void Communicator::reduce_scatter(const Exec&, View1<const T>, View1<T>, std::span<const Index>) const; \
  template void Communicator::broadcast(const Exec&, View1<T>, int) const;                     \
  template void Communicator::send(const Exec&, View1<const T>, int, int) const;               \
  template void Communicator::recv(const Exec&, View1<T>, int, int) const;                     \
  template Transfer Communicator::start_send(const Exec&, View1<const T>, int, int) const;     \
  template Transfer Communicator::start_recv(const Exec&, View1<T>, int, int) const;           \
  template T Communicator::all_reduce(T, Reduction) const;                                     \
  template void Communicator::broadcast(T*, Index, int) const;
GRIST_INSTANTIATE(float)
GRIST_INSTANTIATE(double)
GRIST_INSTANTIATE(int)
GRIST_INSTANTIATE(Index)
GRIST_INSTANTIATE(bf16)
GRIST_INSTANTIATE(f16)
#undef GRIST_INSTANTIATE

}  // namespace grist
