// Blocks against those that ggml's own functions make of the same numbers (tests/reference/quantized_blocks.py), and
// by hand.
#include <grist/core/quantize.hpp>
#include <support/files.hpp>

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace {

using namespace grist;
using test::data_file;

constexpr Index columns = 512;
constexpr Format block_formats[] = {Format::q8_0, Format::q4_0, Format::q5_0, Format::q4_k, Format::q6_k};

std::string encoded(Format format, const std::vector<float>& values, Index width = columns) {
  const Index rows = std::ssize(values) / width;
  std::string bytes(static_cast<std::size_t>(rows * row_bytes(format, width)), '\xAA');
  EXPECT_TRUE(encode_rows(format, values.data(), rows, width, reinterpret_cast<std::byte*>(bytes.data())));
  return bytes;
}

std::vector<float> decoded(Format format, const std::string& bytes) {
  std::vector<float> values;
  with_format(format, [&]<class Block>(Block block) {
    std::array<float, Block::elements> numbers;
    for (std::size_t at = 0; at < bytes.size(); at += sizeof block) {
      std::memcpy(&block, bytes.data() + at, sizeof block);
      block.decode(numbers.data());
      values.insert(values.end(), numbers.begin(), numbers.end());
    }
  });
  return values;
}

TEST(Quantize, WritesTheBlocksOfGgmlByteForByte) {
  const auto values = test::floats_of(data_file("quantize/values.f32"));
  for (const Format format : block_formats) {
    const auto expected = test::contents_of(data_file("quantize") / (std::string(name_of(format)) + ".bin"));
    const auto found = encoded(format, values);
    ASSERT_EQ(found.size(), expected.size()) << name_of(format);
    const Index bytes = block_of(format).bytes;
    for (Index block = 0; block < std::ssize(found) / bytes; ++block)
      EXPECT_EQ(found.compare(block * bytes, bytes, expected, block * bytes, bytes), 0)
          << name_of(format) << ", block " << block << " of " << columns / block_of(format).elements << " a row";
  }
}

/// Root mean square of the errors over that of the numbers: of normal ones a format's usual figure, from both sides.
TEST(Quantize, ErrsAsMuchAsAFormatOfSoManyBitsDoes) {
  auto values = test::floats_of(data_file("quantize/values.f32"));
  values = {values.begin() + columns, values.begin() + 2 * columns};  // a row of normal numbers
  const std::pair<Format, double> usual[] = {{Format::q8_0, 0.006}, {Format::q4_0, 0.09}, {Format::q5_0, 0.045},
                                             {Format::q4_k, 0.07}, {Format::q6_k, 0.018}};
  for (const auto& [format, error] : usual) {
    const auto back = decoded(format, encoded(format, values));
    double wrong = 0, all = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      wrong += std::pow(double{back[i]} - values[i], 2);
      all += std::pow(double{values[i]}, 2);
    }
    EXPECT_LT(std::sqrt(wrong / all), 1.3 * error) << name_of(format);
    EXPECT_GT(std::sqrt(wrong / all), 0.5 * error) << name_of(format);
  }
}

TEST(Quantize, KeepsWhatAFormatHoldsExactly) {
  std::vector<float> values(32);
  for (int i = 0; i < 32; ++i) values[static_cast<std::size_t>(i)] = static_cast<float>(i % 16 - 8) / 4;
  EXPECT_EQ(decoded(Format::q4_0, encoded(Format::q4_0, values, 32)), values);
  EXPECT_EQ(decoded(Format::bf16, encoded(Format::bf16, values, 32)), values);
  EXPECT_EQ(decoded(Format::f16, encoded(Format::f16, values, 32)), values);
  EXPECT_EQ(decoded(Format::f32, encoded(Format::f32, values, 32)), values);
}

TEST(Quantize, TellsOfNumbersThatAreNotFiniteAndMakesThemNoNumbers) {
  for (const Format format : block_formats) {
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      std::vector<float> values(columns, 1.0F);
      values[300] = bad;
      std::string bytes(static_cast<std::size_t>(row_bytes(format, columns)), '\0');
      EXPECT_FALSE(encode_row(format, values.data(), columns, reinterpret_cast<std::byte*>(bytes.data())));
      const auto back = decoded(format, bytes);
      EXPECT_TRUE(std::isnan(back[300])) << name_of(format);
      EXPECT_FALSE(std::isnan(back[0])) << name_of(format) << ": another block";
    }
    const std::vector<float> large(columns, 1e9F);
    std::string bytes(static_cast<std::size_t>(row_bytes(format, columns)), '\0');
    EXPECT_FALSE(encode_row(format, large.data(), columns, reinterpret_cast<std::byte*>(bytes.data())))
        << name_of(format) << ": a scale beyond f16";
  }
}

TEST(Quantize, RefusesAFormatThatItDoesNotWrite) {
  const std::vector<float> values(columns);
  std::byte to[row_bytes(Format::q2_k, columns)];
  EXPECT_FALSE(can_encode(Format::q2_k));
  EXPECT_THROW(encode_row(Format::q2_k, values.data(), columns, to), InternalError);
}

}  // namespace
