#include <grist/train/gradient_sums.hpp>

#include <algorithm>

namespace grist::train {
namespace {

constexpr int slots = 8;                         // pieces under way
constexpr Index largest_piece = Index{1} << 20;  // elements: MPI's buffers stay in the caches

/// Elements of a piece. With shares one rank may receive all parts of a piece: 128 MiB in all slots at most.
Index piece_size(int ranks, bool shares) {
  if (!shares) return largest_piece;
  return std::clamp(4 * largest_piece / std::max(1, ranks - 1), largest_piece / 256, largest_piece);
}

/// Elements that a rank receives of a piece at once: parts of what it sums.
Index received_size(int ranks, bool shares) {
  return shares ? (ranks - 1) * piece_size(ranks, shares) : piece_size(ranks, shares) + ranks;
}

/// The ranks of this node where all nodes have equally many, else all of dp.
const Communicator& even(const Communicator& dp, const Communicator& node) {
  const Index most = dp.all_reduce(Index{node.size()}, Reduction::max);
  const Index least = -dp.all_reduce(-Index{node.size()}, Reduction::max);
  return most == least ? node : dp;
}

/// own [size] = sum over members, in their order, of own and of received [members - 1, stride].
void add_parts(const Exec& exec, View1<float> own, const float* received, Index stride, int members, int me) {
  Kokkos::parallel_for(
      "grist::train::sum_gradients", Indices<Exec>(exec, 0, own.size()), KOKKOS_LAMBDA(Index i) {
        float sum = me == 0 ? own(i) : received[i];
        for (int member = 1; member < members; ++member)
          sum += member == me ? own(i) : received[(member < me ? member : member - 1) * stride + i];
        own(i) = sum;
      });
}

int first_rank(const Communicator& dp, const Communicator& node) {
  int rank = dp.rank();
  node.broadcast(&rank, 1, 0);
  return rank;
}

}  // namespace

GradientSums::GradientSums(const Communicator& dp, const Communicator& node, View1<float> gradients, bool shares)
    : node_(even(dp, node)),
      across_(dp.split(node_.rank(), first_rank(dp, node_))),
      gradients_(gradients),
      shares_(shares),
      ranks_(dp.size()),
      rank_of_(static_cast<std::size_t>(dp.size())),
      piece_size_(piece_size(dp.size(), shares)),
      slots_(dp.size() == 1 ? 0 : slots),
      room_(received_size(dp.size(), shares)) {
  for (int rank = 0; rank < ranks_; ++rank) {
    int place = across_.rank() * node_.size() + node_.rank();
    dp.broadcast(&place, 1, rank);
    rank_of_[static_cast<std::size_t>(place)] = rank;
  }
  if (ranks_ > 1) received_ = {"parts of gradients", slots * room_};
}

std::uint64_t GradientSums::bytes() const { return static_cast<std::uint64_t>(received_.size()) * sizeof(float); }

std::uint64_t GradientSums::bytes_for(int ranks, bool shares) {
  return ranks == 1 ? 0 : static_cast<std::uint64_t>(slots * received_size(ranks, shares)) * sizeof(float);
}

/// What of some elements a rank sums.
Range GradientSums::slice(Range elements, int node, int place) const {
  const int rank = rank_of_[static_cast<std::size_t>(node * node_.size() + place)];
  if (!shares_) {
    const Index size = elements.size();
    return {elements.begin + size * rank / ranks_, elements.begin + size * (rank + 1) / ranks_};
  }
  const Index share = static_cast<Index>(gradients_.size()) / ranks_;
  const Index begin = std::max(elements.begin, share * rank), end = std::min(elements.end, share * (rank + 1));
  return {begin, std::max(begin, end)};
}

const Communicator& GradientSums::group(Phase phase) const {
  return phase == sum_in_node || phase == gather_in_node ? node_ : across_;
}

/// What a member of the phase's group has after its sum, and gives in its gather.
std::vector<Range> GradientSums::slices(const Piece& piece, int member) const {
  if (&group(piece.phase) == &across_) return {slice(piece.elements, member, node_.rank())};
  std::vector<Range> all;
  for (int node = 0; node < across_.size(); ++node) all.push_back(slice(piece.elements, node, member));
  return all;
}

void GradientSums::begin_phase(const Exec& exec, std::size_t slot) {
  Piece& piece = slots_[slot];
  const Communicator& ranks = group(piece.phase);
  const bool gathers = piece.phase == gather_across || piece.phase == gather_in_node;
  const int tag = static_cast<int>(slot) * ended + piece.phase;
  const auto of = [&](Range range) { return View1<float>(gradients_.data() + range.begin, range.size()); };
  const auto mine = slices(piece, ranks.rank());
  Index at = static_cast<Index>(slot) * room_;
  for (int member = 0; member < ranks.size(); ++member) {
    if (member == ranks.rank()) continue;
    const auto theirs = slices(piece, member);
    for (const Range range : gathers ? theirs : mine) {
      if (range.size() == 0) continue;
      const View1<float> target = gathers ? of(range) : View1<float>(received_.data() + at, range.size());
      piece.transfers.push_back(ranks.start_recv(exec, target, member, tag));
      at += range.size();
    }
    for (const Range range : gathers ? mine : theirs)
      if (range.size() != 0) piece.transfers.push_back(ranks.start_send(exec, as_const(of(range)), member, tag));
  }
}

/// Adds what all members of the group have of this rank's slices, in their order.
void GradientSums::sum_received(const Exec& exec, std::size_t slot) {
  const Communicator& ranks = group(slots_[slot].phase);
  const auto mine = slices(slots_[slot], ranks.rank());
  Index stride = 0, at = static_cast<Index>(slot) * room_;
  for (const Range range : mine) stride += range.size();
  for (const Range range : mine) {
    add_parts(exec, View1<float>(gradients_.data() + range.begin, range.size()), received_.data() + at, stride,
              ranks.size(), ranks.rank());
    at += range.size();
  }
  exec.fence("grist::train: sums of gradients for MPI");
}

void GradientSums::start(const Exec& exec, Range elements) {
  if (ranks_ == 1) return;
  exec.fence("grist::train: gradients are complete");
  for (Index begin = elements.begin; begin < elements.end; begin += piece_size_)
    waiting_.push_back({begin, std::min(begin + piece_size_, elements.end)});
  progress(exec);
}

void GradientSums::progress(const Exec& exec) {
  for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
    Piece& piece = slots_[slot];
    while (piece.phase != ended && std::ranges::all_of(piece.transfers, &Transfer::arrived)) {
      for (Transfer& transfer : piece.transfers) transfer.wait(exec);
      piece.transfers.clear();
      if (piece.phase <= sum_across && group(piece.phase).size() > 1) sum_received(exec, slot);
      piece.phase = shares_ && piece.phase == sum_across ? ended : static_cast<Phase>(piece.phase + 1);
      if (piece.phase != ended) begin_phase(exec, slot);
    }
  }
  while (!waiting_.empty() && slots_[next_].phase == ended) {
    slots_[next_] = {waiting_.front(), sum_in_node, {}};
    waiting_.pop_front();
    begin_phase(exec, next_);
    next_ = (next_ + 1) % slots_.size();
  }
}

void GradientSums::finish(const Exec& exec) {
  const auto under_way = [](const Piece& piece) { return piece.phase != ended; };
  do progress(exec);
  while (!waiting_.empty() || std::ranges::any_of(slots_, under_way));
}

}  // namespace grist::train
