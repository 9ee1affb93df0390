#include <grist/backends/convert_rows.hpp>

#include <grist/backends/cpu/row_products.hpp>
#include <grist/core/interleaved_rows.hpp>

#include <algorithm>

namespace grist {
namespace {

/// to [16, columns] = sixteen rows of an interleaved panel from `row` on, some blocks at a time.
template <class Block>
void round_interleaved_rows(const Panel& panel, Index columns, Index row, bf16* to) {
  constexpr Index most = 256 / Block::elements;
  const Index row_blocks = columns / Block::elements;
  const Block* const from = static_cast<const Block*>(panel.data) + row * row_blocks;
  Block blocks[interleaved_rows][most];
  for (Index first = 0; first < row_blocks; first += most) {
    const Index count = std::min(most, row_blocks - first);
    for (Index i = 0; i < count; ++i) take_blocks_apart(from + (first + i) * interleaved_rows, &blocks[0][i], most);
    for (Index r = 0; r < interleaved_rows; ++r)
      cpu::round_row(panel.format, blocks[r], count * Block::elements, 0, to + r * columns + first * Block::elements);
  }
}

}  // namespace

template <>
void convert_rows(const Exec& exec, const Panel& panel, Index first, View2<float> to) {
  convert_rows_plain(exec, panel, first, to);
}

template <>
void convert_rows(const Exec& exec, const Panel& panel, Index first, View2<bf16> to) {
  const Index columns = to.extent(1), count = to.extent(0);
  with_format(panel.format, [&]<class Block>(Block) {
    if constexpr (Block::elements == 1) {
      convert_rows_plain(exec, panel, first, to);
    } else {
      const Index together = panel.interleaved ? interleaved_rows : 1;
      Kokkos::parallel_for(
          "grist::products::convert_rows", Indices<Exec>(exec, 0, count / together), KOKKOS_LAMBDA(Index i) {
            const Index row = i * together;
            bf16* const out = to.data() + row * columns;
            if (panel.interleaved)
              round_interleaved_rows<Block>(panel, columns, first + row, out);
            else
              cpu::round_row(panel.format, panel.data, columns, first + row, out);
          });
    }
  });
}

}  // namespace grist
