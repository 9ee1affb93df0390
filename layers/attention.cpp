#include <grist/layers/attention.hpp>

#include <grist/core/errors.hpp>
#include <grist/backends/portable/tile.hpp>
#include <grist/mill/mill.hpp>

namespace grist::layers {
namespace {

using Team = Kokkos::TeamPolicy<Exec>;

// Finite, so that the difference of two drowned scores is 0 and not NaN: what a lane sums before its first visible key
// is wiped out by the factor e^(drowned - real) = 0.
constexpr float drowned = -1e30F;

/// Floats of scratch: q and out [head_dim, lanes], scores [keys, lanes], keys or values [keys, head_dim], five of [lanes].
template <class Tile>
KOKKOS_INLINE_FUNCTION constexpr int scratch_floats(int head_dim) {
  return 2 * head_dim * Tile::lanes + Tile::keys * Tile::lanes + Tile::keys * head_dim + 5 * Tile::lanes;
}

template <class T, class Tile>
struct AttentionKernel {
  AttentionConfig config;
  View2<const T> q;
  View3<const T> k, v;
  PackedSequences sequences;
  View2<T> out;

  KOKKOS_FUNCTION void operator()(const Team::member_type& team) const {
    const int tiles = static_cast<int>(sequences.tile_sequence.extent(0));
    const int kv_head = team.league_rank() / tiles;
    const int tile = team.league_rank() % tiles;
    const int s = sequences.tile_sequence(tile), begin = sequences.tile_begin(tile);
    const int queries = sequences.query_begin(s + 1) - sequences.query_begin(s);
    const int rows = queries * (config.heads / config.kv_heads) - begin;
    if (rows > Tile::few_lanes)
      run<Tile::lanes>(team, kv_head, s, begin, rows < Tile::lanes ? rows : Tile::lanes);
    else
      run<Tile::few_lanes>(team, kv_head, s, begin, rows);
  }

