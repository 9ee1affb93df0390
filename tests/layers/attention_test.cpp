// Attention, fast and plain, against the whole score matrix in double precision; and its promises.
#include <grist/core/errors.hpp>

#include <layers/packed.hpp>

namespace {

using namespace grist;
using namespace grist::test;
using layers::AttentionConfig;

AttentionConfig config(int heads, int kv_heads, int head_dim, int window = 0) {
  return {.heads = heads, .kv_heads = kv_heads, .head_dim = head_dim,
          .scale = 1 / std::sqrt(static_cast<float>(head_dim)), .window = window};
}

const std::vector<Sequence> mixed{{0, 1}, {130, 1}, {63, 2}, {200, 3}, {0, 70}, {5, 129}};

template <class T>
struct Attention : testing::Test {
  /// Fast and plain against the reference, and against each other: both may err, in opposite directions.
  static void judge(const Packed<T>& packed) {
    const auto fast = packed.run(), plain = packed.run(true);
    auto expected = packed.expected();
    EXPECT_LE(worst_error(fast, expected), 1);
    EXPECT_LE(worst_error(plain, expected), 1) << "the plain twin";
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = {plain[i], 2 * expected[i].bound};
    EXPECT_LE(worst_error(fast, expected), 1) << "the twins";
  }
};
using Storage = testing::Types<float, bf16>;
TYPED_TEST_SUITE(Attention, Storage);

TYPED_TEST(Attention, IsItsFormulaForEveryRatioOfHeads) {
  for (const auto& [heads, kv_heads] : std::vector<std::pair<int, int>>{{1, 1}, {4, 4}, {9, 3}, {7, 1}}) {
    SCOPED_TRACE(testing::Message() << heads << " heads, " << kv_heads << " KV heads");
    this->judge(Packed<TypeParam>(config(heads, kv_heads, 16), mixed));
  }
}

TYPED_TEST(Attention, IsItsFormulaForEveryHeadSize) {
  for (const int dim : {1, 5, 12, 64, 80}) {
    SCOPED_TRACE(testing::Message() << "head_dim " << dim);
    this->judge(Packed<TypeParam>(config(2, 1, dim), mixed));
  }
}

TYPED_TEST(Attention, SeesTheLastKeysOfAWindow) {
  for (const int window : {1, 2, 7, 64, 65, 100, 1000}) {
    SCOPED_TRACE(testing::Message() << "window " << window);
    this->judge(Packed<TypeParam>(config(2, 1, 16, window), mixed));
  }
}

TYPED_TEST(Attention, OfALongPast) { this->judge(Packed<TypeParam>(config(2, 2, 8), {{5000, 1}, {4095, 2}})); }

TYPED_TEST(Attention, RoundsToItsStorageType) {
  const Packed<TypeParam> packed(config(4, 2, 16), mixed);
  expect_rounded_to<TypeParam>(packed.run(), packed.expected());
}

TYPED_TEST(Attention, TheReferenceTellsAWindowFromAnother) {
  const Packed<TypeParam> packed(config(1, 1, 16, 7), mixed);
  auto other = packed;
  other.config.window = 8;
  EXPECT_GT(worst_error(other.run(), packed.expected()), 1);
}

TYPED_TEST(Attention, ATokensBitsAreTheSameAloneAndAmongOthers) {
  const auto all = Packed<TypeParam>(config(6, 2, 16), mixed).run();
  std::size_t first = 0;
  for (std::size_t s = 0; s < mixed.size(); ++s) {
    const auto alone = Packed<TypeParam>(config(6, 2, 16), {mixed[s]}, static_cast<Index>(s)).run();
    EXPECT_TRUE(std::ranges::equal(alone, std::span(all).subspan(first, alone.size()))) << "sequence " << s;
    first += alone.size();
  }
}

TYPED_TEST(Attention, TheSameInputGivesTheSameBits) {
  const Packed<TypeParam> packed(config(6, 2, 16), mixed);
  EXPECT_EQ(packed.run(), packed.run());
  EXPECT_EQ(packed.run(true), packed.run(true));
}

TYPED_TEST(Attention, ExtremeScoresPickTheirKeyAndEqualOnesShare) {
  for (const bool plain : {false, true}) {
    Packed<TypeParam> packed(config(1, 1, 4), {{99, 1}});
    std::ranges::fill(std::span(packed.q).first(4), 1e9F);
    for (Index key = 0; key < 100; ++key)
      for (std::size_t c = 0; c < 4; ++c) packed.k[packed.at(0, 0, key) + c] = key == 70 ? 1e9F : -1e9F;
    const auto picked = packed.run(plain);
    for (std::size_t c = 0; c < 4; ++c) EXPECT_EQ(picked[c], packed.v[packed.at(0, 0, 70) + c]);

    for (Index key = 0; key < 100; ++key)
      for (std::size_t c = 0; c < 4; ++c) packed.k[packed.at(0, 0, key) + c] = -1e9F;
    const auto shared = packed.run(plain);
    for (std::size_t c = 0; c < 4; ++c) {
      double mean = 0, magnitude = 0;
      for (Index key = 0; key < 100; ++key) {
        const double value = packed.v[packed.at(0, 0, key) + c] / 100;
        mean += value;
        magnitude += std::abs(value);
      }
      EXPECT_NEAR(shared[c], mean, magnitude * 200 * float_rounding + 1.001 * rounding<TypeParam> * std::abs(mean));
    }
  }
}

TYPED_TEST(Attention, ABrokenKeyBreaksTheTokensThatSeeItAndNoOthers) {
  for (const bool plain : {false, true}) {
    const Packed<TypeParam> sound(config(1, 1, 4), {{10, 80}, {0, 5}});
    auto broken = sound;
    broken.k[broken.at(0, 0, 50)] = std::nanf("");
    const auto before = sound.run(plain), after = broken.run(plain);
    for (std::size_t i = 0; i < before.size(); ++i) {
      const std::size_t token = i / 4;
      if (token >= 40 && token < 80) {
        EXPECT_TRUE(std::isnan(after[i])) << "token " << token << " hides a NaN";
      } else {
        EXPECT_EQ(after[i], before[i]) << "token " << token;
      }
    }
  }
}

TYPED_TEST(Attention, OfNoSequencesIsNothing) { EXPECT_TRUE(Packed<TypeParam>(config(2, 1, 4), {}).run().empty()); }

TEST(AttentionShapes, ThatDisagreeAreNamed) {
  const Buffer<float> q("q", 16), cache("cache", 24), out("out", 16);
  const auto message = [&](const AttentionConfig& c) -> std::string {
    const View3<const float> k(cache.data(), 2, 3, 4);
    try {
      layers::attention(Exec(), c, as_const(q.view(2, 8)), k, k, {}, out.view(2, 8));
      return "no error";
    } catch (const ShapeError& error) {
      return error.what();
    }
  };
  const std::string rest = " do not go with q [2, 8], k [2, 3, 4], v [2, 3, 4], out [2, 8]";
  EXPECT_EQ(message(config(2, 2, 4)), "no error");
  EXPECT_EQ(message(config(4, 2, 4)), "attention: 4 heads of 4 and 2 KV heads" + rest);
  EXPECT_EQ(message(config(2, 1, 4)), "attention: 2 heads of 4 and 1 KV heads" + rest);
  EXPECT_EQ(message(config(1, 2, 8)), "attention: 1 heads of 8 and 2 KV heads" + rest);
  EXPECT_EQ(message(config(2, 0, 4)), "attention: 2 heads of 4 and 0 KV heads" + rest);
}

}  // namespace
