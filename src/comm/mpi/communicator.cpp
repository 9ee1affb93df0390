#include <grist/comm/communicator.hpp>

#include "check.hpp"

#include <grist/comm/gpu_aware.hpp>
#include <grist/core/errors.hpp>
#include <grist/core/staging.hpp>

#include <algorithm>
#include <array>
#include <fstream>
#include <numeric>
#include <string>
#include <type_traits>
#include <vector>

namespace grist {
namespace {

template <class T>
MPI_Datatype datatype() {
  if constexpr (std::is_same_v<T, float>) return MPI_FLOAT;
  if constexpr (std::is_same_v<T, double>) return MPI_DOUBLE;
  if constexpr (std::is_same_v<T, int>) return MPI_INT;
  if constexpr (std::is_same_v<T, Index>) return MPI_INT64_T;
  if constexpr (std::is_same_v<T, bf16> || std::is_same_v<T, f16>) return MPI_UINT16_T;
}

template <class T>
void sum_16bit(void* in, void* inout, int* count, MPI_Datatype*) {
  const T* a = static_cast<const T*>(in);
  T* b = static_cast<T*>(inout);
  for (int i = 0; i < *count; ++i) b[i] = T(static_cast<float>(a[i]) + static_cast<float>(b[i]));
}
template <class T>
void max_16bit(void* in, void* inout, int* count, MPI_Datatype*) {
  const T* a = static_cast<const T*>(in);
  T* b = static_cast<T*>(inout);
  for (int i = 0; i < *count; ++i) b[i] = static_cast<float>(a[i]) > static_cast<float>(b[i]) ? a[i] : b[i];
}

/// MPI's own operation, or for 16-bit floats one of ours, which lives as long as the call.
template <class T>
class Operation {
public:
  explicit Operation(Reduction reduction) {
    if constexpr (sizeof(T) == 2) {
      check(MPI_Op_create(reduction == Reduction::sum ? sum_16bit<T> : max_16bit<T>, 1, &op_), "MPI_Op_create");
    } else {
      op_ = reduction == Reduction::sum ? MPI_SUM : MPI_MAX;
    }
  }
  ~Operation() {
    if constexpr (sizeof(T) == 2) MPI_Op_free(&op_);
  }
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;
  operator MPI_Op() const { return op_; }

private:
  MPI_Op op_ = MPI_OP_NULL;
};

/// Calls f(first, count) for pieces that MPI's int counts can hold.
template <class F>
void in_pieces(Index total, Index largest, F&& f) {
  for (Index first = 0; first < total; first += largest) f(first, static_cast<int>(std::min(largest, total - first)));
}

/// Whether a result depends on the order of ranks: of two a sum has one order, integers and maxima the same bits in
/// any.
template <class T>
bool needs_order(int ranks, Reduction reduction) {
  return ranks > 2 && reduction == Reduction::sum && !std::is_integral_v<T>;
}

/// The sum of parts [ranks, stride] at one place, from the first rank to the last.
template <class T>
KOKKOS_INLINE_FUNCTION T sum_of(const T* parts, int ranks, Index stride) {
  using Wide = std::conditional_t<sizeof(T) == 2, float, T>;
  Wide total = static_cast<Wide>(*parts);
  for (int rank = 1; rank < ranks; ++rank) total += static_cast<Wide>(parts[rank * stride]);
  return T(total);
}

/// sum [count] of parts [ranks, stride]; on return it is there.
template <class Space, class T>
void sum_parts(const Space& space, const T* parts, int ranks, Index stride, Index count, T* sum) {
  Kokkos::parallel_for("grist::comm::sum_parts", Indices<Space>(space, 0, count),
                       KOKKOS_LAMBDA(Index i) { sum[i] = sum_of(parts + i, ranks, stride); });
  space.fence("grist::comm: sums for MPI");
}

template <class Space, class T>
void copy(const Space& space, const T* from, Index count, T* to) {
  using There = typename Space::memory_space;
  Kokkos::deep_copy(space, Kokkos::View<T*, There, Kokkos::MemoryUnmanaged>(to, count),
                    Kokkos::View<const T*, There, Kokkos::MemoryUnmanaged>(from, count));
  space.fence("grist::comm: a copy for MPI");
}

template <class T>
struct Piece {
  T* data;
  Index count;
};

/// That of a rank in `all`, whose pieces begin there and end with the last number.
template <class T>
Piece<T> piece_of(T* all, std::span<const Index> begins, int rank) {
  const auto i = static_cast<std::size_t>(rank);
  return {all + begins[i], begins[i + 1] - begins[i]};
}

/// sent(r) goes to rank r, received(r) comes from it: in rounds in which every rank sends one piece and receives one.
template <class T, class Sent, class Received>
void exchange(MPI_Comm comm, int rank, int ranks, Index largest, Sent&& sent, Received&& received) {
  constexpr int tag = 0;
  for (int round = 1; round < ranks; ++round) {
    const int to = (rank + round) % ranks, from = (rank + ranks - round) % ranks;
    const Piece<const T> out = sent(to);
    const Piece<T> in = received(from);
    for (Index first = 0; first < std::max(out.count, in.count); first += largest) {
      const auto left = [&](Index count) { return static_cast<int>(std::clamp<Index>(count - first, 0, largest)); };
      const int n = left(out.count), m = left(in.count);
      check(MPI_Sendrecv(n > 0 ? out.data + first : nullptr, n, datatype<T>(), n > 0 ? to : MPI_PROC_NULL, tag,
                         m > 0 ? in.data + first : nullptr, m, datatype<T>(), m > 0 ? from : MPI_PROC_NULL, tag, comm,
                         MPI_STATUS_IGNORE),
            "MPI_Sendrecv");
    }
  }
}

/// A small message is gathered by all and summed by each; of a large one every rank sums its share. `data` is memory of
/// the space, and complete.
template <class Space, class T>
void sum_in_order(const Space& space, MPI_Comm comm, int ranks, Reserve<typename Space::memory_space>& reserve, T* data,
                  int count) {
  constexpr Index small = 1 << 14;  // elements that a rank receives at most where all gather all
  const bool gathers = Index{count} * ranks <= small;
  const Index share = gathers ? count : (Index{count} + ranks - 1) / ranks;
  const auto n = static_cast<int>(share);
  T* const parts = reserve.template room<T>(2 * share * ranks);
  if (gathers) {
    check(MPI_Allgather(data, n, datatype<T>(), parts, n, datatype<T>(), comm), "MPI_Allgather");
    sum_parts(space, parts, ranks, share, count, data);
    return;
  }
  T* const whole = parts + share * ranks;  // what exceeds `count` is summed too, and read by nobody
  copy(space, data, count, whole);
  check(MPI_Alltoall(whole, n, datatype<T>(), parts, n, datatype<T>(), comm), "MPI_Alltoall");
  sum_parts(space, parts, ranks, share, share, parts);
  check(MPI_Allgather(parts, n, datatype<T>(), whole, n, datatype<T>(), comm), "MPI_Allgather");
  copy(space, whole, count, data);
}

/// sum [count] = piece `rank` of the sum over ranks of all: every rank is sent its piece of all others, and sums them.
template <class Space, class T>
void sum_pieces(const Space& space, MPI_Comm comm, int rank, std::span<const Index> begins, Index largest,
                Reserve<typename Space::memory_space>& reserve, const T* all, T* sum) {
  const int ranks = static_cast<int>(begins.size()) - 1;
  const auto piece = [&](int r) { return piece_of(all, begins, r); };
  const Index count = piece(rank).count;
  T* const parts = reserve.template room<T>(count * ranks);
  copy(space, piece(rank).data, count, parts + rank * count);
  exchange<T>(comm, rank, ranks, largest, piece, [&](int r) { return Piece<T>{parts + r * count, count}; });
  sum_parts(space, parts, ranks, count, count, sum);
}

void expect(bool holds, const char* call, Index found, Index expected) {
  if (!holds) throw ShapeError("{}: {} elements given, {} expected", call, found, expected);
}

/// Pieces of a reduction: of so many elements MPI's buffers stay in the caches, and are not allocated anew. Of 134 M
/// floats on two ranks of a node the sum takes 0.17 s so, and 0.44 s in one piece.
constexpr Index reduction_piece = Index{1} << 20;

/// Where each rank's piece begins, and where the last one ends. Throws ShapeError where these are not the pieces of
/// `all`, or this rank's has not `mine` elements.
std::vector<Index> begins_of(std::span<const Index> counts, int ranks, int rank, Index mine, Index all,
                             const char* call) {
  expect(std::ssize(counts) == ranks, call, std::ssize(counts), ranks);
  std::vector<Index> begins(counts.size() + 1);
  std::partial_sum(counts.begin(), counts.end(), begins.begin() + 1);
  expect(mine == counts[static_cast<std::size_t>(rank)], call, mine, counts[static_cast<std::size_t>(rank)]);
  expect(all == begins.back(), call, all, begins.back());
  return begins;
}

}  // namespace

/// Copies for MPI that no message uses now.
using IdleStaging = std::vector<Staging>;

/// Bytes of a message, in the memory of a View or in a copy for MPI.
struct Transfer::State {
  State(const Exec& exec, std::shared_ptr<IdleStaging> idle_, bool direct, View1<std::byte> values, bool receives)
      : idle(std::move(idle_)), staging(direct), target(receives ? values : View1<std::byte>()) {
    if (!idle->empty()) {
      staging = std::move(idle->back());
      idle->pop_back();
    }
    if (receives) exec.fence("grist::comm: MPI writes");
    else staging.load(exec, as_const(values));
    data = staging.room(values);
  }

