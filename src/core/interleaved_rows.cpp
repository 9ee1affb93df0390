#include <grist/core/interleaved_rows.hpp>

#include <cstring>

namespace grist {

void interleave(Format format, const std::byte* rows, Index columns, std::byte* to) {
  with_format(format, [&]<class Block>(Block) {
    constexpr Index size = sizeof(Block);
    const Index row_blocks = columns / Block::elements;
    for (Index block = 0; block < row_blocks; ++block, to += interleaved_rows * size)
      for_parts<Block>([&](int offset, int width) {
        const auto move = [&]<int Width>(std::integral_constant<int, Width>) {
          for (Index row = 0; row < interleaved_rows; ++row)
            std::memcpy(to + interleaved_rows * offset + Width * row, rows + (row * row_blocks + block) * size + offset,
                        Width);
        };
        if (width == 4) move(std::integral_constant<int, 4>());
        else move(std::integral_constant<int, 2>());
      });
  });
}

}  // namespace grist
