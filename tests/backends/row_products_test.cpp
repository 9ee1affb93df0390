// Products of rows for every kind of processor that this one can play: a program that is built for any x86-64 picks
// among them when it runs. Here *_row_products.cpp are compiled for all of them (CMakeLists.txt), not for this one
// alone.
#include <grist/backends/cpu/row_products.hpp>

#include <support/compare.hpp>
#include <support/weights.hpp>

#include <hwy/targets.h>

#include <limits>

namespace {

using namespace grist;
using namespace grist::test;

constexpr Index rows = 9, most_tokens = 37;  // in tiles of six, two and one

struct RowProducts : testing::TestWithParam<std::int64_t> {
  RowProducts() { hwy::SetSupportedTargetsForTest(GetParam()); }
  ~RowProducts() override { hwy::SetSupportedTargetsForTest(0); }

  static bool has_products(Format format) {
    return block_of(format).elements > 1 ? cpu::has_block_row_products() : format == Format::bf16;
  }
  /// Of the first `tokens` of x.
  template <class Y = float>
  static std::vector<Y> products(const StoredRows& w, const std::vector<bf16>& x, Index tokens) {
    std::vector<Y> y(static_cast<std::size_t>(tokens * rows));
    if (w.format != Format::bf16) {
      cpu::multiply_block_rows(w.format, w.memory.data(), w.columns, 0, rows,
                               cpu::TokenRows<bf16, Y>{x.data(), y.data(), tokens, w.columns, rows});
      return y;
    }
    const auto* const numbers = reinterpret_cast<const bf16*>(w.memory.data());
    const bool packs = cpu::packs_tokens(tokens, w.columns);
    const Index stride = packs ? cpu::packed_columns(w.columns) : w.columns;
    std::vector<bf16> packed(static_cast<std::size_t>(tokens * stride));
    for (Index t = 0, tile = cpu::tokens_in_tile(tokens); packs && t < tokens; t += tile)
      cpu::pack_tile(x.data() + t * w.columns, w.columns, std::min(tile, tokens - t), packed.data() + t * stride);
    cpu::multiply_bf16_rows(numbers, w.columns, rows,
                            cpu::TokenRows<bf16, Y>{packs ? packed.data() : x.data(), y.data(), tokens, stride, rows});
    return y;
  }
  static std::vector<bf16> rounded(const StoredRows& w) {
    std::vector<bf16> numbers(w.numbers.size());
    for (Index r = 0; r < rows; ++r)
      if (block_of(w.format).elements == 1)
        for (Index c = 0; c < w.columns; ++c) numbers[r * w.columns + c] = bf16(w.numbers[r * w.columns + c]);
      else
        cpu::round_row(w.format, w.memory.data(), w.columns, r, numbers.data() + r * w.columns);
    return numbers;
  }
};

/// Wider than what is decoded at a time, and no whole number of it; in bf16 of every way that rows take: as tokens are,
/// packed, in stretches.
std::vector<Index> columns_of(Format format) {
  if (format == Format::bf16) return {1001, 1993, 2 * 2048 + 33 * 32 + 9};
  return {block_of(format).elements == 256 ? 5 * 256 : 33 * 32};
}

std::vector<StoredRows> weights() {
  std::vector<StoredRows> all;
  for (const Format format : every_format)
    for (const Index columns : columns_of(format)) all.emplace_back(format, rows, columns);
  return all;
}

std::vector<bf16> tokens_of(Index columns) {
  const auto numbers = normals("x", most_tokens * columns);
  return {numbers.begin(), numbers.end()};
}

TEST_P(RowProducts, AreThoseOfRowsRoundedOnce) {
  for (const auto& w : weights()) {
    SCOPED_TRACE(std::format("{}, {} columns", name_of(w.format), w.columns));
    const auto numbers = rounded(w);
    const auto x = tokens_of(w.columns);
    for (std::size_t i = 0; i < numbers.size(); ++i)
      ASSERT_NEAR(numbers[i], w.numbers[i], 1e-5 + std::abs(w.numbers[i]) / 256) << "number " << i;
    if (!has_products(w.format)) continue;
    const auto y = products(w, x, most_tokens);
    for (Index t = 0; t < most_tokens; ++t) {
      for (Index r = 0; r < rows; ++r) {
        double sum = 0, size = 0;
        for (Index c = 0; c < w.columns; ++c) {
          const double product = double{x[t * w.columns + c]} * double{numbers[r * w.columns + c]};
          sum += product;
          size += std::abs(product);
        }
        ASSERT_NEAR(y[t * rows + r], sum, 1e-6 * size) << "token " << t << ", row " << r;
      }
    }
  }
}

TEST_P(RowProducts, OfATokenHaveTheSameBitsAmongOthers) {
  for (const auto& w : weights()) {
    if (!has_products(w.format)) continue;
    const auto x = tokens_of(w.columns);
    const auto all = products(w, x, most_tokens);
    for (const Index tokens : {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 16, 17, 19, 32})
      EXPECT_TRUE(std::ranges::equal(products(w, x, tokens), all | std::views::take(tokens * rows)))
          << name_of(w.format) << ", " << w.columns << " columns, " << tokens << " tokens";
  }
}

/// Of numbers that are finite, and not.
TEST_P(RowProducts, InBf16AreThoseInFloatRounded) {
  const StoredRows w(Format::bf16, rows, 64);
  auto x = tokens_of(w.columns);
  const float infinite = std::numeric_limits<float>::infinity(), none = std::numeric_limits<float>::quiet_NaN();
  for (const auto& [token, number] : {std::pair{1, infinite}, {2, -infinite}, {3, none}})
    x[token * 64 + 5] = bf16(number);
  for (const Index tokens : {Index{1}, Index{2}, most_tokens}) {
    const auto exact = products(w, x, tokens);
    const auto found = products<bf16>(w, x, tokens);
    for (std::size_t i = 0; i < found.size(); ++i)
      EXPECT_EQ(found[i].bits, bf16(exact[i]).bits) << i << " of " << tokens << " tokens";
  }
}

/// Of the first `tokens` of x, in float.
template <class X>
std::vector<float> products_in_float(const StoredRows& w, const std::vector<X>& x, Index tokens) {
  std::vector<float> y(static_cast<std::size_t>(tokens * rows));
  cpu::multiply_rows_in_float(w.format, w.memory.data(), w.columns, 0, rows,
                              cpu::TokenRows<X, float>{x.data(), y.data(), tokens, w.columns, rows});
  return y;
}

/// They are those of the numbers as they are stored, and those of a token have the same bits among others.
template <class X>
void expect_float_products(const StoredRows& w, const std::vector<X>& x) {
  SCOPED_TRACE(name_of(w.format));
  const auto all = products_in_float(w, x, most_tokens);
  for (Index t = 0; t < most_tokens; ++t) {
    for (Index r = 0; r < rows; ++r) {
      double sum = 0, size = 0;
      for (Index c = 0; c < w.columns; ++c) {
        const double product = double{x[t * w.columns + c]} * double{w.numbers[r * w.columns + c]};
        sum += product;
        size += std::abs(product);
      }
      ASSERT_NEAR(all[t * rows + r], sum, 1e-6 * size) << "token " << t << ", row " << r;
    }
  }
  for (const Index tokens : {1, 2, 3, 32})
    EXPECT_TRUE(std::ranges::equal(products_in_float(w, x, tokens), all | std::views::take(tokens * rows)))
        << tokens << " tokens";
}

TEST_P(RowProducts, InFloatAreThoseOfTheNumbersAlsoAmongOthers) {
  for (const auto& w : weights()) {
    expect_float_products(w, normals("x", most_tokens * w.columns));
    if (block_of(w.format).elements == 1 && !has_products(w.format))
      expect_float_products(w, tokens_of(w.columns));
  }
}

std::vector<std::int64_t> targets() {
  std::vector<std::int64_t> all;
  constexpr std::int64_t left_out = HWY_AVX3_DL | HWY_SSE4 | HWY_SSSE3;  // they run what others do
  for (std::int64_t left = hwy::SupportedTargets() & ~left_out; left != 0; left &= left - 1)
    all.push_back(left & -left);
  return all;
}
INSTANTIATE_TEST_SUITE_P(targets, RowProducts, testing::ValuesIn(targets()),
                         [](const auto& target) { return std::string(hwy::TargetName(target.param)); });

}  // namespace
