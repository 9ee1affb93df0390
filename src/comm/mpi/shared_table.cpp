#include <grist/comm/shared_table.hpp>

#include "check.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <exception>
#include <numeric>
#include <set>

namespace grist {
namespace {

/// A key's place in the table follows from its upper half, which says whose it is, and its lower half.
int owner_of(std::uint64_t key, int ranks) {
  return static_cast<int>(((key >> 32) * static_cast<std::uint64_t>(ranks)) >> 32);
}

constexpr std::size_t bucket_entries = 4;  // a cache line, read in one piece
using Bucket = std::array<TableEntry, bucket_entries>;

/// Half of the entries are free, those with key 0.
std::uint64_t buckets_for(std::size_t entries) { return std::bit_ceil(std::max<std::uint64_t>(1, entries / 2)); }

void put(std::span<Bucket> buckets, const TableEntry& entry) {
  const std::uint64_t mask = buckets.size() - 1;
  for (std::uint64_t at = entry.key & mask;; at = (at + 1) & mask)
    for (auto& place : buckets[at])
      if (place.key == 0) {
        place = entry;
        return;
      }
}

/// The places in a list sorted by owner where each rank's entries begin; one more.
std::vector<std::size_t> begins_of(const std::vector<TableEntry>& sorted, int ranks) {
  std::vector<std::size_t> begins;
  for (int rank = 0; rank <= ranks; ++rank) {
    const auto at = std::ranges::lower_bound(sorted, rank, {}, [&](const auto& e) { return owner_of(e.key, ranks); });
    begins.push_back(static_cast<std::size_t>(at - sorted.begin()));
  }
  return begins;
}

/// Counts and their sums before each, for a collective.
struct Parts {
  std::vector<int> counts, begins;
  explicit Parts(std::vector<int> of) : counts(std::move(of)), begins(counts.size()) {
    std::exclusive_scan(counts.begin(), counts.end(), begins.begin(), 0);
  }
  [[nodiscard]] std::size_t all() const { return static_cast<std::size_t>(begins.back() + counts.back()); }
};

/// Appends to `mine` what all ranks send this one.
void exchange(const Communicator& ranks, const std::vector<TableEntry>& sent, std::vector<int> counts,
              MPI_Datatype entry, std::vector<TableEntry>& mine) {
  std::vector<int> from(counts.size());
  check(MPI_Alltoall(counts.data(), 1, MPI_INT, from.data(), 1, MPI_INT, ranks.handle()), "MPI_Alltoall");
  const Parts out(std::move(counts)), in(std::move(from));
  const std::size_t before = mine.size();
  mine.resize(before + in.all());
  check(MPI_Alltoallv(sent.data(), out.counts.data(), out.begins.data(), entry, mine.data() + before, in.counts.data(),
                      in.begins.data(), entry, ranks.handle()),
        "MPI_Alltoallv");
}

}  // namespace

std::vector<TableEntry> sent_to_owners(const Communicator& ranks, std::vector<TableEntry> entries,
                                       Index largest_message) {
  const int size = ranks.size();
  std::ranges::sort(entries, {}, [&](const TableEntry& entry) { return owner_of(entry.key, size); });
  const auto begins = begins_of(entries, size);
  const auto most = static_cast<std::size_t>(std::max<Index>(1, largest_message / size));
  MPI_Datatype entry = MPI_DATATYPE_NULL;
  check(MPI_Type_contiguous(2, MPI_UINT64_T, &entry), "MPI_Type_contiguous");
  check(MPI_Type_commit(&entry), "MPI_Type_commit");
  std::vector<TableEntry> mine, sent;
  for (std::size_t round = 0;; ++round) {
    sent.clear();
    std::vector<int> counts;
    bool more = false;
    for (std::size_t to = 0; to + 1 < begins.size(); ++to) {
      const std::size_t first = std::min(begins[to] + round * most, begins[to + 1]);
      const std::size_t last = std::min(first + most, begins[to + 1]);
      sent.insert(sent.end(), entries.begin() + static_cast<std::ptrdiff_t>(first),
                  entries.begin() + static_cast<std::ptrdiff_t>(last));
      counts.push_back(static_cast<int>(last - first));
      more = more || last < begins[to + 1];
    }
    exchange(ranks, sent, std::move(counts), entry, mine);
    if (ranks.all_reduce(more ? 1 : 0, Reduction::max) == 0) break;
  }
  check(MPI_Type_free(&entry), "MPI_Type_free");
  return mine;
}

// Each rank's window: buckets, a power of two of them. An entry stands in the bucket that the key's lower half names,
// or in the next one that is not full.
struct SharedTable::State {
  Communicator ranks;
  std::vector<Index> buckets;  // of each rank
  MPI_Win window = MPI_WIN_NULL;

