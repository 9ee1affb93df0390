#include <grist/layers/norm.hpp>

#include <grist/core/errors.hpp>

namespace grist::layers {
namespace {

using Team = Kokkos::TeamPolicy<Exec>;
using Member = Team::member_type;

/// Sum over i < size of f(i), in an order that depends on `size` and the team's size alone.
template <class F>
KOKKOS_INLINE_FUNCTION float row_sum(const Member& team, int size, F&& f) {
  constexpr int sums = 16;  // partial sums that a compiler can keep in one vector, added in a fixed order
  float total = 0;
  Kokkos::parallel_reduce(
      Kokkos::TeamVectorRange(team, size / sums),
      [&](int block, float& sum) {
        float partial[sums];
        for (int i = 0; i < sums; ++i) partial[i] = f(block * sums + i);
        for (int width = sums / 2; width > 0; width /= 2)
          for (int i = 0; i < width; ++i) partial[i] += partial[i + width];
        sum += partial[0];
      },
      total);
  for (int i = size / sums * sums; i < size; ++i) total += f(i);
  return total;
}

/// y = x / sqrt(mean(x^2) + eps) * w; y may be x.
template <class X, class Y>
KOKKOS_INLINE_FUNCTION void rms_norm_row(const Member& team, const X* x, View1<const float> w, float eps, Y* y) {
  const auto size = static_cast<int>(w.extent(0));
  const float squares = row_sum(team, size, [&](int i) { return static_cast<float>(x[i]) * static_cast<float>(x[i]); });
  const float scale = 1.0F / Kokkos::sqrt(squares / static_cast<float>(size) + eps);
  team.team_barrier();  // all have read x
  Kokkos::parallel_for(Kokkos::TeamVectorRange(team, size),
                       [&](int i) { y[i] = Y(static_cast<float>(x[i]) * scale * w(i)); });
}

template <class X, class Y>
void check(const char* layer, View2<X> x, View1<const float> w, View2<Y> y) {
  if (x.extent(0) != y.extent(0) || x.extent(1) != y.extent(1) || x.extent(1) != w.extent(0)) {
    throw ShapeError("{}: x [{}, {}], w [{}] do not give y [{}, {}]", layer, x.extent(0), x.extent(1), w.extent(0),
                     y.extent(0), y.extent(1));
  }
}

Team rows_of(const Exec& exec, Index rows) { return Team(exec, static_cast<int>(rows), Kokkos::AUTO); }

}  // namespace

template <class X, class Y>
void rms_norm(const Exec& exec, View2<const X> x, View1<const float> w, float eps, View2<Y> y) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::norm::rms");
  check("rms_norm", x, w, y);
  Kokkos::parallel_for(
      "grist::norm::rms", rows_of(exec, x.extent(0)), KOKKOS_LAMBDA(const Member& team) {
        const Index t = team.league_rank();
        rms_norm_row(team, &x(t, 0), w, eps, &y(t, 0));
      });
}

template <class Y>
void residual_rms_norm(const Exec& exec, View2<const float> delta, View2<float> x, View1<const float> w, float eps,
                       View2<Y> y) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::norm::residual_rms");
  check("residual_rms_norm", x, w, y);
  if (delta.extent(0) != x.extent(0) || delta.extent(1) != x.extent(1))
    throw ShapeError("residual_rms_norm: delta [{}, {}] does not go with x [{}, {}]", delta.extent(0), delta.extent(1),
                     x.extent(0), x.extent(1));
  Kokkos::parallel_for(
      "grist::norm::residual_rms", rows_of(exec, x.extent(0)), KOKKOS_LAMBDA(const Member& team) {
        const Index t = team.league_rank();
        float* const row = &x(t, 0);
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, static_cast<int>(w.extent(0))),
                             [&](int i) { row[i] += delta(t, i); });
        team.team_barrier();
        rms_norm_row(team, row, w, eps, &y(t, 0));
      });
}

template <class X>
void rms_norm_heads(const Exec& exec, Index first_column, int heads, View1<const float> w, float eps, View2<X> x) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::norm::rms_heads");
  const Index size = w.extent(0);
  if (first_column < 0 || heads < 1 || first_column + heads * size > static_cast<Index>(x.extent(1)))
    throw ShapeError("rms_norm_heads: {} heads of {} from column {} on do not fit x [{}, {}]", heads, size,
                     first_column, x.extent(0), x.extent(1));
  Kokkos::parallel_for(
      "grist::norm::rms_heads", rows_of(exec, static_cast<Index>(x.extent(0)) * heads),
      KOKKOS_LAMBDA(const Member& team) {
        X* const row = &x(team.league_rank() / heads, first_column + team.league_rank() % heads * size);
        rms_norm_row(team, row, w, eps, row);
      });
}

template <class X, class Y>
void layer_norm(const Exec& exec, View2<const X> x, View1<const float> w, View1<const float> b, float eps, View2<Y> y) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::norm::layer");
  check("layer_norm", x, w, y);
  if (b.size() != 0 && b.size() != w.size())
    throw ShapeError("layer_norm: w [{}] does not go with b [{}]", w.size(), b.size());
  const auto size = static_cast<int>(w.extent(0));
  Kokkos::parallel_for(
      "grist::norm::layer", rows_of(exec, x.extent(0)), KOKKOS_LAMBDA(const Member& team) {
        const Index t = team.league_rank();
        const X* const row = &x(t, 0);
        const float mean =
            row_sum(team, size, [&](int i) { return static_cast<float>(row[i]); }) / static_cast<float>(size);
        const float squares = row_sum(team, size, [&](int i) {
          const float difference = static_cast<float>(row[i]) - mean;
          return difference * difference;
        });
        const float scale = 1.0F / Kokkos::sqrt(squares / static_cast<float>(size) + eps);
        team.team_barrier();  // all have read x
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, size), [&](int i) {
          const float value = (static_cast<float>(row[i]) - mean) * scale * w(i);
          y(t, i) = Y(b.size() != 0 ? value + b(i) : value);
        });
      });
}

template <class Y>
void no_norm(const Exec& exec, View2<const float> x, View2<Y> y) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::norm::none");
  if (x.extent(0) != y.extent(0) || x.extent(1) != y.extent(1))
    throw ShapeError("no_norm: x [{}, {}] does not give y [{}, {}]", x.extent(0), x.extent(1), y.extent(0),
                     y.extent(1));
  Kokkos::parallel_for(
      "grist::norm::none", Indices<Exec>(exec, 0, x.size()), KOKKOS_LAMBDA(Index i) { y.data()[i] = Y(x.data()[i]); });
}

#define GRIST_INSTANTIATE(X, Y)                                                             \
  template void rms_norm(const Exec&, View2<const X>, View1<const float>, float, View2<Y>); \
  template void layer_norm(const Exec&, View2<const X>, View1<const float>, View1<const float>, float, View2<Y>);
GRIST_INSTANTIATE(float, float)
GRIST_INSTANTIATE(float, bf16)
GRIST_INSTANTIATE(bf16, bf16)
#undef GRIST_INSTANTIATE
template void residual_rms_norm(const Exec&, View2<const float>, View2<float>, View1<const float>, float, View2<float>);
template void residual_rms_norm(const Exec&, View2<const float>, View2<float>, View1<const float>, float, View2<bf16>);
template void rms_norm_heads(const Exec&, Index, int, View1<const float>, float, View2<float>);
template void rms_norm_heads(const Exec&, Index, int, View1<const float>, float, View2<bf16>);
template void no_norm(const Exec&, View2<const float>, View2<float>);
template void no_norm(const Exec&, View2<const float>, View2<bf16>);

}  // namespace grist::layers
