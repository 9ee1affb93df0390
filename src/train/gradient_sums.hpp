// Sums of gradients over the ranks of dp while the backward pass goes on, in buckets (Li et al. 2020, PyTorch DDP).
// Where ranks lie on several nodes: first within each node, then across, so that each element leaves a node once.
#pragma once

#include <grist/comm/communicator.hpp>
#include <grist/model/sharding.hpp>

#include <cstdint>
#include <deque>
#include <vector>

namespace grist::train {

class GradientSums {
public:
  /// Of a flat array, equally long on all ranks of `dp`, of which `node` has those of this rank's node. Without
  /// `shares` every rank gets the whole sum; with them (ZeRO-1) rank r gets that of the r-th of dp.size() equal shares,
  /// and the rest of its array is not the sum. Collective over dp. Sums are taken in one order of ranks, so their bits
  /// depend on dp and on which ranks share a node, and on nothing else.
  GradientSums(const Communicator& dp, const Communicator& node, View1<float> gradients, bool shares);

  /// Says that all ranks of dp say so too, in the same order: of these elements this rank's gradient is complete.
  void start(const Exec& exec, Range elements);
  /// Moves on what is under way, without waiting.
  void progress(const Exec& exec);
  /// Waits for all that was started.
  void finish(const Exec& exec);

  /// Bytes that it holds.
  [[nodiscard]] std::uint64_t bytes() const;
  /// What it holds at most, wherever the ranks lie.
  static std::uint64_t bytes_for(int ranks, bool shares);

private:
  /// What becomes of a piece of a bucket, one after the other.
  enum Phase { sum_in_node, sum_across, gather_across, gather_in_node, ended };

  struct Piece {
    Range elements{};
    Phase phase = ended;
    std::vector<Transfer> transfers;
  };

  [[nodiscard]] Range slice(Range elements, int node, int place) const;
  [[nodiscard]] std::vector<Range> slices(const Piece& piece, int member) const;
  void begin_phase(const Exec& exec, std::size_t slot);
  void sum_received(const Exec& exec, std::size_t slot);
  [[nodiscard]] const Communicator& group(Phase phase) const;

  Communicator node_, across_;  // ranks of dp on this node; those that have this rank's place on theirs
  View1<float> gradients_;
  bool shares_;
  int ranks_;
  std::vector<int> rank_of_;  // [node, place on it]: rank of dp
  Index piece_size_;
  std::deque<Range> waiting_;
  std::vector<Piece> slots_;  // the k-th piece takes slot k % slots
  std::size_t next_ = 0;      // the slot that the next piece takes
  Buffer<float> received_;    // [slots, other ranks' parts]
  Index room_;                // of a slot in received_
};

}  // namespace grist::train
