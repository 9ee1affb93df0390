#include <grist/layers/rope.hpp>

#include <grist/core/errors.hpp>

namespace grist::layers {
namespace {

using Team = Kokkos::TeamPolicy<Exec>;

/// By the angle times `direction`, which is 1 or -1.
template <class X>
void rotate(const Exec& exec, const char* layer, const char* label, float direction, View2<const float> cos_sin,
            int heads, int head_dim, View2<X> x) {
  const auto rotary_dim = static_cast<int>(cos_sin.extent(1));
  if (cos_sin.extent(0) != x.extent(0) || Index{heads} * head_dim > static_cast<Index>(x.extent(1)) ||
      rotary_dim > head_dim || rotary_dim % 2 != 0) {
    throw ShapeError("{}: {} heads of {} in x [{}, {}] do not go with cos_sin [{}, {}]", layer, heads, head_dim,
                     x.extent(0), x.extent(1), cos_sin.extent(0), cos_sin.extent(1));
  }
  const int half = rotary_dim / 2;
  Kokkos::parallel_for(
      label, Team(exec, static_cast<int>(x.extent(0)), Kokkos::AUTO), KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index t = team.league_rank();
        X* const row = &x(t, 0);
        const float* const cosines = &cos_sin(t, 0);
        const float* const sines = cosines + half;
        Kokkos::parallel_for(Kokkos::TeamThreadRange(team, heads), [&](int head) {
          X* const first = row + Index{head} * head_dim;
          Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, half), [&](int i) {
            X* const a = first + i;
            X* const b = a + half;
            const float x_a = static_cast<float>(*a), x_b = static_cast<float>(*b), sine = direction * sines[i];
            *a = X(x_a * cosines[i] - x_b * sine);
            *b = X(x_b * cosines[i] + x_a * sine);
          });
        });
      });
}

}  // namespace

void rope_cos_sin(const Exec& exec, View1<const int> positions, View1<const int> lengths, const RopeFrequencies& table,
                  View2<float> cos_sin) {
  const Index half = table.inverse_frequencies.extent(0);
  if (cos_sin.extent(0) != positions.extent(0) || static_cast<Index>(cos_sin.extent(1)) != 2 * half ||
      lengths.extent(0) != positions.extent(0)) {
    throw ShapeError(
        "rope_cos_sin: positions [{}], lengths [{}], inverse_frequencies [{}] do not give cos_sin [{}, {}]",
        positions.extent(0), lengths.extent(0), half, cos_sin.extent(0), cos_sin.extent(1));
  }
  const RopeFrequencies f = table;
  Kokkos::parallel_for(
      "grist::rope::cos_sin", Team(exec, static_cast<int>(positions.extent(0)), Kokkos::AUTO),
      KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index t = team.league_rank();
        const auto position = static_cast<float>(positions(t));
        const bool is_long = f.long_after > 0 && lengths(t) > f.long_after;
        const bool dynamic = is_long && f.long_frequencies.extent(0) == 0;
        const float dim = static_cast<float>(2 * half);
        const float stretch =
            f.factor * static_cast<float>(lengths(t)) / static_cast<float>(f.long_after) - (f.factor - 1);
        const float theta = dynamic ? f.theta * Kokkos::pow(stretch, dim / (dim - 2)) : 0.0F;
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, half), [&](Index i) {
          const float frequency = dynamic   ? 1.0F / Kokkos::pow(theta, static_cast<float>(2 * i) / dim)
                                  : is_long ? f.long_frequencies(i)
                                            : f.inverse_frequencies(i);
          const float angle = position * frequency;
          cos_sin(t, i) = f.attention_factor * Kokkos::cos(angle);
          cos_sin(t, half + i) = f.attention_factor * Kokkos::sin(angle);
        });
      });
}

template <class X>
void rope(const Exec& exec, View2<const float> cos_sin, int heads, int head_dim, View2<X> x) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::rope::forward");
  rotate(exec, "rope", "grist::rope::forward", 1, cos_sin, heads, head_dim, x);
}

template <class X>
void rope_backward(const Exec& exec, View2<const float> cos_sin, int heads, int head_dim, View2<X> dx) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::rope::backward");
  rotate(exec, "rope_backward", "grist::rope::backward", -1, cos_sin, heads, head_dim, dx);
}

template void rope(const Exec&, View2<const float>, int, int, View2<float>);
template void rope(const Exec&, View2<const float>, int, int, View2<bf16>);
template void rope_backward(const Exec&, View2<const float>, int, int, View2<float>);
template void rope_backward(const Exec&, View2<const float>, int, int, View2<bf16>);

}  // namespace grist::layers
