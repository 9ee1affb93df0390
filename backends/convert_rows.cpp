#include <grist/backends/convert_rows.hpp>

#include <grist/core/staging.hpp>

namespace grist {
namespace {

template <class T, class X>
KOKKOS_INLINE_FUNCTION void convert_block(const PlainBlock<T>& block, X* to) {
  to[0] = X(block.value(0));
}
template <class Block, class X>
KOKKOS_INLINE_FUNCTION void convert_block(const Block& block, X* to) {
  float x[Block::elements];
  block.decode(x);
  for (int k = 0; k < Block::elements; ++k) to[k] = X(x[k]);
}

/// to [rows, columns] = whole rows of blocks.
template <class Block, class X>
void convert(const Exec& exec, const Block* from, View2<X> to) {
  if constexpr (!host_reaches_memory) {  // neighbouring threads write neighbouring numbers
    Kokkos::parallel_for(
        "grist::products::convert_rows", Indices<Exec>(exec, 0, static_cast<Index>(to.size())), KOKKOS_LAMBDA(Index i) {
          to.data()[i] = X(from[i / Block::elements].value(static_cast<int>(i % Block::elements)));
        });
  } else {
    const Index blocks = static_cast<Index>(to.size()) / Block::elements;
    Kokkos::parallel_for(
        "grist::products::convert_rows", Indices<Exec>(exec, 0, blocks),
        KOKKOS_LAMBDA(Index i) { convert_block(from[i], to.data() + i * Block::elements); });
  }
}

}  // namespace

template <class X>
void convert_rows_plain(const Exec& exec, const Panel& panel, Index first, View2<X> to) {
  if (panel.interleaved) throw InternalError("interleaved rows are not converted to {}", name_of(dtype_of<X>));
  with_format(panel.format, [&]<class Block>(Block) {
    const Index row_blocks = static_cast<Index>(to.extent(1)) / Block::elements;
    convert(exec, static_cast<const Block*>(panel.data) + first * row_blocks, to);
  });
}

template void convert_rows_plain(const Exec&, const Panel&, Index, View2<float>);
template void convert_rows_plain(const Exec&, const Panel&, Index, View2<bf16>);

}  // namespace grist
