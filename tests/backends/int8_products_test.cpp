// Tokens in 8 bits, for every kind of processor that this one can play (row_products_test.cpp): what rounding them
// loses, what cannot be rounded, that a row knows nothing of its neighbours, that all processors give the same bits.
// That the products are right for every format is matvec_test's claim.
#include <grist/backends/cpu/int8_products.hpp>

#include <support/weights.hpp>

#include <hwy/targets.h>

#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include <sys/mman.h>

namespace {

using namespace grist;
using namespace grist::test;
using cpu::Int8Run;

struct Int8Products : testing::TestWithParam<std::int64_t> {
  Int8Products() { hwy::SetSupportedTargetsForTest(GetParam()); }
  ~Int8Products() override { hwy::SetSupportedTargetsForTest(0); }
  void SetUp() override { ASSERT_TRUE(cpu::has_int8_products()); }

  static std::vector<Int8Run> rounded(const std::vector<float>& x) {
    const std::vector<bf16> numbers(x.begin(), x.end());
    std::vector<Int8Run> runs(x.size() / Int8Run::elements);
    cpu::round_to_int8(numbers.data(), static_cast<Index>(runs.size()), runs.data());
    return runs;
  }
  /// Of one token.
  template <class Y = float>
  static std::vector<Y> products(const StoredRows& w, Index begin, Index rows, const std::vector<float>& x) {
    const auto runs = rounded(x);
    std::vector<Y> y(static_cast<std::size_t>(rows), Y(-1));
    cpu::multiply_rows_in_int8<Y>(w.panel(), begin, rows,
                                  {runs.data(), y.data(), 1, w.columns / Int8Run::elements, rows});
    return y;
  }
};

TEST_P(Int8Products, ANumberIsOffByHalfAStepAtMostAndTheGreatestIs127) {
  const auto x = stored<bf16>(normals("x", 64 * 32));
  const auto runs = rounded(x);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const Int8Run& run = runs[i / 32];
    EXPECT_LE(std::abs(run.scale * static_cast<float>(run.numbers[i % 32]) - x[i]), run.scale * 0.5001F);
  }
  for (const Int8Run& run : runs) {
    const auto [least, most] = std::ranges::minmax(run.numbers);
    EXPECT_EQ(std::max<int>(-least, most), 127);
  }
}

TEST_P(Int8Products, SumsAreThoseOfTheRoundedNumbers) {
  for (const Int8Run& run : rounded(normals("x", 8 * 32))) {
    const int first = std::accumulate(run.numbers, run.numbers + 16, 0);
    const int second = std::accumulate(run.numbers + 16, run.numbers + 32, 0);
    EXPECT_THAT(run.starts, testing::ElementsAre(-128 * (first + second), -128 * first, -128 * second));
    EXPECT_THAT(run.sums, testing::ElementsAre(run.scale * static_cast<float>(first + second),
                                               run.scale * static_cast<float>(first),
                                               run.scale * static_cast<float>(second)));
  }
}

TEST_P(Int8Products, OfZerosAndOfAlmostZerosAreZero) {
  const StoredRows w(Format::q4_k, 5, 256);
  EXPECT_THAT(products(w, 0, 5, std::vector<float>(256, 0)), testing::Each(0));
  EXPECT_THAT(products(w, 0, 5, std::vector<float>(256, 1e-38F)), testing::Each(0));
}

TEST_P(Int8Products, OfWhatIsNotFiniteAreNotFinite) {
  for (const Format format : every_format) {
    if (block_of(format).elements == 1) continue;
    const StoredRows w(format, 5, 256);
    for (const float odd : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()}) {
      auto x = normals("x", 256);
      x[77] = odd;
      for (const float y : products(w, 0, 5, x)) EXPECT_FALSE(std::isfinite(y)) << name_of(format) << ", " << odd;
      for (const float y : products<bf16>(w, 0, 5, x)) EXPECT_FALSE(std::isfinite(y)) << name_of(format) << ", " << odd;
    }
  }
}

TEST_P(Int8Products, ARowIsTheSameFromWhereverRowsBegin) {
  for (const Format format : every_format) {
    if (block_of(format).elements == 1) continue;
    const StoredRows w(format, 37, 768);
    const auto x = normals("x", 768), all = products(w, 0, 37, x);
    for (const auto& [begin, rows] : {std::pair<Index, Index>{0, 16}, {0, 33}, {5, 32}, {36, 1}, {20, 17}})
      EXPECT_TRUE(std::ranges::equal(products(w, begin, rows, x), std::span(all).subspan(begin, rows)))
          << name_of(format) << ", rows " << begin << " to " << begin + rows;
  }
}

