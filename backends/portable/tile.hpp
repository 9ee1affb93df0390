// The small products inside attention, in plain Kokkos nested parallelism: a lane is one query row, and the lanes are
// dealt to the threads of a team.
#pragma once

#include <grist/core/view.hpp>

namespace grist::portable {

struct Tile {
  static constexpr int few_lanes = 16;  // query rows of a narrow tile (decode)
  static constexpr int lanes = 64;      // and of a wide one (prefill)
  static constexpr int keys = 64;       // keys of a tile
  static constexpr int scratch_level = 1;

  template <int L, class Team, class F>
  KOKKOS_INLINE_FUNCTION static void for_lanes(const Team& team, F&& f) {
    Kokkos::parallel_for(Kokkos::TeamVectorRange(team, L), f);
    team.team_barrier();
  }

  /// to [rows, width] = from [rows, width], as floats.
  template <class Team, class T>
  KOKKOS_INLINE_FUNCTION static void load(const Team& team, const T* from, int rows, int width, float* to) {
    Kokkos::parallel_for(Kokkos::TeamVectorRange(team, rows * width),
                         [&](int i) { to[i] = static_cast<float>(from[i]); });
    team.team_barrier();
  }

  /// s [count, L] = k [count, dim] q [dim, L].
  template <int L, class Team>
  KOKKOS_INLINE_FUNCTION static void scores(const Team& team, const float* k, int count, const float* q, int dim,
                                            float* s) {
    for_lanes<L>(team, [&](int l) {
      for (int j = 0; j < count; ++j) {
        float dot = 0;
        for (int c = 0; c < dim; ++c) dot += k[j * dim + c] * q[c * L + l];
        s[j * L + l] = dot;
      }
    });
  }

  /// Keeps the scores of keys first_key + j with low <= key <= high of each lane, drowns the others.
  template <int L, class Team>
  KOKKOS_INLINE_FUNCTION static void mask(const Team& team, float* s, int count, int first_key, const float* low,
                                          const float* high, float drowned) {
    for_lanes<L>(team, [&](int l) {
      for (int j = 0; j < count; ++j) {
        const float key = static_cast<float>(first_key + j);
        if (key < low[l] || key > high[l]) s[j * L + l] = drowned;
      }
    });
  }

  /// One step of the online softmax: m [L] grows to the new maximum, s becomes e^(s - m), sum and correction follow.
  template <int L, class Team>
  KOKKOS_INLINE_FUNCTION static void softmax(const Team& team, float* s, int count, float* m, float* sum,
                                             float* correction) {
    for_lanes<L>(team, [&](int l) {
      float highest = m[l];
      for (int j = 0; j < count; ++j) highest = Kokkos::fmax(highest, s[j * L + l]);
      correction[l] = Kokkos::exp(m[l] - highest);
      float added = 0;
      for (int j = 0; j < count; ++j) {
        const float p = Kokkos::exp(s[j * L + l] - highest);
        s[j * L + l] = p;
        added += p;
      }
      m[l] = highest;
      sum[l] = sum[l] * correction[l] + added;
    });
  }

  /// o [dim, L] = o * correction [L] + v [count, dim]^T p [count, L].
  template <int L, class Team>
  KOKKOS_INLINE_FUNCTION static void accumulate(const Team& team, const float* v, int count, const float* p, int dim,
                                                const float* correction, float* o) {
    for_lanes<L>(team, [&](int l) {
      for (int c = 0; c < dim; ++c) {
        float value = o[c * L + l] * correction[l];
        for (int j = 0; j < count; ++j) value += v[j * dim + c] * p[j * L + l];
        o[c * L + l] = value;
      }
    });
  }
};

}  // namespace grist::portable
