// A communicator of its own over the caller's, with typed collectives on Views.
#pragma once

#include <grist/comm/handle.hpp>
#include <grist/core/view.hpp>

#include <memory>
#include <span>

namespace grist {

enum class Reduction { sum, max };

/// A message under way. What it sends stays as it is, and what it receives is not there, until wait() has returned. It
/// may be moved, not dropped.
class Transfer {
public:
  Transfer();
  Transfer(Transfer&&) noexcept;
  Transfer& operator=(Transfer&&) noexcept;
  ~Transfer();

  /// Whether there is nothing to wait for.
  [[nodiscard]] bool none() const { return state_ == nullptr; }
  /// Whether wait() would return at once; moves it on.
  [[nodiscard]] bool arrived();
  void wait(const Exec& exec);

private:
  friend class Communicator;
  struct State;
  explicit Transfer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;  // null: nothing to wait for
};

/// Collectives over a group of ranks. Counts are in elements and 64 bits wide; T is float, double, int, Index, bf16 or
/// f16. all_reduce sums in the order of ranks, so that its bits depend neither on the message's size nor on MPI's
/// choice of an algorithm; 16-bit values are summed in float and rounded once. The execution space instance is fenced
/// before MPI reads a View; what is enqueued on it afterwards finds the result. Device memory goes to a GPU-aware MPI
/// as it is (gpu_aware.hpp), to any other by pinned host memory, which is kept from call to call. Every MPI status is
/// checked: InternalError. Thread level: MPI_THREAD_FUNNELED.
class Communicator {
public:
  /// Duplicates `parent`, which stays the caller's. Larger messages than `largest_message` elements go in pieces.
  explicit Communicator(CommHandle parent, int largest_message = 1 << 30);

  /// Ranks of equal colour, ordered by key.
  [[nodiscard]] Communicator split(int color, int key) const;
  /// Ranks that share this rank's memory.
  [[nodiscard]] Communicator split_by_node() const;

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] CommHandle handle() const;
  /// Whether MPI is given the memory of Views, not a copy of it.
  [[nodiscard]] bool direct() const;

  void barrier() const;

  /// values [n] = reduction over all ranks of values [n].
  template <class T>
  void all_reduce(const Exec& exec, View1<T> values, Reduction reduction = Reduction::sum) const;

  /// all [size * n] = mine [n] of every rank, in the order of ranks. `mine` may be this rank's place in `all`.
  template <class T>
  void all_gather(const Exec& exec, View1<const T> mine, View1<T> all) const;

  /// The same for pieces that are not alike: counts [size] says how many elements each rank has.
  template <class T>
  void all_gather(const Exec& exec, View1<const T> mine, View1<T> all, std::span<const Index> counts) const;

  /// mine [counts[rank]] = piece `rank` of the sum over ranks of all, whose pieces have so many elements. Sums are in
  /// the order of ranks, as those of all_reduce: of the same values they have the same bits.
  template <class T>
  void reduce_scatter(const Exec& exec, View1<const T> all, View1<T> mine, std::span<const Index> counts) const;

  /// values [n] = values of rank `root`.
  template <class T>
  void broadcast(const Exec& exec, View1<T> values, int root) const;

  template <class T>
  void send(const Exec& exec, View1<const T> values, int to, int tag = 0) const;
  template <class T>
  void recv(const Exec& exec, View1<T> values, int from, int tag = 0) const;
  template <class T>
  [[nodiscard]] Transfer start_send(const Exec& exec, View1<const T> values, int to, int tag = 0) const;
  template <class T>
  [[nodiscard]] Transfer start_recv(const Exec& exec, View1<T> values, int from, int tag = 0) const;

  /// Host values, for control: the same operations on plain memory.
  template <class T>
  T all_reduce(T value, Reduction reduction = Reduction::sum) const;
  template <class T>
  void broadcast(T* values, Index count, int root) const;

private:
  struct Shared;  // what the copies of a communicator share; freed with the last one
  Communicator(std::shared_ptr<Shared> shared, int largest_message);

  std::shared_ptr<Shared> shared_;
  int rank_ = 0;
  int size_ = 1;
  int largest_message_;
};

/// Flattens a contiguous View of any rank, for the collectives.
template <class T>
View1<T> flat(View2<T> v) { return View1<T>(v.data(), v.size()); }

}  // namespace grist
