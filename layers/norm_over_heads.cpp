#include <grist/layers/norm_over_heads.hpp>

#include <grist/core/errors.hpp>
#include <grist/layers/norm.hpp>
#include <grist/layers/sums.hpp>

namespace grist::layers {
namespace {

using Team = Kokkos::TeamPolicy<Exec>;
using Member = Team::member_type;

Team teams(const Exec& exec, Index count) { return Team(exec, static_cast<int>(count), Kokkos::AUTO); }

/// The sum of a row, in order.
KOKKOS_INLINE_FUNCTION float sum_in_order(View2<const float> sums, Index row) {
  float sum = 0;
  for (Index i = 0; i < static_cast<Index>(sums.extent(1)); ++i) sum += sums(row, i);
  return sum;
}

/// 1 / rms of a row over all its heads.
KOKKOS_INLINE_FUNCTION float scale_over_heads(View2<const float> squares, Index row, Index head_dim, float eps) {
  const auto width = static_cast<float>(static_cast<Index>(squares.extent(1)) * head_dim);
  return 1.0F / Kokkos::sqrt(sum_in_order(squares, row) / width + eps);
}

}  // namespace

template <class X>
void head_sums(const Exec& exec, View2<const X> x, View2<const X> y, Index first_column, Index head_dim,
               View1<const float> w, View2<float> sums) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::norm_over_heads::head_sums");
  const Index heads = sums.extent(1), last = first_column + heads * head_dim;
  if (first_column < 0 || last > static_cast<Index>(x.extent(1)) || last > static_cast<Index>(y.extent(1)) ||
      x.extent(0) != y.extent(0) || x.extent(0) != sums.extent(0) ||
      (w.size() != 0 && static_cast<Index>(w.size()) != heads * head_dim))
    throw ShapeError("head_sums: {} heads of {} from column {} on of x [{}, {}], y [{}, {}], w [{}] do not give [{}]",
                     heads, head_dim, first_column, x.extent(0), x.extent(1), y.extent(0), y.extent(1), w.size(),
                     sums.extent(0));
  if (sums.size() == 0) return;
  const bool weighted = w.size() != 0;
  Kokkos::parallel_for(
      "grist::norm_over_heads::head_sums", teams(exec, static_cast<Index>(sums.size())),
      KOKKOS_LAMBDA(const Member& team) {
        const Index t = team.league_rank() / heads, head = team.league_rank() % heads;
        const X* const a = &x(t, first_column + head * head_dim);
        const X* const b = &y(t, first_column + head * head_dim);
        const float sum = row_sum(team, static_cast<int>(head_dim), [&](int i) {
          const float product = static_cast<float>(a[i]) * static_cast<float>(b[i]);
          return weighted ? product * w(head * head_dim + i) : product;
        });
        Kokkos::single(Kokkos::PerTeam(team), [&] { sums(t, head) = sum; });
      });
}

template <class X>
void rms_norm_over_heads(const Exec& exec, View2<const float> squares, Index first_column, Index head_dim,
                         View1<const float> w, float eps, View2<X> x) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::norm_over_heads::forward");
  const auto size = static_cast<int>(w.extent(0));
  if (first_column < 0 || first_column + size > static_cast<Index>(x.extent(1)) ||
      squares.extent(0) != x.extent(0) || static_cast<Index>(squares.extent(1)) * head_dim < size)
    throw ShapeError("rms_norm_over_heads: {} columns from {} on do not fit x [{}, {}] and squares [{}, {}]", size,
                     first_column, x.extent(0), x.extent(1), squares.extent(0), squares.extent(1));
  Kokkos::parallel_for(
      "grist::norm_over_heads::forward", teams(exec, x.extent(0)), KOKKOS_LAMBDA(const Member& team) {
        const Index t = team.league_rank();
        X* const row = &x(t, first_column);
        const float scale = scale_over_heads(squares, t, head_dim, eps);
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, size),
                             [&](int i) { row[i] = X(static_cast<float>(row[i]) * scale * w(i)); });
      });
}

template <class X>
void rms_norm_over_heads_backward(const Exec& exec, View2<const X> x, View2<const float> squares,
                                  View2<const float> along, float share, Index first_column, Index head_dim,
                                  View1<const float> w, float eps, View1<float> scratch, View2<X> dx,
                                  View1<float> dw) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::norm_over_heads::backward");
  const auto size = static_cast<int>(w.extent(0));
  const Index tokens = x.extent(0), chunks = chunks_of(tokens), last = first_column + size;
  if (first_column < 0 || last > static_cast<Index>(x.extent(1)) || last > static_cast<Index>(dx.extent(1)) ||
      dx.extent(0) != x.extent(0) || squares.extent(0) != x.extent(0) || along.extent(0) != x.extent(0) ||
      dw.extent(0) != w.extent(0))
    throw ShapeError(
        "rms_norm_over_heads_backward: columns {} to {} of x [{}, {}], squares [{}, {}], along [{}, {}] do not give "
        "dx [{}, {}], dw [{}]",
        first_column, last, x.extent(0), x.extent(1), squares.extent(0), squares.extent(1), along.extent(0),
        along.extent(1), dx.extent(0), dx.extent(1), dw.extent(0));
  if (const Index needed = norm_backward_scratch(tokens, size); static_cast<Index>(scratch.extent(0)) < needed)
    throw ShapeError("rms_norm_over_heads_backward: scratch has {} floats, expected {} or more", scratch.extent(0),
                     needed);
  const View2<float> partial(scratch.data(), chunks, size);
  const auto width = static_cast<float>(static_cast<Index>(squares.extent(1)) * head_dim);
  Kokkos::parallel_for(
      "grist::norm_over_heads::backward", teams(exec, chunks), KOKKOS_LAMBDA(const Member& team) {
        const Index chunk = team.league_rank(), first = chunk * chunk_rows;
        float* const sums = &partial(chunk, 0);
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, size), [&](int i) { sums[i] = 0; });
        for (Index t = first; t < tokens && t < first + chunk_rows; ++t) {
          const X* const from = &x(t, first_column);
          X* const row = &dx(t, first_column);
          const float scale = scale_over_heads(squares, t, head_dim, eps);
          const float factor = share * sum_in_order(along, t) * scale * scale / width;
          Kokkos::parallel_for(Kokkos::TeamVectorRange(team, size), [&](int i) {
            const float value = static_cast<float>(from[i]), gradient = static_cast<float>(row[i]);
            sums[i] += gradient * (value * scale);
            row[i] = X(scale * (gradient * w(i) - value * factor));
          });
        }
      });
  add_chunks(exec, "grist::norm_over_heads::backward_sums", partial, dw);
}

#define GRIST_INSTANTIATE(X)                                                                                   \
  template void head_sums(const Exec&, View2<const X>, View2<const X>, Index, Index, View1<const float>,       \
                          View2<float>);                                                                       \
  template void rms_norm_over_heads(const Exec&, View2<const float>, Index, Index, View1<const float>, float,  \
                                    View2<X>);                                                                 \
  template void rms_norm_over_heads_backward(const Exec&, View2<const X>, View2<const float>,                  \
                                             View2<const float>, float, Index, Index, View1<const float>,      \
                                             float, View1<float>, View2<X>, View1<float>);
GRIST_INSTANTIATE(float)
GRIST_INSTANTIATE(bf16)
#undef GRIST_INSTANTIATE

}  // namespace grist::layers
