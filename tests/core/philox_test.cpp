// Philox against the known answers of Random123 (kat_vectors), and what is made of its words.
#include <grist/core/philox.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace {

using namespace grist;

using Words = std::array<std::uint32_t, 4>;

Words words(const PhiloxBlock& block) { return {block.word[0], block.word[1], block.word[2], block.word[3]}; }

TEST(Philox, GivesTheKnownAnswersOfRandom123) {
  constexpr std::uint32_t ones = 0xffffffffU;
  EXPECT_EQ(words(philox({{0, 0, 0, 0}}, 0)), (Words{0x6627e8d5U, 0xe169c58dU, 0xbc57ac4cU, 0x9b00dbd8U}));
  EXPECT_EQ(words(philox({{ones, ones, ones, ones}}, ~std::uint64_t{0})),
            (Words{0x408f276dU, 0x41c83b0eU, 0xa20bc7c6U, 0x6d5451fdU}));
  EXPECT_EQ(words(philox({{0x243f6a88U, 0x85a308d3U, 0x13198a2eU, 0x03707344U}}, 0x299f31d0a4093822ULL)),
            (Words{0xd16cfe09U, 0x94fdcceb, 0x5001e420U, 0x24126ea1U}));
}

TEST(Philox, StreamsCountWithIndexAndId) {
  const PhiloxStream stream{0x299f31d0a4093822ULL, 0x0370734413198a2eULL};
  EXPECT_EQ(words(stream.at(0x85a308d3243f6a88ULL)), (Words{0xd16cfe09U, 0x94fdccebU, 0x5001e420U, 0x24126ea1U}));
}

/// drawn [256]: four words at each of 64 places of the stream.
void draw(PhiloxStream stream, Kokkos::View<std::uint32_t*> drawn) {
  Kokkos::parallel_for(
      "grist::test::philox", 64, KOKKOS_LAMBDA(int i) {
        const PhiloxBlock block = stream.at(static_cast<std::uint64_t>(i));
        for (int k = 0; k < 4; ++k) drawn(4 * i + k) = block.word[k];
      });
}

TEST(Philox, IsTheSameInAKernel) {
  const PhiloxStream stream{7, hash_name("weight")};
  Kokkos::View<std::uint32_t*> drawn("drawn", 256);
  draw(stream, drawn);
  const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), drawn);
  std::set<std::uint32_t> different;
  for (int i = 0; i < 256; ++i) {
    EXPECT_EQ(host(i), stream.at(static_cast<std::uint64_t>(i / 4)).word[i % 4]);
    different.insert(host(i));
  }
  EXPECT_EQ(different.size(), 256U);
}

TEST(HashName, IsFnv1a) {
  static_assert(hash_name("") == 0xcbf29ce484222325ULL);
  static_assert(hash_name("a") == 0xaf63dc4c8601ec8cULL);
  static_assert(hash_name("foobar") == 0x85944171f73967e8ULL);
}

TEST(Uniform, NeverReaches0Or1AndGrowsWithTheWord) {
  EXPECT_GT(uniform(0), 0.0F);
  EXPECT_LT(uniform(0xffffffffU), 1.0F);
  float before = uniform(0);
  for (std::uint32_t word = 1U << 9; word != 0; word += 1U << 9) {
    const float next = uniform(word);
    if (!(next > before && next < 1.0F)) {
      ADD_FAILURE() << std::hex << word << " gives " << next << " after " << before;
      break;
    }
    before = next;
  }
}

/// Each statistic of n independent draws lies within five of its standard deviations.
TEST(Philox, DrawsUniformAndNormalNumbersOfTheRightMoments) {
  constexpr int n = 200000;
  const PhiloxStream stream{1, 2};
  double uniform_sum = 0;
  double sum = 0;
  double squares = 0;
  double fourths = 0;
  for (int i = 0; i < n; ++i) {
    const PhiloxBlock block = stream.at(static_cast<std::uint64_t>(i));
    uniform_sum += static_cast<double>(uniform(block.word[2]));
    const auto x = static_cast<double>(normal_pair(block.word[0], block.word[1]).first);
    ASSERT_TRUE(std::isfinite(x));
    sum += x;
    squares += x * x;
    fourths += x * x * x * x;
  }
  const double root = std::sqrt(n);
  EXPECT_NEAR(uniform_sum / n, 0.5, 5 * std::sqrt(1.0 / 12) / root);
  EXPECT_NEAR(sum / n, 0, 5 / root);
  EXPECT_NEAR(squares / n, 1, 5 * std::sqrt(2.0) / root);
  EXPECT_NEAR(fourths / n, 3, 5 * std::sqrt(96.0) / root);
}

TEST(Normal, IsFiniteForEveryExtremeWord) {
  for (const std::uint32_t a : {0U, 1U, 0x7fffffffU, 0xffffffffU}) {
    for (const std::uint32_t b : {0U, 1U, 0x7fffffffU, 0xffffffffU})
      EXPECT_TRUE(std::isfinite(normal_pair(a, b).first)) << a << " " << b;
  }
}

}  // namespace
