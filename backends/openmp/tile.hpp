// The small products inside attention on a processor with vector registers: a team is one thread, a lane one query row.
// Blocks of four keys (or channels) by all lanes stay in registers. Same contracts as portable/tile.hpp.
#pragma once

#include <grist/backends/openmp/lanes.hpp>
#include <grist/backends/portable/tile.hpp>

namespace grist::openmp {

struct Tile {
  static constexpr int few_lanes = portable::Tile::few_lanes;
  static constexpr int lanes = portable::Tile::lanes;
  static constexpr int keys = portable::Tile::keys;
  static constexpr int scratch_level = portable::Tile::scratch_level;

  template <int L, class Team, class F>
  static void for_lanes(const Team&, F&& f) {
    for (int l = 0; l < L; ++l) f(l);
  }

  template <class Team, class T>
  static void load(const Team&, const T* from, int rows, int width, float* to) {
    const int size = rows * width;
    int i = 0;
    for (; i + lane_count <= size; i += lane_count) store(to + i, openmp::load(from + i));
    for (; i < size; ++i) to[i] = static_cast<float>(from[i]);
  }

  template <int L, class Team>
  static void scores(const Team&, const float* k, int count, const float* q, int dim, float* s) {
    int j = 0;
    for (; j + 4 <= count; j += 4) product<L, 4>(k + j * dim, dim, 1, q, dim, s + j * L);
    for (; j < count; ++j) product<L, 1>(k + j * dim, dim, 1, q, dim, s + j * L);
  }

  template <int L, class Team>
  static void mask(const Team&, float* s, int count, int first_key, const float* low, const float* high,
                   float drowned) {
    for (int l = 0; l < L; l += lane_count) {
      const Lanes lowest = openmp::load(low + l), highest = openmp::load(high + l);
      for (int j = 0; j < count; ++j) {
        const Lanes key = broadcast(static_cast<float>(first_key + j));
        Lanes value = openmp::load(s + j * L + l);
        value = key < lowest ? broadcast(drowned) : value;
        store(s + j * L + l, key > highest ? broadcast(drowned) : value);
      }
    }
  }

  template <int L, class Team>
  static void softmax(const Team&, float* s, int count, float* m, float* sum, float* correction) {
    for (int l = 0; l < L; l += lane_count) {
      const Lanes before = openmp::load(m + l);
      Lanes highest = before;
      for (int j = 0; j < count; ++j) highest = max(highest, openmp::load(s + j * L + l));
      const Lanes corrected = exp_negative(before - highest);
      Lanes added = {};
      for (int j = 0; j < count; ++j) {
        const Lanes p = exp_negative(openmp::load(s + j * L + l) - highest);
        store(s + j * L + l, p);
        added += p;
      }
      store(m + l, highest);
      store(correction + l, corrected);
      store(sum + l, openmp::load(sum + l) * corrected + added);
    }
  }

  template <int L, class Team>
  static void accumulate(const Team&, const float* v, int count, const float* p, int dim, const float* correction,
                         float* o) {
    for (int l = 0; l < L; l += lane_count) {
      const Lanes factor = openmp::load(correction + l);
      for (int c = 0; c < dim; ++c) store(o + c * L + l, openmp::load(o + c * L + l) * factor);
    }
    int c = 0;
    for (; c + 4 <= dim; c += 4) product<L, 4, true>(v + c, 1, dim, p, count, o + c * L);
    for (; c < dim; ++c) product<L, 1, true>(v + c, 1, dim, p, count, o + c * L);
  }

private:
  /// out [Rows, L] (+)= a [Rows, inner] b [inner, L], a's element (r, i) at a[r * row_stride + i * stride].
  template <int L, int Rows, bool Add = false>
  static void product(const float* a, int row_stride, int stride, const float* b, int inner, float* out) {
    constexpr int vectors = L / lane_count;
    Lanes acc[Rows][vectors];
    for (int r = 0; r < Rows; ++r)
      for (int v = 0; v < vectors; ++v) acc[r][v] = Add ? openmp::load(out + r * L + v * lane_count) : Lanes{};
    for (int i = 0; i < inner; ++i) {
      Lanes column[vectors];
      for (int v = 0; v < vectors; ++v) column[v] = openmp::load(b + i * L + v * lane_count);
      for (int r = 0; r < Rows; ++r) {
        const Lanes factor = broadcast(a[r * row_stride + i * stride]);
        for (int v = 0; v < vectors; ++v) acc[r][v] += factor * column[v];
      }
    }
    for (int r = 0; r < Rows; ++r)
      for (int v = 0; v < vectors; ++v) store(out + r * L + v * lane_count, acc[r][v]);
  }
};

}  // namespace grist::openmp
