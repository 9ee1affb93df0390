#include <grist/core/errors.hpp>
#include <grist/train/checkpoint_file.hpp>
#include <grist/train/checkpoint_piece.hpp>
#include <grist/train/trainer_state.hpp>

#include <algorithm>
#include <format>

namespace grist::train {
namespace {

/// A flat array, or with ZeRO-1 this rank's range of it.
struct Held {
  const char* what;
  View1<float> values;
  Range range;
};

/// Of each piece a checksum of all of its elements, those of other dp ranks too: it does not depend on how ZeRO-1 cuts.
std::vector<Index> checksums_of(const Exec& exec, const std::vector<Piece>& pieces, const Held& held, bool shared,
                                const Communicator& dp) {
  const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, held.values);
  std::vector<Index> sums;
  for (const Piece& piece : pieces) {
    const Index begin = std::max(piece.first, held.range.begin);
    const Index end = std::max(begin, std::min(piece.first + piece.size, held.range.end));
    const auto* const values = reinterpret_cast<const std::byte*>(host.data() + (begin - held.range.begin));
    sums.push_back(static_cast<Index>(checksum_of(values, DType::f32, begin - piece.first, end - begin)));
  }
  if (shared) sum_over(exec, dp, sums);
  return sums;
}

}  // namespace

void Trainer::check_replicas(const Exec& exec) const {
  const State& s = *state_;
  exec.fence("grist::train: values to compare");
  const Communicator &tp = s.grid.tp(), &dp = s.grid.dp();
  const Range all{0, s.weights.memory.size()};
  std::vector<Held> arrays{{"weights", s.weights.flat(), all},
                           {"gradients", s.gradient(s.mine), s.mine},
                           {"first moments", s.m.view(), s.mine}};
  if (s.v.size() != 0) arrays.push_back({"second moments", s.v.view(), s.mine});
  std::string broken;  // all ranks go through all comparisons, so that none waits for one that has thrown
  for (const Held& held : arrays) {
    const bool shared = held.range.size() < all.size();
    const auto mine = checksums_of(exec, s.pieces, held, shared, dp);
    const auto compare = [&](const Communicator& ranks, int root, const char* axis, auto&& replicated) {
      std::vector<Index> others = mine;
      ranks.broadcast(others.data(), std::ssize(others), root);
      for (std::size_t i = 0; i < mine.size(); ++i)
        if (others[i] != mine[i] && broken.empty() && replicated(s.pieces[i]))
          broken = std::format("{}: ranks {} and {} of {} hold other {}", s.pieces[i].name, root, ranks.rank(), axis,
                               held.what);
    };
    if (!shared) compare(dp, 0, "dp", [](const Piece&) { return true; });
    for (int rank = 0; rank < tp.size(); ++rank)
      compare(tp, rank, "tp",
              [&](const Piece& piece) { return std::ranges::find(piece.replicas, rank) != piece.replicas.end(); });
    const auto tied = s.tied_piece();
    if (!tied) continue;
    const Index own = mine[*tied];
    Index other = own;
    s.ends.broadcast(&other, 1, 0);
    if (other != own && broken.empty())
      broken = std::format("{}: the first and the last stage hold other {}", s.pieces[*tied].name, held.what);
  }
  const Index wrong = s.grid.world().all_reduce(Index{broken.empty() ? 0 : 1});
  if (wrong > 0) throw InternalError("{}", first_named(s.grid.world(), broken));
}

}  // namespace grist::train
