// A table of numbers by number that lies spread over ranks, and that each of them reads at any time. What differs with
// and without MPI stands in mpi/ and single/.
#pragma once

#include <grist/comm/communicator.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace grist {

/// Keys are hashes: spread evenly over 64 bits, and never 0.
struct TableEntry {
  std::uint64_t key = 0;
  std::uint64_t value = 0;
  bool operator==(const TableEntry&) const = default;
};

/// All entries of all ranks of whose keys this rank is the owner (SharedTable), in no promised order; several may have
/// one key. Collective. No message is larger than `largest_message` entries. Throws InternalError where MPI fails.
std::vector<TableEntry> sent_to_owners(const Communicator& ranks, std::vector<TableEntry> entries,
                                       Index largest_message = 1 << 26);

/// A hash table in a window of each rank (MPI one-sided), read without the owner's help where the network can; over TCP
/// a reader waits until the owner next enters MPI. Making and destroying one is collective. Throws InternalError where
/// MPI fails.
class SharedTable {
public:
  /// `mine`: the entries that this rank owns, each key once.
  SharedTable(const Communicator& ranks, std::span<const TableEntry> mine);
  ~SharedTable();
  SharedTable(const SharedTable&) = delete;
  SharedTable& operator=(const SharedTable&) = delete;

  /// The values of some keys, read together; none for a key that is not there. May be called by any rank alone.
  [[nodiscard]] std::vector<std::optional<std::uint64_t>> find(std::span<const std::uint64_t> keys) const;

private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace grist