  std::shared_ptr<IdleStaging> idle;
  Staging staging;
  View1<std::byte> target;  // empty: sends
  std::byte* data = nullptr;
  std::vector<MPI_Request> requests;
};

Transfer::Transfer() = default;
Transfer::Transfer(Transfer&&) noexcept = default;
Transfer& Transfer::operator=(Transfer&&) noexcept = default;
Transfer::~Transfer() = default;
Transfer::Transfer(std::unique_ptr<State> state) : state_(std::move(state)) {}

bool Transfer::arrived() {
  if (!state_) return true;
  int flag = 0;
  check(MPI_Testall(static_cast<int>(state_->requests.size()), state_->requests.data(), &flag, MPI_STATUSES_IGNORE),
        "MPI_Testall");
  return flag != 0;
}

void Transfer::wait(const Exec& exec) {
  if (!state_) return;
  check(MPI_Waitall(static_cast<int>(state_->requests.size()), state_->requests.data(), MPI_STATUSES_IGNORE),
        "MPI_Waitall");
  if (state_->target.size() != 0) {
    state_->staging.store(exec, state_->target);
    exec.fence("grist::comm: a message is where it belongs");
  }
  state_->idle->push_back(std::move(state_->staging));
  state_.reset();
}

struct Communicator::Shared {
  Shared(MPI_Comm c, bool d) : comm(c), direct(d) {
    check(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  }
  ~Shared() {
    int finalized = 0;
    MPI_Finalized(&finalized);
    if (!finalized) MPI_Comm_free(&comm);
  }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  /// Sums of 16-bit values are host code, of ours: MPI must not call it with device memory.
  template <class T>
  [[nodiscard]] bool reduces_directly() const { return direct && (host_reaches_memory || sizeof(T) > 2); }

  MPI_Comm comm;
  bool direct;
  Staging source{direct}, target{direct};
  Staging host_source{direct && host_reaches_memory}, host_target{direct && host_reaches_memory};
  Reserve<Memory> device;
  Reserve<Kokkos::HostSpace> host;
  std::shared_ptr<IdleStaging> idle = std::make_shared<IdleStaging>();
};

Communicator::Communicator(CommHandle parent, int largest_message) : largest_message_(largest_message) {
  expect(largest_message > 0, "Communicator: largest_message", largest_message, 1);
  MPI_Comm copy = MPI_COMM_NULL;
  check(MPI_Comm_dup(parent, &copy), "MPI_Comm_dup");
  *this = Communicator(std::make_shared<Shared>(copy, gpu_aware_mpi()), largest_message);
}

Communicator::Communicator(std::shared_ptr<Shared> shared, int largest_message)
    : shared_(std::move(shared)), largest_message_(largest_message) {
  check(MPI_Comm_rank(handle(), &rank_), "MPI_Comm_rank");
  check(MPI_Comm_size(handle(), &size_), "MPI_Comm_size");
}

CommHandle Communicator::handle() const { return shared_->comm; }

bool Communicator::direct() const { return shared_->direct; }

Communicator Communicator::split(int color, int key) const {
  MPI_Comm part = MPI_COMM_NULL;
  check(MPI_Comm_split(handle(), color, key, &part), "MPI_Comm_split");
  return Communicator(std::make_shared<Shared>(part, direct()), largest_message_);
}

Communicator Communicator::split_by_node() const {
  // By name: MPI_COMM_TYPE_SHARED gives each rank a node of its own in some builds of MPICH (Debian's 5.0.2-2). Two
  // machines may share a name, but not the identity that Linux draws at each boot.
  using Name = std::array<char, MPI_MAX_PROCESSOR_NAME + 64>;
  Name mine{};
  int length = 0;
  check(MPI_Get_processor_name(mine.data(), &length), "MPI_Get_processor_name");
  std::ifstream("/proc/sys/kernel/random/boot_id").getline(mine.data() + length, 64);
  std::vector<Name> names(static_cast<std::size_t>(size_));
  check(MPI_Allgather(mine.data(), sizeof mine, MPI_BYTE, names.data(), sizeof mine, MPI_BYTE, handle()),
        "MPI_Allgather");
  return split(static_cast<int>(std::ranges::find(names, mine) - names.begin()), rank_);
}

void Communicator::barrier() const { check(MPI_Barrier(handle()), "MPI_Barrier"); }

template <class T>
void Communicator::all_reduce(const Exec& exec, View1<T> values, Reduction reduction) const {
  if (size_ == 1) return;
  Staging& staging = shared_->reduces_directly<T>() ? shared_->source : shared_->host_source;
  staging.load(exec, View1<const T>(values));
  T* const data = staging.room(values);
  const Operation<T> operation(reduction);
  const bool ordered = needs_order<T>(size_, reduction);
  const Index largest = std::min(reduction_piece, Index{ordered ? largest_message_ / size_ + 1 : largest_message_});
  in_pieces(static_cast<Index>(values.size()), largest, [&](Index first, int count) {
    if (!ordered)
      check(MPI_Allreduce(MPI_IN_PLACE, data + first, count, datatype<T>(), operation, handle()), "MPI_Allreduce");
    else if (shared_->reduces_directly<T>())
      sum_in_order(exec, handle(), size_, shared_->device, data + first, count);
    else
      sum_in_order(HostExec(), handle(), size_, shared_->host, data + first, count);
  });
  staging.store(exec, values);
}

template <class T>
T Communicator::all_reduce(T value, Reduction reduction) const {
  if (!needs_order<T>(size_, reduction)) {
    check(MPI_Allreduce(MPI_IN_PLACE, &value, 1, datatype<T>(), Operation<T>(reduction), handle()), "MPI_Allreduce");
    return value;
  }
  std::vector<T> all(static_cast<std::size_t>(size_));
  check(MPI_Allgather(&value, 1, datatype<T>(), all.data(), 1, datatype<T>(), handle()), "MPI_Allgather");
  return sum_of(all.data(), size_, 1);
}

template <class T>
void Communicator::all_gather(const Exec& exec, View1<const T> mine, View1<T> all) const {
  const Index count = static_cast<Index>(mine.size());
  expect(static_cast<Index>(all.size()) == count * size_, "all_gather", static_cast<Index>(all.size()), count * size_);
  if (size_ == 1) {
    if (all.data() != mine.data()) Kokkos::deep_copy(exec, all, mine);
    return;
  }
  const T* const source = shared_->source.load(exec, mine);
  T* const target = shared_->target.room(all);
  const bool in_place = source == target + rank_ * count;
  if (count <= largest_message_) {
    const int n = static_cast<int>(count);
    check(MPI_Allgather(in_place ? MPI_IN_PLACE : source, n, datatype<T>(), target, n, datatype<T>(), handle()),
          "MPI_Allgather");
  } else {
    const auto own = target + rank_ * count;
    if (in_place) exec.fence("grist::comm: what is gathered is complete");
    else if (direct()) copy(exec, source, count, own);
    else std::copy_n(source, count, own);
    for (int root = 0; root < size_; ++root) broadcast(target + root * count, count, root);
  }
  shared_->target.store(exec, all);
}

template <class T>
void Communicator::all_gather(const Exec& exec, View1<const T> mine, View1<T> all,
                              std::span<const Index> counts) const {
  const auto begins = begins_of(counts, size_, rank_, static_cast<Index>(mine.size()), static_cast<Index>(all.size()),
                                "all_gather");
  const T* const source = shared_->source.load(exec, mine);
  T* const target = shared_->target.room(all);
  const auto piece = [&](int r) { return piece_of<T>(target, begins, r); };
  const auto own = piece(rank_);
  if (direct()) copy(exec, source, own.count, own.data);
  else std::copy_n(source, own.count, own.data);
  exchange<T>(handle(), rank_, size_, largest_message_, [&](int) { return Piece<const T>{source, own.count}; }, piece);
  shared_->target.store(exec, all);
}

template <class T>
void Communicator::reduce_scatter(const Exec& exec, View1<const T> all, View1<T> mine,
                                  std::span<const Index> counts) const {
  const auto begins = begins_of(counts, size_, rank_, static_cast<Index>(mine.size()), static_cast<Index>(all.size()),
                                "reduce_scatter");
  const bool direct = shared_->reduces_directly<T>();
  Staging& targets = direct ? shared_->target : shared_->host_target;
  const T* const source = (direct ? shared_->source : shared_->host_source).load(exec, all);
  T* const target = targets.room(mine);
  if (direct)
    sum_pieces(exec, handle(), rank_, begins, largest_message_, shared_->device, source, target);
  else
    sum_pieces(HostExec(), handle(), rank_, begins, largest_message_, shared_->host, source, target);
  targets.store(exec, mine);
}

template <class T>
void Communicator::broadcast(const Exec& exec, View1<T> values, int root) const {
  if (size_ == 1) return;
  shared_->source.load(exec, View1<const T>(values));
  broadcast(shared_->source.room(values), static_cast<Index>(values.size()), root);
  shared_->source.store(exec, values);
}

template <class T>
void Communicator::send(const Exec& exec, View1<const T> values, int to, int tag) const {
  const T* const data = shared_->source.load(exec, values);
  in_pieces(static_cast<Index>(values.size()), largest_message_, [&](Index first, int count) {
    check(MPI_Send(data + first, count, datatype<T>(), to, tag, handle()), "MPI_Send");
  });
}

template <class T>
void Communicator::recv(const Exec& exec, View1<T> values, int from, int tag) const {
  exec.fence("grist::comm: MPI writes");
  T* const data = shared_->target.room(values);
  in_pieces(static_cast<Index>(values.size()), largest_message_, [&](Index first, int count) {
    MPI_Status status;
    check(MPI_Recv(data + first, count, datatype<T>(), from, tag, handle(), &status), "MPI_Recv");
    int received = 0;
    check(MPI_Get_count(&status, datatype<T>(), &received), "MPI_Get_count");
    expect(received == count, "recv", received, count);
  });
  shared_->target.store(exec, values);
}

template <class T>
Transfer Communicator::start_send(const Exec& exec, View1<const T> values, int to, int tag) const {
  const View1<std::byte> bytes(reinterpret_cast<std::byte*>(const_cast<T*>(values.data())), values.size() * sizeof(T));
  auto state = std::make_unique<Transfer::State>(exec, shared_->idle, direct(), bytes, false);
  const auto* const data = reinterpret_cast<const T*>(state->data);
  in_pieces(static_cast<Index>(values.size()), largest_message_, [&](Index first, int count) {
    check(MPI_Isend(data + first, count, datatype<T>(), to, tag, handle(), &state->requests.emplace_back()),
          "MPI_Isend");
  });
  return Transfer(std::move(state));
}

template <class T>
Transfer Communicator::start_recv(const Exec& exec, View1<T> values, int from, int tag) const {
  const View1<std::byte> bytes(reinterpret_cast<std::byte*>(values.data()), values.size() * sizeof(T));
  auto state = std::make_unique<Transfer::State>(exec, shared_->idle, direct(), bytes, true);
  auto* const data = reinterpret_cast<T*>(state->data);
  in_pieces(static_cast<Index>(values.size()), largest_message_, [&](Index first, int count) {
    check(MPI_Irecv(data + first, count, datatype<T>(), from, tag, handle(), &state->requests.emplace_back()),
          "MPI_Irecv");
  });
  return Transfer(std::move(state));
}

template <class T>
void Communicator::broadcast(T* values, Index count, int root) const {
  in_pieces(count, largest_message_, [&](Index first, int n) {
    check(MPI_Bcast(values + first, n, datatype<T>(), root, handle()), "MPI_Bcast");
  });
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
