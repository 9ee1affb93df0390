#include <grist/layers/norm.hpp>

#include <grist/core/errors.hpp>
#include <grist/layers/sums.hpp>

namespace grist::layers {
namespace {

using Team = Kokkos::TeamPolicy<Exec>;
using Member = Team::member_type;

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

void check_scratch(const char* layer, View1<float> scratch, Index tokens, Index hidden) {
  if (const Index needed = norm_backward_scratch(tokens, hidden); static_cast<Index>(scratch.extent(0)) < needed)
    throw ShapeError("{}: scratch has {} floats, expected {} or more", layer, scratch.extent(0), needed);
}

/// The backward of a row: adds its part of dw to `dw`, and hands dx to store(i, value). What store writes may be dy.
template <class X, class Y, class Store>
KOKKOS_INLINE_FUNCTION void rms_norm_row_backward(const Member& team, const X* x, View1<const float> w, float eps,
                                                  const Y* dy, float* dw, Store&& store) {
  const auto size = static_cast<int>(w.extent(0));
  const auto from_x = [&](int i) { return static_cast<float>(x[i]); };
  const auto from_y = [&](int i) { return static_cast<float>(dy[i]); };
  const float squares = row_sum(team, size, [&](int i) { return from_x(i) * from_x(i); });
  const float scale = 1.0F / Kokkos::sqrt(squares / static_cast<float>(size) + eps);
  const float along = row_sum(team, size, [&](int i) { return from_y(i) * w(i) * from_x(i); });
  const float factor = along * scale * scale / static_cast<float>(size);
  team.team_barrier();  // all have read dy
  Kokkos::parallel_for(Kokkos::TeamVectorRange(team, size), [&](int i) {
    const float value = from_x(i), gradient = from_y(i);
    dw[i] += gradient * (value * scale);
    store(i, scale * (gradient * w(i) - value * factor));
  });
}

/// The same of a layer norm; db may be null.
template <class Y, class Store>
KOKKOS_INLINE_FUNCTION void layer_norm_row_backward(const Member& team, const float* x, View1<const float> w, float eps,
                                                    const Y* dy, float* dw, float* db, Store&& store) {
  const auto size = static_cast<int>(w.extent(0));
  const float part = 1.0F / static_cast<float>(size);
  const auto from_y = [&](int i) { return static_cast<float>(dy[i]); };
  const float mean = row_sum(team, size, [&](int i) { return x[i]; }) * part;
  const float squares = row_sum(team, size, [&](int i) { return (x[i] - mean) * (x[i] - mean); });
  const float scale = 1.0F / Kokkos::sqrt(squares * part + eps);
  const float shift = row_sum(team, size, [&](int i) { return from_y(i) * w(i); }) * part;
  const float along = row_sum(team, size, [&](int i) { return from_y(i) * w(i) * ((x[i] - mean) * scale); }) * part;
  Kokkos::parallel_for(Kokkos::TeamVectorRange(team, size), [&](int i) {
    const float normed = (x[i] - mean) * scale, gradient = from_y(i);
    dw[i] += gradient * normed;
    if (db != nullptr) db[i] += gradient;
    store(i, scale * (gradient * w(i) - shift - normed * along));
  });
}

KOKKOS_INLINE_FUNCTION void clear(const Member& team, int size, float* sums) {
  Kokkos::parallel_for(Kokkos::TeamVectorRange(team, size), [&](int i) { sums[i] = 0; });
}

template <class Y>
void check_backward(const char* layer, View2<const float> x, View1<const float> w, View2<const Y> dy,
                    View1<float> scratch, View2<float> dx, View1<float> dw) {
  check(layer, x, w, dy);
  if (dx.extent(0) != x.extent(0) || dx.extent(1) != x.extent(1) || dw.extent(0) != w.extent(0))
    throw ShapeError("{}: x [{}, {}], w [{}] do not give dx [{}, {}], dw [{}]", layer, x.extent(0), x.extent(1),
                     w.extent(0), dx.extent(0), dx.extent(1), dw.extent(0));
  check_scratch(layer, scratch, x.extent(0), x.extent(1));
}

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

Index norm_backward_scratch(Index tokens, Index hidden) { return 2 * chunks_of(tokens) * hidden; }

template <class Y>
void rms_norm_backward(const Exec& exec, View2<const float> x, View1<const float> w, float eps, View2<const Y> dy,
                       View1<float> scratch, View2<float> dx, View1<float> dw) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::norm::rms_backward");
  check_backward("rms_norm_backward", x, w, dy, scratch, dx, dw);
  const auto size = static_cast<int>(w.extent(0));
  const Index tokens = x.extent(0), chunks = chunks_of(tokens);
  const View2<float> partial(scratch.data(), chunks, size);
  Kokkos::parallel_for(
      "grist::norm::rms_backward", rows_of(exec, chunks), KOKKOS_LAMBDA(const Member& team) {
        const Index chunk = team.league_rank(), first = chunk * chunk_rows;
        float* const sums = &partial(chunk, 0);
        clear(team, size, sums);
        for (Index t = first; t < tokens && t < first + chunk_rows; ++t) {
          float* const row = &dx(t, 0);
          rms_norm_row_backward(team, &x(t, 0), w, eps, &dy(t, 0), sums, [=](int i, float value) { row[i] += value; });
        }
      });
  add_chunks(exec, "grist::norm::rms_backward_sums", partial, dw);
}

template <class X>
void rms_norm_heads_backward(const Exec& exec, View2<const X> x, Index first_column, int heads, View1<const float> w,
                             float eps, View1<float> scratch, View2<X> dx, View1<float> dw) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::norm::rms_heads_backward");
  const auto size = static_cast<int>(w.extent(0));
  const Index tokens = x.extent(0), chunks = chunks_of(tokens), last = first_column + Index{heads} * size;
  if (first_column < 0 || heads < 1 || last > static_cast<Index>(x.extent(1)) ||
      last > static_cast<Index>(dx.extent(1)) || dx.extent(0) != x.extent(0) || dw.extent(0) != w.extent(0))
    throw ShapeError(
        "rms_norm_heads_backward: {} heads of {} from column {} on in x [{}, {}] do not give dx [{}, {}], "
        "dw [{}]",
        heads, size, first_column, x.extent(0), x.extent(1), dx.extent(0), dx.extent(1), dw.extent(0));
  check_scratch("rms_norm_heads_backward", scratch, tokens, size);
  const View2<float> partial(scratch.data(), chunks, size);
  Kokkos::parallel_for(
      "grist::norm::rms_heads_backward", rows_of(exec, chunks), KOKKOS_LAMBDA(const Member& team) {
        const Index chunk = team.league_rank(), first = chunk * chunk_rows;
        float* const sums = &partial(chunk, 0);
        clear(team, size, sums);
        for (Index t = first; t < tokens && t < first + chunk_rows; ++t) {
          for (int head = 0; head < heads; ++head) {
            const Index column = first_column + Index{head} * size;
            X* const row = &dx(t, column);
            rms_norm_row_backward(team, &x(t, column), w, eps, row, sums,
                                  [=](int i, float value) { row[i] = X(value); });
          }
        }
      });
  add_chunks(exec, "grist::norm::rms_heads_backward_sums", partial, dw);
}

