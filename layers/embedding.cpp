#include <grist/layers/embedding.hpp>

#include <grist/core/errors.hpp>
#include <grist/core/interleaved_rows.hpp>

namespace grist::layers {
namespace {

/// A work item per block of a token's row.
template <class Block>
void decode_rows(const Exec& exec, View1<const int> ids, const Panel& w, Index first_row, View2<float> x) {
  const auto* const first = static_cast<const Block*>(w.data);
  const bool interleaved = Block::elements > 1 && w.interleaved;
  const Index rows = w.rows, hidden = x.extent(1), blocks = hidden / Block::elements;
  Kokkos::parallel_for(
      "grist::embedding::forward", Indices<Exec>(exec, 0, static_cast<Index>(x.extent(0)) * blocks),
      KOKKOS_LAMBDA(Index i) {
        const Index token = i / blocks, block = i % blocks;
        const Index row = ids(token) - first_row;
        float* const to = x.data() + token * hidden + block * Block::elements;
        if (row >= 0 && row < rows) {
          if (interleaved)
            interleaved_block(first, blocks, row, block).decode(to);
          else
            first[row * blocks + block].decode(to);
        } else {
          for (int k = 0; k < Block::elements; ++k) to[k] = 0.0F;
        }
      });
}

}  // namespace

void embedding(const Exec& exec, View1<const int> ids, const Weight& w, Index first_row, View2<float> x) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::embedding::forward");
  if (x.extent(0) != ids.extent(0) || static_cast<Index>(x.extent(1)) != w.columns || w.experts != 1 || w.panels != 1) {
    throw ShapeError(
        "embedding: ids [{}], w [{}, {}, {}] of {} panels do not give x [{}, {}]: w is one panel of one expert",
        ids.extent(0), w.experts, w.rows, w.columns, w.panels, x.extent(0), x.extent(1));
  }
  with_format(w.panel[0].format, [&]<class Block>(Block) {
    decode_rows<Block>(exec, ids, w.panel[0], first_row, x);
  });
}

void embedding_backward(const Exec& exec, View1<const int> ids, View1<const int> order, View2<const float> dx,
                        Index first_row, View2<float> dw) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::embedding::backward");
  if (dx.extent(0) != ids.extent(0) || order.extent(0) != ids.extent(0) || dx.extent(1) != dw.extent(1)) {
    throw ShapeError("embedding_backward: ids [{}], order [{}], dx [{}, {}] do not give dw [{}, {}]", ids.extent(0),
                     order.extent(0), dx.extent(0), dx.extent(1), dw.extent(0), dw.extent(1));
  }
  constexpr Index piece = 128;  // columns of a team: threads share the tokens of a frequent id
  const Index tokens = ids.extent(0), hidden = dx.extent(1), rows = dw.extent(0);
  if (tokens == 0) return;
  using Team = Kokkos::TeamPolicy<Exec>;
  Kokkos::parallel_for(
      "grist::embedding::backward", Team(exec, static_cast<int>((hidden + piece - 1) / piece * tokens), Kokkos::AUTO),
      KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index begin = team.league_rank() % tokens, first = team.league_rank() / tokens * piece;
        const Index last = first + piece < hidden ? first + piece : hidden;
        const int id = ids(order(begin));
        const Index row = id - first_row;
        const bool starts_run = begin == 0 || ids(order(begin - 1)) != id;
        if (!starts_run || row < 0 || row >= rows) return;
        float* const to = &dw(row, 0);
        for (Index k = begin; k < tokens && ids(order(k)) == id; ++k) {
          const float* const from = &dx(order(k), 0);
          Kokkos::parallel_for(Kokkos::TeamVectorRange(team, first, last), [&](Index c) { to[c] += from[c]; });
        }
      });
}

}  // namespace grist::layers
