// Row-parallel products, whose inputs are split over the ranks of tp, with their collectives. Column-parallel ones need
// none, unless the residual stream is split too.
#pragma once

#include <grist/comm/communicator.hpp>
#include <grist/core/workspace.hpp>
#include <grist/model/sharding.hpp>

#include <algorithm>
#include <vector>

namespace grist {

/// What gathering columns takes.
template <class X>
struct GatherBuffers {
  View2<X> sent;      // every rank sends as much as the widest needs
  View3<X> received;

  GatherBuffers() = default;
  GatherBuffers(const Exec& exec, Workspace& workspace, Index rows, const std::vector<Range>& columns);
};

/// all [rows, n] = the columns of every rank of tp, mine [rows, columns[my rank]].
template <class X>
void gather_columns(const Exec& exec, const Communicator& tp, const GatherBuffers<X>& buffers,
                    const std::vector<Range>& columns, View2<const X> mine, View2<X> all);

/// Sums over each head [tokens, heads], of this rank and, gathered, of all ranks of tp. Ranks that hold the same KV
/// heads have equal sums; with `apart` each has a column of its own.
struct HeadSums {
  std::vector<Range> columns;  // of each rank
  View2<float> mine, all;
  GatherBuffers<float> buffers;

  HeadSums() = default;
  HeadSums(const Exec& exec, Workspace& workspace, Index tokens, std::vector<Range> heads, int tp_rank,
           bool apart = false);
  /// Of every rank, once each has filled in its own.
  void gather(const Exec& exec, const Communicator& tp) const;
};

/// How o and down are done.
struct RowParallelPlan {
  RowParallel kind = RowParallel::reduce;
  std::vector<Range> inputs;   // columns of x, of each rank
  std::vector<Range> outputs;  // columns of y that each rank makes under RowParallel::gather
};

template <class X>
struct RowParallelBuffers {
  View2<X> inputs;       // of all ranks
  View2<float> outputs;  // of this rank
  GatherBuffers<X> gather_inputs;
  GatherBuffers<float> gather_outputs;

  RowParallelBuffers(const Exec& exec, Workspace& workspace, const RowParallelPlan& plan, int tp_rank, Index rows);
};

/// y [rows, hidden] = x w^T, on every rank, of x [rows, inputs] that is split over tp; multiply(x, y) does a rank's
/// part.
///   reduce: w holds this rank's columns; one all_reduce of the partial sums (Shoeybi et al. 2019)
///   gather: w holds this rank's rows; x is gathered, then y: every sum is made whole by one rank, so that its bits are
///           those of a single rank
template <class X, class Multiply>
void row_parallel(const Exec& exec, const Communicator& tp, const RowParallelPlan& plan,
                  const RowParallelBuffers<X>& buffers, View2<const X> x, Multiply&& multiply, View2<float> y) {
  if (plan.kind == RowParallel::reduce) {
    multiply(x, y);
    tp.all_reduce(exec, flat(y));
    return;
  }
  gather_columns(exec, tp, buffers.gather_inputs, plan.inputs, x, buffers.inputs);
  multiply(as_const(buffers.inputs), buffers.outputs);
  gather_columns(exec, tp, buffers.gather_outputs, plan.outputs, as_const(buffers.outputs), y);
}

/// The rows of the residual stream that each rank of tp has: all of them, or under sequence parallelism (Korthikanti et
/// al. 2022) a share: in the order of ranks, the first ones a row longer, empty where there are fewer rows than ranks.
struct TokenShares {
  Index tokens = 0;
  int ranks = 1;  // 1: each has all

  [[nodiscard]] bool split() const { return ranks > 1; }
  [[nodiscard]] Range of(int rank) const {
    const Index least = tokens / ranks, longer = tokens % ranks;
    const Index begin = least * rank + std::min<Index>(rank, longer);
    return {begin, begin + least + (rank < longer ? 1 : 0)};
  }
};

/// Some rows of a matrix.
template <class T>
View2<T> rows_of(View2<T> x, Range rows) {
  return View2<T>(x.data() + rows.begin * static_cast<Index>(x.extent(1)), rows.size(), x.extent(1));
}

/// all [tokens, n] = the shares of every rank of tp.
template <class T>
void gather_tokens(const Exec& exec, const Communicator& tp, const TokenShares& shares, View2<const T> mine,
                   View2<T> all);

/// mine = this rank's share of the sum over tp of all [tokens, n].
void reduce_tokens(const Exec& exec, const Communicator& tp, const TokenShares& shares, View2<const float> all,
                   View2<float> mine);

}  // namespace grist
