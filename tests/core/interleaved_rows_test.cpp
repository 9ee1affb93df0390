// Interleaved rows: where each byte goes, and that blocks come back.
#include <grist/core/interleaved_rows.hpp>

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace {

using namespace grist;

constexpr Format formats[] = {Format::q8_0, Format::q4_0, Format::q4_1, Format::q5_0,   Format::q5_1,   Format::q2_k,
                              Format::q3_k, Format::q4_k, Format::q5_k, Format::q6_k, Format::iq4_nl, Format::iq4_xs};
constexpr Index row_blocks = 3;

/// Bytes that tell their row, block and offset from each other.
std::vector<std::byte> bytes_of_rows(Format format, Index rows) {
  const Index row = row_blocks * block_of(format).bytes;
  std::vector<std::byte> bytes(static_cast<std::size_t>(rows * row));
  for (Index i = 0; i < rows * row; ++i) bytes[static_cast<std::size_t>(i)] = static_cast<std::byte>(i * 7 + i / 251);
  return bytes;
}

std::vector<std::byte> interleaved(Format format, const std::vector<std::byte>& rows) {
  const Index columns = row_blocks * block_of(format).elements;
  const auto sixteen = static_cast<std::size_t>(interleaved_rows * row_bytes(format, columns));
  std::vector<std::byte> result(rows.size());
  for (std::size_t i = 0; i < rows.size(); i += sixteen) interleave(format, &rows[i], columns, &result[i]);
  return result;
}

TEST(InterleavedRows, HaveWordsOfSixteenRowsBesideEachOther) {
  // Of q8_0: the scales of all rows, then words of quants.
  const auto rows = bytes_of_rows(Format::q8_0, 16), found = interleaved(Format::q8_0, rows);
  for (std::size_t block = 0; block < row_blocks; ++block)
    for (std::size_t row = 0; row < 16; ++row)
      for (std::size_t byte = 0; byte < 34; ++byte) {
        const std::size_t place = byte < 2 ? 2 * row + byte : 32 + (byte - 2) / 4 * 64 + 4 * row + (byte - 2) % 4;
        ASSERT_EQ(found[block * 16 * 34 + place], rows[(row * row_blocks + block) * 34 + byte])
            << "block " << block << ", row " << row << ", byte " << byte;
      }
}

TEST(InterleavedRows, GiveTheirBlocksBack) {
  for (const Format format : formats) {
    const auto rows = bytes_of_rows(format, 48), found = interleaved(format, rows);
    EXPECT_NE(rows, found);
    with_format(format, [&]<class Block>(Block) {
      for (Index row = 0; row < 48; ++row)
        for (Index block = 0; block < row_blocks; ++block) {
          const Block back = interleaved_block(reinterpret_cast<const Block*>(found.data()), row_blocks, row, block);
          const auto at = static_cast<std::size_t>(row * row_blocks + block) * sizeof(Block);
          EXPECT_EQ(std::memcmp(&back, &rows[at], sizeof(Block)), 0)
              << name_of(format) << ", row " << row << ", block " << block;
        }
      std::vector<Block> apart(16);
      take_blocks_apart(reinterpret_cast<const Block*>(found.data()) + 16, apart.data(), 1);  // block 1 of each row
      for (std::size_t row = 0; row < 16; ++row)
        EXPECT_EQ(std::memcmp(&apart[row], &rows[(row * row_blocks + 1) * sizeof(Block)], sizeof(Block)), 0)
            << name_of(format) << ", row " << row;
    });
  }
}

}  // namespace
