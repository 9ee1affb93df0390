#include <grist/layers/embedding.hpp>

#include <grist/core/errors.hpp>

namespace grist::layers {
namespace {

/// A work item per block of a token's row.
template <class Block>
void decode_rows(const Exec& exec, View1<const int> ids, const Block* w, Index rows, Index first_row, View2<float> x) {
  const Index hidden = x.extent(1), blocks = hidden / Block::elements;
  Kokkos::parallel_for(
      "grist::embedding::forward", Indices<Exec>(exec, 0, static_cast<Index>(x.extent(0)) * blocks),
      KOKKOS_LAMBDA(Index i) {
        const Index token = i / blocks, block = i % blocks;
        const Index row = ids(token) - first_row;
        float* const to = x.data() + token * hidden + block * Block::elements;
        if (row >= 0 && row < rows) {
          w[row * blocks + block].decode(to);
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
    decode_rows(exec, ids, static_cast<const Block*>(w.panel[0].data), w.rows, first_row, x);
  });
}

}  // namespace grist::layers