  /// One KV head against `rows` of the query rows of sequence s, one row to a lane.
  template <int L>
  KOKKOS_FUNCTION void run(const Team::member_type& team, int kv_head, int s, int begin, int rows) const {
    const int dim = config.head_dim, group = config.heads / config.kv_heads;
    constexpr int level = Tile::scratch_level;  // devices have no address of a static member
    float* qt = static_cast<float*>(
        team.team_scratch(level).get_shmem(scratch_floats<Tile>(dim) * static_cast<int>(sizeof(float))));
    float* ot = qt + dim * L;
    float* scores = ot + dim * L;
    float* loaded = scores + Tile::keys * L;
    float* m = loaded + Tile::keys * dim;
    float* sum = m + L;
    float* correction = sum + L;
    float* low = correction + L;
    float* high = low + L;

    const int first_query = sequences.query_begin(s);
    const int past = sequences.kv_length(s) - (sequences.query_begin(s + 1) - first_query);
    Tile::template for_lanes<L>(team, [&](int l) {
      const int row = begin + (l < rows ? l : 0);  // idle lanes repeat the first row and are not stored
      const int position = past + row / group;
      const T* from = &q(first_query + row / group, (kv_head * group + row % group) * dim);
      for (int c = 0; c < dim; ++c) {
        qt[c * L + l] = static_cast<float>(from[c]) * config.scale;
        ot[c * L + l] = 0;
      }
      m[l] = drowned;
      sum[l] = 0;
      high[l] = static_cast<float>(position);
      low[l] = static_cast<float>(config.window > 0 && position >= config.window ? position - config.window + 1 : 0);
    });

    const int first_position = past + begin / group, last_position = past + (begin + rows - 1) / group;
    const int first_seen = config.window > 0 && first_position >= config.window ? first_position - config.window + 1 : 0;
    const int all_see_from = config.window > 0 && last_position >= config.window ? last_position - config.window + 1 : 0;
    const Index cache_row = sequences.kv_begin(s);
    for (int key = first_seen / Tile::keys * Tile::keys; key <= last_position; key += Tile::keys) {
      const int count = last_position + 1 - key < Tile::keys ? last_position + 1 - key : Tile::keys;
      Tile::load(team, &k(kv_head, cache_row + key, 0), count, dim, loaded);
      Tile::template scores<L>(team, loaded, count, qt, dim, scores);
      if (key + count - 1 > first_position || key < all_see_from)
        Tile::template mask<L>(team, scores, count, key, low, high, drowned);
      Tile::template softmax<L>(team, scores, count, m, sum, correction);
      Tile::load(team, &v(kv_head, cache_row + key, 0), count, dim, loaded);
      Tile::template accumulate<L>(team, loaded, count, scores, dim, correction, ot);
    }

    Tile::template for_lanes<L>(team, [&](int l) {
      if (l >= rows) return;
      const int row = begin + l;
      T* to = &out(first_query + row / group, (kv_head * group + row % group) * dim);
      for (int c = 0; c < dim; ++c) to[c] = T(ot[c * L + l] / sum[l]);
    });
  }
};

template <class Tile, class T>
void launch(const Exec& exec, const AttentionConfig& config, View2<const T> q, View3<const T> k, View3<const T> v,
            const PackedSequences& sequences, View2<T> out) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::attention::forward");
  const Index width = Index{config.heads} * config.head_dim;
  if (config.kv_heads < 1 || config.heads % config.kv_heads != 0 || static_cast<Index>(q.extent(1)) < width ||
      static_cast<Index>(out.extent(1)) != width || q.extent(0) != out.extent(0) ||
      static_cast<int>(k.extent(0)) != config.kv_heads || static_cast<int>(k.extent(2)) != config.head_dim ||
      k.extent(0) != v.extent(0) || k.extent(1) != v.extent(1) || k.extent(2) != v.extent(2)) {
    throw ShapeError("attention: {} heads of {} and {} KV heads do not go with q [{}, {}], k [{}, {}, {}], "
                     "v [{}, {}, {}], out [{}, {}]", config.heads, config.head_dim, config.kv_heads, q.extent(0),
                     q.extent(1), k.extent(0), k.extent(1), k.extent(2), v.extent(0), v.extent(1), v.extent(2),
                     out.extent(0), out.extent(1));
  }
  const int items = config.kv_heads * static_cast<int>(sequences.tile_sequence.extent(0));
  if (items == 0) return;
  // Tiles late in a sequence see more keys than early ones: threads take them as they come.
  using DynamicTeam = Kokkos::TeamPolicy<Exec, Kokkos::Schedule<Kokkos::Dynamic>>;
  auto policy = DynamicTeam(exec, items, Kokkos::AUTO);
  policy.set_scratch_size(Tile::scratch_level,
                          Kokkos::PerTeam(scratch_floats<Tile>(config.head_dim) * static_cast<int>(sizeof(float))));
  Kokkos::parallel_for("grist::attention::forward", policy, AttentionKernel<T, Tile>{config, q, k, v, sequences, out});
}

}  // namespace

int attention_tile_rows() { return mill::Tile::lanes; }

template <class T>
void attention(const Exec& exec, const AttentionConfig& config, View2<const T> q, View3<const T> k, View3<const T> v,
               const PackedSequences& sequences, View2<T> out) {
  launch<mill::Tile>(exec, config, q, k, v, sequences, out);
}

template <class T>
void attention_plain(const Exec& exec, const AttentionConfig& config, View2<const T> q, View3<const T> k,
                     View3<const T> v, const PackedSequences& sequences, View2<T> out) {
  launch<portable::Tile>(exec, config, q, k, v, sequences, out);
}

#define GRIST_INSTANTIATE(T)                                                                                        \
  template void attention(const Exec&, const AttentionConfig&, View2<const T>, View3<const T>, View3<const T>,       \
                          const PackedSequences&, View2<T>);                                                        \
  template void attention_plain(const Exec&, const AttentionConfig&, View2<const T>, View3<const T>, View3<const T>, \
                                const PackedSequences&, View2<T>);
GRIST_INSTANTIATE(float)
GRIST_INSTANTIATE(bf16)
#undef GRIST_INSTANTIATE

}  // namespace grist::layers