template <class Y>
void layer_norm_backward(const Exec& exec, View2<const float> x, View1<const float> w, float eps, View2<const Y> dy,
                         View1<float> scratch, View2<float> dx, View1<float> dw, View1<float> db) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::norm::layer_backward");
  check_backward("layer_norm_backward", x, w, dy, scratch, dx, dw);
  if (db.size() != 0 && db.size() != w.size())
    throw ShapeError("layer_norm_backward: w [{}] does not go with db [{}]", w.size(), db.size());
  const auto size = static_cast<int>(w.extent(0));
  const Index tokens = x.extent(0), chunks = chunks_of(tokens);
  const bool biased = db.size() != 0;
  const View2<float> scales(scratch.data(), chunks, size), shifts(scratch.data() + scales.size(), chunks, size);
  Kokkos::parallel_for(
      "grist::norm::layer_backward", rows_of(exec, chunks), KOKKOS_LAMBDA(const Member& team) {
        const Index chunk = team.league_rank(), first = chunk * chunk_rows;
        float* const scale_sums = &scales(chunk, 0);
        float* const shift_sums = biased ? &shifts(chunk, 0) : nullptr;
        clear(team, size, scale_sums);
        if (biased) clear(team, size, shift_sums);
        for (Index t = first; t < tokens && t < first + chunk_rows; ++t) {
          float* const row = &dx(t, 0);
          layer_norm_row_backward(team, &x(t, 0), w, eps, &dy(t, 0), scale_sums, shift_sums,
                                  [=](int i, float value) { row[i] += value; });
        }
      });
  add_chunks(exec, "grist::norm::layer_backward_sums", scales, dw);
  if (biased) add_chunks(exec, "grist::norm::layer_backward_sums", shifts, db);
}

template <class Y>
void no_norm_backward(const Exec& exec, View2<const Y> dy, View2<float> dx) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::norm::none_backward");
  if (dx.extent(0) != dy.extent(0) || dx.extent(1) != dy.extent(1))
    throw ShapeError("no_norm_backward: dy [{}, {}] does not give dx [{}, {}]", dy.extent(0), dy.extent(1),
                     dx.extent(0), dx.extent(1));
  Kokkos::parallel_for(
      "grist::norm::none_backward", Indices<Exec>(exec, 0, dx.size()),
      KOKKOS_LAMBDA(Index i) { dx.data()[i] += static_cast<float>(dy.data()[i]); });
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

#define GRIST_INSTANTIATE(Y)                                                                                    \
  template void rms_norm_backward(const Exec&, View2<const float>, View1<const float>, float, View2<const Y>,   \
                                  View1<float>, View2<float>, View1<float>);                                    \
  template void rms_norm_heads_backward(const Exec&, View2<const Y>, Index, int, View1<const float>, float,     \
                                        View1<float>, View2<Y>, View1<float>);                                  \
  template void layer_norm_backward(const Exec&, View2<const float>, View1<const float>, float, View2<const Y>, \
                                    View1<float>, View2<float>, View1<float>, View1<float>);                    \
  template void no_norm_backward(const Exec&, View2<const Y>, View2<float>);
GRIST_INSTANTIATE(float)
GRIST_INSTANTIATE(bf16)
#undef GRIST_INSTANTIATE

}  // namespace grist::layers