// A mapped file ends with its last block.
TEST_P(Int8Products, NothingBehindTheLastRowIsRead) {
  constexpr Index page = 1 << 16;
  auto* const memory = static_cast<std::byte*>(
      ::mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(memory, MAP_FAILED);
  ASSERT_EQ(::mprotect(memory + page, page, PROT_NONE), 0);
  const auto runs = rounded(normals("x", 256));
  for (const Format format : every_format) {
    if (block_of(format).elements == 1) continue;
    for (const Index rows : {1, 16, 33}) {
      std::vector<float> y(static_cast<std::size_t>(rows), -1);
      cpu::multiply_rows_in_int8<float>({format, rows, memory + page - rows * row_bytes(format, 256)}, 0, rows,
                                        {runs.data(), y.data(), 1, 256 / Int8Run::elements, rows});
      EXPECT_THAT(y, testing::Each(0)) << name_of(format) << ", " << rows << " rows";
    }
    for (const Index rows : {16, 48}) {
      std::vector<float> y(static_cast<std::size_t>(rows), -1);
      cpu::multiply_rows_in_int8<float>({format, rows, memory + page - rows * row_bytes(format, 256), true}, 0, rows,
                                        {runs.data(), y.data(), 1, 256 / Int8Run::elements, rows});
      EXPECT_THAT(y, testing::Each(0)) << name_of(format) << ", " << rows << " interleaved rows";
    }
  }
  ::munmap(memory, 2 * page);
}

// With numbers as they come, rounded tokens move a product by less than a hundredth of its terms' size; what
// docs/decisions/2026-11-27-int8.md says.
TEST_P(Int8Products, AreNearThoseOfTokensAsTheyAre) {
  for (const Format format : every_format) {
    if (block_of(format).elements == 1) continue;
    const StoredRows w(format, 64, 1024);
    const auto x = stored<bf16>(normals("x", 1024)), y = products(w, 0, 64, x);
    double error = 0, size = 0;
    for (std::size_t r = 0; r < 64; ++r) {
      double sum = 0, terms = 0;
      for (std::size_t k = 0; k < 1024; ++k) {
        const double term = double{x[k]} * w.numbers[r * 1024 + k];
        sum += term;
        terms += term * term;
      }
      error += (y[r] - sum) * (y[r] - sum);
      size += terms;
    }
    EXPECT_LT(std::sqrt(error / size), 0.01) << name_of(format);
    EXPECT_GT(std::sqrt(error / size), 0.002) << name_of(format);
  }
}

/// Sums of integers are exact, and what follows has one order: of rows apart and interleaved, alone and among others.
TEST_P(Int8Products, HaveTheBitsOfEveryOtherProcessor) {
  static std::map<std::tuple<Format, Index, Index>, std::vector<float>> of_first;
  for (const Format format : every_format) {
    if (block_of(format).elements == 1) continue;
    const Index columns = block_of(format).elements == 32 ? 800 : 768;  // no whole number of what is unpacked, and one
    for (const auto& [rows, tokens] : {std::pair<Index, Index>{16, 1}, {48, 1}, {16, 7}, {48, 7}}) {
      const StoredRows apart(format, rows, columns);
      const StoredRows interleaved = apart.interleaved();
      const auto runs = rounded(normals("x", tokens * columns));
      for (const StoredRows* w : {&apart, &interleaved}) {
        std::vector<float> y(static_cast<std::size_t>(tokens * rows));
        std::vector<bf16> in_bf16(y.size());
        cpu::multiply_rows_in_int8<float>(w->panel(), 0, rows,
                                          {runs.data(), y.data(), tokens, columns / Int8Run::elements, rows});
        cpu::multiply_rows_in_int8<bf16>(w->panel(), 0, rows,
                                         {runs.data(), in_bf16.data(), tokens, columns / Int8Run::elements, rows});
        const auto& expected = of_first.try_emplace({format, rows, tokens}, y).first->second;
        EXPECT_EQ(y, expected) << name_of(format) << (w == &apart ? ", apart, " : ", interleaved, ") << rows
                               << " rows, " << tokens << " tokens";
        for (std::size_t i = 0; i < y.size(); ++i) EXPECT_EQ(in_bf16[i].bits, bf16(y[i]).bits) << name_of(format);
      }
    }
  }
}

// Where two products are summed in 16 bits, codes and tokens at their ends are what must fit.
TEST_P(Int8Products, OfTheGreatestCodesAndNumbersFit) {
  for (const Format format : every_format) {
    if (block_of(format).elements == 1) continue;
    for (const int byte : {0xff, 0x81, 0x80, 0x7f, 0x00}) {
      const StoredRows w(format, 16, 256);
      double sum = 0;  // of a row
      with_format(format, [&]<class Block>(Block block) {
        std::memset(static_cast<void*>(&block), byte, sizeof block);
        if constexpr (requires { block.d; }) block.d = f16(1.0F);
        if constexpr (requires { block.m; }) block.m = f16(0.0F);
        if constexpr (requires { block.dmin; }) block.dmin = f16(0.0F);
        for (Index at = 0; at < w.memory.size(); at += sizeof block)
          std::memcpy(w.memory.data() + at, &block, sizeof block);
        float numbers[Block::elements];
        block.decode(numbers);
        sum = std::accumulate(numbers, numbers + Block::elements, 0.0) * (256 / Block::elements);
      });
      for (const float x : {127.0F, -127.0F})
        for (const float y : products(w, 0, 16, std::vector<float>(256, x)))
          EXPECT_NEAR(y, sum * x, 1e-5 * std::abs(sum * x)) << name_of(format) << ", bytes of " << byte;
    }
  }
}

std::vector<std::int64_t> targets() {
  std::vector<std::int64_t> all;
  for (const std::int64_t target : {HWY_AVX2, HWY_AVX3, HWY_AVX3_DL})
    if ((hwy::SupportedTargets() & target) != 0) all.push_back(target);
  return all;
}
INSTANTIATE_TEST_SUITE_P(targets, Int8Products, testing::ValuesIn(targets()),
                         [](const auto& target) { return std::string(hwy::TargetName(target.param)); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Int8Products);

}  // namespace
