#include <grist/model/tensor_parallel.hpp>

namespace grist {
namespace {

/// Elements of each rank's share.
std::vector<Index> counts_of(const TokenShares& shares, std::size_t columns) {
  std::vector<Index> counts;
  for (int rank = 0; rank < shares.ranks; ++rank)
    counts.push_back(shares.of(rank).size() * static_cast<Index>(columns));
  return counts;
}

Index widest(const std::vector<Range>& columns) { return std::ranges::max_element(columns, {}, &Range::size)->size(); }

/// Copies the rows of from [rows, columns or more] into some columns of to.
template <class X>
void place_columns(const Exec& exec, View2<const X> from, Range columns, View2<X> to) {
  using Team = Kokkos::TeamPolicy<Exec>;
  const Index first = columns.begin, count = columns.size();
  Kokkos::parallel_for(
      "grist::tensor_parallel::place", Team(exec, static_cast<int>(to.extent(0)), Kokkos::AUTO),
      KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index row = team.league_rank();
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, count), [&](Index c) { to(row, first + c) = from(row, c); });
      });
}

}  // namespace

template <class X>
GatherBuffers<X>::GatherBuffers(const Exec& exec, Workspace& workspace, Index rows, const std::vector<Range>& columns)
    : sent(workspace.take<X>(exec, "sent columns", rows, widest(columns))),
      received(workspace.take<X>(exec, "received columns", std::ssize(columns), rows, widest(columns))) {}

template <class X>
void gather_columns(const Exec& exec, const Communicator& tp, const GatherBuffers<X>& buffers,
                    const std::vector<Range>& columns, View2<const X> mine, View2<X> all) {
  const Index rows = all.extent(0), width = buffers.sent.extent(1);
  place_columns(exec, mine, {0, static_cast<Index>(mine.extent(1))}, buffers.sent);
  tp.all_gather(exec, as_const(flat(buffers.sent)), View1<X>(buffers.received.data(), buffers.received.size()));
  for (std::size_t rank = 0; rank < columns.size(); ++rank)
    place_columns(exec, View2<const X>(buffers.received.data() + static_cast<Index>(rank) * rows * width, rows, width),
                  columns[rank], all);
}

HeadSums::HeadSums(const Exec& exec, Workspace& workspace, Index tokens, std::vector<Range> heads, int tp_rank,
                   bool apart)
    : columns(std::move(heads)) {
  Index begin = 0;
  for (Range& range : columns) {
    if (apart) range = {begin, begin + range.size()};
    begin += range.size();
  }
  mine = workspace.take<float>(exec, "sums of heads", tokens, columns[static_cast<std::size_t>(tp_rank)].size());
  all = mine;
  if (columns.size() == 1) return;
  all = workspace.take<float>(exec, "sums of all heads", tokens, columns.back().end);
  buffers = {exec, workspace, tokens, columns};
}

void HeadSums::gather(const Exec& exec, const Communicator& tp) const {
  if (columns.size() > 1) gather_columns(exec, tp, buffers, columns, as_const(mine), all);
}

template <class X>
RowParallelBuffers<X>::RowParallelBuffers(const Exec& exec, Workspace& workspace, const RowParallelPlan& plan,
                                          int tp_rank, Index rows) {
  if (plan.kind == RowParallel::reduce) return;
  inputs = workspace.take<X>(exec, "inputs of all ranks", rows, std::ranges::max(plan.inputs, {}, &Range::end).end);
  outputs =
      workspace.take<float>(exec, "outputs of this rank", rows, plan.outputs[static_cast<std::size_t>(tp_rank)].size());
  gather_inputs = {exec, workspace, rows, plan.inputs};
  gather_outputs = {exec, workspace, rows, plan.outputs};
}

template <class T>
void gather_tokens(const Exec& exec, const Communicator& tp, const TokenShares& shares, View2<const T> mine,
                   View2<T> all) {
  tp.all_gather(exec, flat(mine), flat(all), counts_of(shares, all.extent(1)));
}

void reduce_tokens(const Exec& exec, const Communicator& tp, const TokenShares& shares, View2<const float> all,
                   View2<float> mine) {
  tp.reduce_scatter(exec, flat(all), flat(mine), counts_of(shares, all.extent(1)));
}

#define GRIST_INSTANTIATE(X)                                                                                          \
  template struct GatherBuffers<X>;                                                                                   \
  template void gather_columns(const Exec&, const Communicator&, const GatherBuffers<X>&, const std::vector<Range>&,   \
                               View2<const X>, View2<X>);                                                             \
  template struct RowParallelBuffers<X>;                                                                              \
  template void gather_tokens(const Exec&, const Communicator&, const TokenShares&, View2<const X>, View2<X>);
GRIST_INSTANTIATE(float)
GRIST_INSTANTIATE(bf16)
#undef GRIST_INSTANTIATE

}  // namespace grist
