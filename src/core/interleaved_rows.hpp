// Sixteen rows of blocks whose bytes lie together, so that vector code with a row in each lane reads them in the order
// of memory: block 0 of all sixteen, then block 1. Within them words of four bytes alternate, word 0 of rows 0 to 15,
// then word 1; two bytes before or after a block's words alternate by two. What lies `offset` bytes into a block of row
// r is 16 offset + width r bytes into the sixteen.
#pragma once

#include <grist/core/format.hpp>
#include <grist/core/view.hpp>

namespace grist {

constexpr Index interleaved_rows = 16;

/// Bytes of a block before its words of four.
template <class Block>
inline constexpr int bytes_before_words = sizeof(Block) == 18 || sizeof(Block) == 22 || sizeof(Block) == 34 ? 2 : 0;

/// Calls f(offset, width) for the parts of a block that stay together.
template <class Block, class F>
KOKKOS_INLINE_FUNCTION void for_parts(F&& f) {
  constexpr int size = sizeof(Block), first = bytes_before_words<Block>, words = (size - first) / 4;
  if constexpr (first > 0) f(0, first);
  for (int word = 0; word < words; ++word) f(first + 4 * word, 4);
  if constexpr (first + 4 * words < size) f(first + 4 * words, size - first - 4 * words);
}

/// Block `block` of row `row` of interleaved rows that have so many blocks each.
template <class Block>
KOKKOS_INLINE_FUNCTION Block interleaved_block(const Block* rows, Index row_blocks, Index row, Index block) {
  const Index lane = row % interleaved_rows;
  const auto* const from =
      reinterpret_cast<const unsigned char*>(rows + (row - lane) * row_blocks + block * interleaved_rows);
  Block result;
  auto* const to = reinterpret_cast<unsigned char*>(&result);
  for_parts<Block>([&](int offset, int width) {
    for (int i = 0; i < width; ++i) to[offset + i] = from[interleaved_rows * offset + width * lane + i];
  });
  return result;
}

/// to = sixteen rows, which lie one after the other.
void interleave(Format format, const std::byte* rows, Index columns, std::byte* to);

}  // namespace grist
