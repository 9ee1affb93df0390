#include <grist/backends/convert_rows.hpp>

#include <grist/backends/cpu/row_products.hpp>
#include <grist/core/interleaved_rows.hpp>

#include <algorithm>

namespace grist {
namespace {

/// A row of an interleaved panel, a few blocks at a time.
template <class Block>
void round_interleaved_row(const Panel& panel, Index columns, Index row, bf16* to) {
  constexpr Index most = 256 / Block::elements;
  const Index row_blocks = columns / Block::elements;
  Block blocks[most];
  for (Index first = 0; first < row_blocks; first += most, to += most * Block::elements) {
    const Index count = std::min(most, row_blocks - first);
    for (Index i = 0; i < count; ++i)
      blocks[i] = interleaved_block(static_cast<const Block*>(panel.data), row_blocks, row, first + i);
    cpu::round_row(panel.format, blocks, count * Block::elements, 0, to);
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
    if constexpr (Block::elements == 1)
      convert_rows_plain(exec, panel, first, to);
    else
      Kokkos::parallel_for(
          "grist::products::convert_rows", Indices<Exec>(exec, 0, count), KOKKOS_LAMBDA(Index row) {
            bf16* const out = to.data() + row * columns;
            if (panel.interleaved)
              round_interleaved_row<Block>(panel, columns, first + row, out);
            else
              cpu::round_row(panel.format, panel.data, columns, first + row, out);
          });
  });
}

}  // namespace grist
