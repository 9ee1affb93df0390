#include <grist/comm/communicator.hpp>

#include <grist/core/errors.hpp>

#include <algorithm>
#include <array>
#include <fstream>
#include <string>
#include <type_traits>
#include <vector>

namespace grist {
namespace {

void check(int status, const char* call) {
  if (status == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(status, text, &length);
  throw InternalError("{} failed: {}", call, std::string(text, static_cast<std::size_t>(length)));
}

std::shared_ptr<const MPI_Comm> own(MPI_Comm comm) {
  check(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  return {new MPI_Comm(comm), [](MPI_Comm* c) {
            int finalized = 0;
            MPI_Finalized(&finalized);
            if (!finalized) MPI_Comm_free(c);
            delete c;
          }};
}

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

/// Whether a result depends on the order of ranks: of two a sum has one order, integers and maxima the same bits in any.
template <class T>
bool needs_order(int ranks, Reduction reduction) {
  return ranks > 2 && reduction == Reduction::sum && !std::is_integral_v<T>;
}

/// sum [count] = parts [ranks, stride], from the first rank to the last.
template <class T>
void sum_parts(const T* parts, int ranks, Index stride, Index count, T* sum) {
  using Wide = std::conditional_t<sizeof(T) == 2, float, T>;
  for (Index i = 0; i < count; ++i) {
    Wide total = static_cast<Wide>(parts[i]);
    for (int rank = 1; rank < ranks; ++rank) total += static_cast<Wide>(parts[rank * stride + i]);
    sum[i] = T(total);
  }
}

/// Host memory that MPI may read: the View's own, or a copy where the device's memory is out of MPI's reach.
template <class T>
class HostImage {
public:
  HostImage(const Exec& exec, View1<T> view) : view_(view) {
    exec.fence("grist::comm: before MPI");
    if constexpr (!direct) host_ = Kokkos::create_mirror(Kokkos::HostSpace{}, view_);
  }
  T* data() { return direct ? view_.data() : const_cast<T*>(host_.data()); }
  T* load() {
    if constexpr (!direct) Kokkos::deep_copy(host_, view_);
    return data();
  }
  void store() {
    if constexpr (!direct) Kokkos::deep_copy(view_, host_);
  }

private:
  static constexpr bool direct = Kokkos::SpaceAccessibility<Kokkos::HostSpace, Memory>::accessible;
  View1<T> view_;
  Kokkos::View<std::remove_const_t<T>*, Kokkos::LayoutRight, Kokkos::HostSpace> host_;
};

void expect(bool holds, const char* call, Index found, Index expected) {
  if (!holds) throw ShapeError("{}: {} elements given, {} expected", call, found, expected);
}

}  // namespace

Communicator::Communicator(MPI_Comm parent, int largest_message) : largest_message_(largest_message) {
  expect(largest_message > 0, "Communicator: largest_message", largest_message, 1);
  MPI_Comm copy = MPI_COMM_NULL;
  check(MPI_Comm_dup(parent, &copy), "MPI_Comm_dup");
  *this = Communicator(own(copy), largest_message);
}

Communicator::Communicator(std::shared_ptr<const MPI_Comm> comm, int largest_message)
    : comm_(std::move(comm)), largest_message_(largest_message) {
  check(MPI_Comm_rank(*comm_, &rank_), "MPI_Comm_rank");
  check(MPI_Comm_size(*comm_, &size_), "MPI_Comm_size");
}

Communicator Communicator::split(int color, int key) const {
  MPI_Comm part = MPI_COMM_NULL;
  check(MPI_Comm_split(*comm_, color, key, &part), "MPI_Comm_split");
  return Communicator(own(part), largest_message_);
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
  check(MPI_Allgather(mine.data(), sizeof mine, MPI_BYTE, names.data(), sizeof mine, MPI_BYTE, *comm_), "MPI_Allgather");
  return split(static_cast<int>(std::ranges::find(names, mine) - names.begin()), rank_);
}

void Communicator::barrier() const { check(MPI_Barrier(*comm_), "MPI_Barrier"); }

/// A small message is gathered by all and summed by each; of a large one every rank sums its share.
template <class T>
void Communicator::sum_in_order(T* data, int count) const {
  constexpr Index small = 1 << 14;  // elements that a rank receives at most where all gather all
  const bool gathers = Index{count} * size_ <= small;
  const Index share = gathers ? count : (Index{count} + size_ - 1) / size_;
  const auto n = static_cast<int>(share);
  std::vector<T> parts(static_cast<std::size_t>(share * size_));
  if (gathers) {
    check(MPI_Allgather(data, n, datatype<T>(), parts.data(), n, datatype<T>(), *comm_), "MPI_Allgather");
    sum_parts(parts.data(), size_, share, count, data);
    return;
  }
  std::vector<T> whole(data, data + count);
  whole.resize(parts.size());
  check(MPI_Alltoall(whole.data(), n, datatype<T>(), parts.data(), n, datatype<T>(), *comm_), "MPI_Alltoall");
  sum_parts(parts.data(), size_, share, share, parts.data());
  check(MPI_Allgather(parts.data(), n, datatype<T>(), whole.data(), n, datatype<T>(), *comm_), "MPI_Allgather");
  std::copy_n(whole.data(), count, data);
}

template <class T>
void Communicator::all_reduce(const Exec& exec, View1<T> values, Reduction reduction) const {
  if (size_ == 1) return;
  HostImage<T> image(exec, values);
  T* data = image.load();
  const Operation<T> operation(reduction);
  const bool ordered = needs_order<T>(size_, reduction);
  const Index largest = ordered ? largest_message_ / size_ + 1 : largest_message_;
  in_pieces(static_cast<Index>(values.size()), largest, [&](Index first, int count) {
    if (ordered) return sum_in_order(data + first, count);
    check(MPI_Allreduce(MPI_IN_PLACE, data + first, count, datatype<T>(), operation, *comm_), "MPI_Allreduce");
  });
  image.store();
}

template <class T>
void Communicator::all_gather(const Exec& exec, View1<const T> mine, View1<T> all) const {
  const Index count = static_cast<Index>(mine.size());
  expect(static_cast<Index>(all.size()) == count * size_, "all_gather", static_cast<Index>(all.size()), count * size_);
  HostImage<const T> from(exec, mine);
  HostImage<T> to(exec, all);
  const T* source = from.load();
  T* target = to.data();
  if (count <= largest_message_) {
    const int n = static_cast<int>(count);
    check(MPI_Allgather(source, n, datatype<T>(), target, n, datatype<T>(), *comm_), "MPI_Allgather");
  } else {
    std::copy(source, source + count, target + rank_ * count);
    for (int root = 0; root < size_; ++root) broadcast(target + root * count, count, root);
  }
  to.store();
}

template <class T>
void Communicator::reduce_scatter(const Exec& exec, View1<const T> all, View1<T> mine) const {
  const Index count = static_cast<Index>(mine.size());
  expect(static_cast<Index>(all.size()) == count * size_, "reduce_scatter", static_cast<Index>(all.size()),
         count * size_);
  HostImage<const T> from(exec, all);
  HostImage<T> to(exec, mine);
  const T* source = from.load();
  T* target = to.data();
  const Operation<T> operation(Reduction::sum);
  if (count <= largest_message_) {
    check(MPI_Reduce_scatter_block(source, target, static_cast<int>(count), datatype<T>(), operation, *comm_),
          "MPI_Reduce_scatter_block");
  } else {
    for (int root = 0; root < size_; ++root) {
      in_pieces(count, largest_message_, [&](Index first, int n) {
        check(MPI_Reduce(source + root * count + first, target + first, n, datatype<T>(), operation, root, *comm_),
              "MPI_Reduce");
      });
    }
  }
  to.store();
}

template <class T>
void Communicator::broadcast(const Exec& exec, View1<T> values, int root) const {
  if (size_ == 1) return;
  HostImage<T> image(exec, values);
  broadcast(image.load(), static_cast<Index>(values.size()), root);
  image.store();
}

template <class T>
void Communicator::send(const Exec& exec, View1<const T> values, int to, int tag) const {
  HostImage<const T> image(exec, values);
  const T* data = image.load();
  in_pieces(static_cast<Index>(values.size()), largest_message_, [&](Index first, int count) {
    check(MPI_Send(data + first, count, datatype<T>(), to, tag, *comm_), "MPI_Send");
  });
}

template <class T>
void Communicator::recv(const Exec& exec, View1<T> values, int from, int tag) const {
  HostImage<T> image(exec, values);
  T* data = image.data();
  in_pieces(static_cast<Index>(values.size()), largest_message_, [&](Index first, int count) {
    MPI_Status status;
    check(MPI_Recv(data + first, count, datatype<T>(), from, tag, *comm_, &status), "MPI_Recv");
    int received = 0;
    check(MPI_Get_count(&status, datatype<T>(), &received), "MPI_Get_count");
    expect(received == count, "recv", received, count);
  });
  image.store();
}

template <class T>
T Communicator::all_reduce(T value, Reduction reduction) const {
  if (size_ == 1) return value;
  if (needs_order<T>(size_, reduction)) {
    sum_in_order(&value, 1);
    return value;
  }
  check(MPI_Allreduce(MPI_IN_PLACE, &value, 1, datatype<T>(), Operation<T>(reduction), *comm_), "MPI_Allreduce");
  return value;
}

template <class T>
void Communicator::broadcast(T* values, Index count, int root) const {
  in_pieces(count, largest_message_, [&](Index first, int n) {
    check(MPI_Bcast(values + first, n, datatype<T>(), root, *comm_), "MPI_Bcast");
  });
}

#define GRIST_INSTANTIATE(T)                                                                   \
  template void Communicator::all_reduce(const Exec&, View1<T>, Reduction) const;              \
  template void Communicator::all_gather(const Exec&, View1<const T>, View1<T>) const;         \
  template void Communicator::reduce_scatter(const Exec&, View1<const T>, View1<T>) const;     \
  template void Communicator::broadcast(const Exec&, View1<T>, int) const;                     \
  template void Communicator::send(const Exec&, View1<const T>, int, int) const;               \
  template void Communicator::recv(const Exec&, View1<T>, int, int) const;                     \
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
