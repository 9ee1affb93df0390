#include <grist/comm/broadcast_text.hpp>
#include <grist/core/errors.hpp>
#include <grist/train/trainer_state.hpp>

#include <algorithm>
#include <cmath>

namespace grist::train {

std::vector<Piece> pieces_of(const TensorTable& table, const std::vector<Range>& ranges,
                             const std::vector<Shard>& shards, int tp_rank, TensorBlocks& blocks, bool pipelined) {
  std::vector<Piece> pieces;
  const Shard& shard = shards[static_cast<std::size_t>(tp_rank)];
  for (const Range layers : ranges) {
    each_block(table, layers, shard, blocks.tensors,
               [&](const TensorRow& row, Index layer, const LayerShard* inside, View3<float>& block) {
                 const Index first = block.data() - blocks.memory.data(), columns = block.extent(2);
                 // The embedding's stage owns a tied head.
                 const bool here = !(row.tied && pipelined);
                 const auto add = [&](const TensorPart& part, Index begin, Index size) {
                   auto replicas = replicas_of(row, part, shards, layer, tp_rank);
                   const bool owner = replicas.front() == tp_rank;
                   const std::string name =
                       part.sources.empty() ? "a bias that no file has" : with_number(part.sources.front().tensor, 0);
                   pieces.push_back({name, first + begin, size, row.decay, here && owner, owner, std::move(replicas)});
                 };
                 if (row.experts > 1) return add(row.parts.front(), 0, static_cast<Index>(block.size()));
                 Index begin = 0;
                 for (const auto& part : row.parts) {
                   const Index size = slice_of(row, part, shard, inside).rows * columns;
                   add(part, begin, size);
                   begin += size;
                 }
               });
  }
  return pieces;
}

std::string first_named(const Communicator& world, const std::string& name) {
  const Index best = world.all_reduce(Index{name.empty() ? 0 : world.size() - world.rank()}, Reduction::max);
  if (best == 0) return "the loss";
  return broadcast_text(world, name, world.size() - static_cast<int>(best));
}

std::vector<FlatRanges> places_of(const TensorTable& table, const std::vector<Range>& ranges, const Shard& shard,
                                  TensorBlocks& blocks) {
  std::vector<FlatRanges> places;
  Index end = 0;
  const auto grown = [&](Range range, Index to) { return Range{range.size() == 0 ? end : range.begin, to}; };
  for (const Range layers : ranges) {
    FlatRanges& place = places.emplace_back();
    place.layers.resize(static_cast<std::size_t>(layers.size()));
    bool behind = false;  // the layers
    each_block(table, layers, shard, blocks.tensors,
               [&](const TensorRow&, Index layer, const LayerShard*, const View3<float>& block) {
                 behind = behind || layer >= 0;
                 Range& range = layer >= 0 ? place.layers[static_cast<std::size_t>(layer - layers.begin)]
                                           : (behind || layers.begin > 0 ? place.last : place.first);
                 const Index to = block.data() - blocks.memory.data() + static_cast<Index>(block.size());
                 range = grown(range, to);
                 end = to;
               });
  }
  return places;
}

void Trainer::State::sum_gradients(const Exec& exec) {
  if (const auto tied = tied_piece()) {
    const Piece& piece = pieces[*tied];
    ends.all_reduce(exec, View1<float>(gradients.memory.data() + piece.first, piece.size));
  }
  for (std::size_t c = 0; c < places.size(); ++c) {
    shared[c].sum(exec, SharedGradients::outside);
    sums.start(exec, places[c].first);
    if (!sums_last_early()) sums.start(exec, places[c].last);
  }
  sums.finish(exec);
}

/// Of all gradients, each element once. `broken` names a tensor whose gradient is not finite.
double Trainer::State::gradient_norm(const Exec& exec, std::string& broken) {
  Kokkos::deep_copy(exec, squares.view(), 0.0);
  for (std::size_t i = 0; i < pieces.size(); ++i)
    if (const Range part = part_of(pieces[i]); part.size() > 0)
      squared_norm(exec, as_const(gradient(part)), scratch.view(), View1<double>(squares.data() + i, 1));
  exec.fence("grist::train: norms");
  const auto values = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, squares.view());
  double sum = 0;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    if (broken.empty() && !std::isfinite(values(i))) broken = pieces[i].name;
    if (pieces[i].owned) sum += values(i);
  }
  sum = grid.tp().all_reduce(sum);
  sum = grid.pp().all_reduce(sum);
  return std::sqrt(options.zero ? grid.dp().all_reduce(sum) : sum);
}

void Trainer::State::update(const Exec& exec, Index step, double scale) {
  Update update{.step = ++updates, .learning_rate = options.learning_rate.at(step), .gradient_scale = scale};
  if (options.optimizer == Optimizer::lamb) {
    lamb(exec, update);
  } else {
    for (const Piece& piece : pieces) {
      const Range part = part_of(piece);
      if (part.size() == 0) continue;
      update.decay = piece.decay;
      options.optimizer == Optimizer::adamw ? adamw(exec, options.config, update, range_of(part))
                                            : sgd(exec, options.config, update, range_of(part));
    }
  }
  if (!options.zero) return;
  const View1<const float> share(weights.memory.data() + mine.begin, mine.size());
  grid.dp().all_gather(exec, share, weights.flat());
  if (copy.size() != 0) round_all(exec, as_const(weights.flat()), copy.view());
}

OptimizerRange Trainer::State::range_of(Range part) const {
  const auto of = [&](const Buffer<float>& buffer, Index at) {
    return buffer.size() == 0 ? View1<float>() : View1<float>(buffer.data() + at, part.size());
  };
  // Under ZeRO-1 the copy follows when all weights are there.
  const bool copies = copy.size() != 0 && !options.zero;
  return {of(weights.memory, part.begin), gradient(part), of(m, part.begin - mine.begin),
          of(v, part.begin - mine.begin), copies ? View1<bf16>(copy.data() + part.begin, part.size()) : View1<bf16>()};
}

void Trainer::State::lamb(const Exec& exec, const Update& given) {
  Update update = given;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    update.decay = pieces[i].decay;
    const View1<double> norms(squares.data() + 2 * i, 2);
    if (part_of(pieces[i]).size() == 0) {
      Kokkos::deep_copy(exec, norms, 0.0);
      continue;
    }
    lamb_direction(exec, options.config, update, range_of(part_of(pieces[i])), scratch.view(), norms);
    if (!pieces[i].first_replica) Kokkos::deep_copy(exec, norms, 0.0);  // another rank counts it
  }
  grid.tp().all_reduce(exec, squares.view());
  if (options.zero) grid.dp().all_reduce(exec, squares.view());
  // Of a tied matrix dp may cut the two stages' copies in other places: the first one's norms count.
  if (const auto tied = tied_piece()) ends.broadcast(exec, View1<double>(squares.data() + 2 * *tied, 2), 0);
  for (std::size_t i = 0; i < pieces.size(); ++i)
    if (part_of(pieces[i]).size() != 0)
      lamb_apply(exec, update, range_of(part_of(pieces[i])), View1<const double>(squares.data() + 2 * i, 2));
}

}  // namespace grist::train