  explicit State(const Communicator& of) : ranks(of.handle()), buckets(static_cast<std::size_t>(of.size())) {}
};

SharedTable::SharedTable(const Communicator& ranks, std::span<const TableEntry> mine)
    : state_(std::make_unique<State>(ranks)) {
  const MPI_Comm handle = state_->ranks.handle();
  const auto count = static_cast<Index>(buckets_for(mine.size()));
  check(MPI_Allgather(&count, 1, MPI_INT64_T, state_->buckets.data(), 1, MPI_INT64_T, handle), "MPI_Allgather");
  Bucket* memory = nullptr;
  check(MPI_Win_allocate(count * static_cast<Index>(sizeof(Bucket)), sizeof(Bucket), MPI_INFO_NULL, handle, &memory,
                         &state_->window),
        "MPI_Win_allocate");
  const std::span<Bucket> buckets(memory, static_cast<std::size_t>(count));
  std::ranges::fill(buckets, Bucket{});
  for (const auto& entry : mine) put(buckets, entry);
  check(MPI_Win_lock_all(MPI_MODE_NOCHECK, state_->window), "MPI_Win_lock_all");
  check(MPI_Win_sync(state_->window), "MPI_Win_sync");
  state_->ranks.barrier();
}

SharedTable::~SharedTable() {
  if (std::uncaught_exceptions() > 0) return;  // others may be elsewhere, and this rank ends all
  MPI_Win_unlock_all(state_->window);
  MPI_Win_free(&state_->window);
}

std::vector<std::optional<std::uint64_t>> SharedTable::find(std::span<const std::uint64_t> keys) const {
  struct Search {
    std::size_t key;
    int owner;
    std::uint64_t bucket;
    Bucket found;
  };
  const auto mask = [&](int owner) {
    return static_cast<std::uint64_t>(state_->buckets[static_cast<std::size_t>(owner)]) - 1;
  };
  std::vector<Search> searches;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const int owner = owner_of(keys[i], state_->ranks.size());
    searches.push_back({i, owner, keys[i] & mask(owner), {}});
  }
  std::vector<std::optional<std::uint64_t>> values(keys.size());
  constexpr int bytes = sizeof(Bucket);
  while (!searches.empty()) {
    for (auto& [key, owner, bucket, found] : searches)
      check(MPI_Get(found.data(), bytes, MPI_BYTE, owner, static_cast<MPI_Aint>(bucket), bytes, MPI_BYTE,
                    state_->window),
            "MPI_Get");
    std::set<int> owners;
    for (const auto& search : searches) owners.insert(search.owner);
    for (const int owner : owners) check(MPI_Win_flush(owner, state_->window), "MPI_Win_flush");
    std::erase_if(searches, [&](Search& search) {
      for (const auto& entry : search.found) {
        if (entry.key == keys[search.key]) values[search.key] = entry.value;
        if (entry.key == keys[search.key] || entry.key == 0) return true;
      }
      search.bucket = (search.bucket + 1) & mask(search.owner);
      return false;
    });
  }
  return values;
}

}  // namespace grist
