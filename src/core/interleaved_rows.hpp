// Sixteen rows of blocks whose bytes lie together, so that vector code with a row in each lane reads them in the order
// of memory: block 0 of all sixteen, then block 1. Within them words of four bytes alternate, word 0 of rows 0 to 15,
// then word 1; two bytes before or behind a block's words alternate by two. What lies `offset` bytes into a block of
// row r is 16 offset + width r bytes into the sixteen blocks.
#pragma once

#include <grist/core/format.hpp>
#include <grist/core/view.hpp>

#include <cstddef>
#include <cstring>
#include <type_traits>

namespace grist {

constexpr Index interleaved_rows = 16;

/// Bytes of a block before its words: of a scale that stands first and alone.
template <class Block>
constexpr int bytes_before_words() {
  if constexpr (requires(Block block) { block.d; })
    return offsetof(Block, d) == 0 && sizeof(Block) % 4 == 2 ? 2 : 0;
  else
    return 0;
}

/// Calls f(offset, width) for the parts of a block that stay together; width is an integral constant.
template <class Block, class F>
constexpr void for_parts(F&& f) {
  constexpr int before = bytes_before_words<Block>(), words = (int{sizeof(Block)} - before) / 4;
  constexpr int behind = int{sizeof(Block)} - before - 4 * words;
  static_assert(behind == 0 || behind == 2);
  if constexpr (before > 0) f(0, std::integral_constant<int, 2>());
  for (int word = 0; word < words; ++word) f(before + 4 * word, std::integral_constant<int, 4>());
  if constexpr (behind > 0) f(before + 4 * words, std::integral_constant<int, 2>());
}

/// Block `block` of row `row` of interleaved rows that have so many blocks each.
template <class Block>
KOKKOS_INLINE_FUNCTION Block interleaved_block(const Block* rows, Index row_blocks, Index row, Index block) {
  const Index lane = row % interleaved_rows;
  const auto* const from =
      reinterpret_cast<const unsigned char*>(rows + (row - lane) * row_blocks + block * interleaved_rows);
  Block result;
  auto* const to = reinterpret_cast<unsigned char*>(&result);
  for_parts<Block>([&](int offset, auto width) {
    for (int i = 0; i < width; ++i) to[offset + i] = from[interleaved_rows * offset + width * lane + i];
  });
  return result;
}

/// to [16] = a block of each of sixteen rows, which lie `stride` blocks apart, interleaved.
template <class Block>
void interleave_blocks(const Block* from, Index stride, Block* to) {
  for_parts<Block>([&](int offset, auto width) {
    for (Index row = 0; row < interleaved_rows; ++row)
      std::memcpy(reinterpret_cast<std::byte*>(to) + interleaved_rows * offset + width * row,
                  reinterpret_cast<const std::byte*>(from + row * stride) + offset, width);
  });
}
/// The way back.
template <class Block>
void take_blocks_apart(const Block* from, Block* to, Index stride) {
  for_parts<Block>([&](int offset, auto width) {
    for (Index row = 0; row < interleaved_rows; ++row)
      std::memcpy(reinterpret_cast<std::byte*>(to + row * stride) + offset,
                  reinterpret_cast<const std::byte*>(from) + interleaved_rows * offset + width * row, width);
  });
}

/// to = sixteen rows, which lie one after the other, interleaved.
void interleave(Format format, const std::byte* rows, Index columns, std::byte* to);

}  // namespace grist
