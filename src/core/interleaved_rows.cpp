#include <grist/core/interleaved_rows.hpp>

namespace grist {

void interleave(Format format, const std::byte* rows, Index columns, std::byte* to) {
  with_format(format, [&]<class Block>(Block) {
    const Index row_blocks = columns / Block::elements;
    for (Index block = 0; block < row_blocks; ++block)
      interleave_blocks(reinterpret_cast<const Block*>(rows) + block, row_blocks,
                        reinterpret_cast<Block*>(to) + block * interleaved_rows);
  });
}

}  // namespace grist
