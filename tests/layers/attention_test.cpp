// Attention, by every provider, against the whole score matrix in double precision; and its promises.
#include <grist/core/errors.hpp>
#include <grist/core/staging.hpp>

#include <layers/packed.hpp>

namespace {

using namespace grist;
using namespace grist::test;

AttentionConfig config(int heads, int kv_heads, int head_dim, int window = 0) {
  return {.heads = heads,
          .kv_heads = kv_heads,
          .head_dim = head_dim,
          .scale = 1 / std::sqrt(static_cast<float>(head_dim)),
          .window = window};
}

/// Slopes of ALiBi for any number of heads; no two are equal.
std::vector<float> slopes(int heads) {
  std::vector<float> values;
  for (int h = 0; h < heads; ++h)
    values.push_back(std::exp2(-8.0F * static_cast<float>(h + 1) / static_cast<float>(heads)));
  return values;
}

const std::vector<Sequence> mixed{{0, 1}, {130, 1}, {63, 2}, {200, 3}, {0, 70}, {5, 129}};
const std::vector<Sequence> prompts{{0, 1}, {0, 5}, {0, 64}, {0, 65}, {0, 131}};  // without a past
/// Pasts on both sides of a chunk's end, and over several chunks.
const std::vector<Sequence> long_pasts{
    {attention_chunk - 1, 1}, {attention_chunk, 1}, {attention_chunk + 1, 2}, {2900, 7}};

/// What stores queries, and what keys and values.
template <class X_, class K_>
struct StorageOf {
  using X = X_;
  using K = K_;
};

template <class Stored>
struct Attention : testing::Test {
  using X = typename Stored::X;
  using K = typename Stored::K;
  using Cached = Packed<X, K>;
  using Uncached = Packed<X>;

  /// The best provider and the plain one against the reference, and against each other: both may err, in opposite
  /// directions.
  template <class OfKeys>
  static void judge(const Packed<X, OfKeys>& packed, How how = {}) {
    std::vector<Expected> log_sums;
    auto expected = packed.expected(&log_sums);
    const auto fast = packed.run(how);
    EXPECT_LE(worst_error(fast, expected), 1);
    EXPECT_LE(worst_error(packed.lse, log_sums), 1) << "lse";
    how.plain = true;
    const auto plain = packed.run(how);
    EXPECT_LE(worst_error(plain, expected), 1) << "the plain twin";
    EXPECT_LE(worst_error(packed.lse, log_sums), 1) << "lse of the plain twin";
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = {plain[i], 2 * expected[i].bound};
    EXPECT_LE(worst_error(fast, expected), 1) << "the twins";
  }
};
using Storages = testing::Types<StorageOf<float, float>, StorageOf<bf16, bf16>, StorageOf<float, std::int8_t>,
                                StorageOf<bf16, std::int8_t>>;
TYPED_TEST_SUITE(Attention, Storages);

TYPED_TEST(Attention, IsItsFormulaForEveryRatioOfHeads) {
  for (const auto& [heads, kv_heads] : std::vector<std::pair<int, int>>{{1, 1}, {4, 4}, {9, 3}, {7, 1}, {70, 1}}) {
    SCOPED_TRACE(testing::Message() << heads << " heads, " << kv_heads << " KV heads");
    this->judge(typename TestFixture::Cached(config(heads, kv_heads, 16), mixed));
  }
}

TYPED_TEST(Attention, IsItsFormulaForEveryHeadSize) {
  for (const int dim : {1, 5, 12, 64, 80, 257}) {
    SCOPED_TRACE(testing::Message() << "head_dim " << dim);
    this->judge(typename TestFixture::Cached(config(2, 1, dim), mixed));
  }
}

TYPED_TEST(Attention, SeesTheLastKeysOfAWindow) {
  for (const int window : {1, 2, 7, 64, 65, 100, 1000}) {
    SCOPED_TRACE(testing::Message() << "window " << window);
    this->judge(typename TestFixture::Cached(config(2, 1, 16, window), mixed));
  }
}

TYPED_TEST(Attention, OfALongPastIsItsFormulaOverChunks) {
  for (const int window : {0, 1, 63, attention_chunk, attention_chunk + 1, 1000}) {
    SCOPED_TRACE(testing::Message() << "window " << window);
    this->judge(typename TestFixture::Cached(config(3, 1, 8, window), long_pasts));
  }
}

TYPED_TEST(Attention, SoftCapsScores) {
  auto c = config(4, 2, 12);
  for (const float cap : {0.3F, 5.0F, 50.0F}) {
    SCOPED_TRACE(testing::Message() << "soft cap " << cap);
    c.softcap = cap;
    this->judge(typename TestFixture::Cached(c, mixed));
  }
}

TYPED_TEST(Attention, AddsAlibiSlopesOfEachHead) {
  using Cached = typename TestFixture::Cached;
  for (const int heads : {1, 3, 6}) this->judge(Cached(config(heads, 1, 12), mixed, slopes(heads)));
}

TYPED_TEST(Attention, WithoutACauseSeesAllKeysOfItsSequence) {
  auto c = config(6, 2, 12);
  c.causal = false;
  this->judge(typename TestFixture::Cached(c, mixed));
  this->judge(typename TestFixture::Cached(c, mixed, slopes(6)));
}

TYPED_TEST(Attention, DoesAllOfItTogether) {
  auto c = config(6, 2, 20, 97);
  c.softcap = 3;
  this->judge(typename TestFixture::Cached(c, mixed, slopes(6)));
  this->judge(typename TestFixture::Cached(c, long_pasts, slopes(6)));
}

TYPED_TEST(Attention, ReadsACacheOfAnotherType) {
  using X = typename TestFixture::X;
  this->judge(Packed<X, float>(config(6, 2, 20), mixed));
  this->judge(Packed<X, bf16>(config(6, 2, 20), mixed));
  this->judge(Packed<X, f16>(config(6, 2, 20), mixed));
}

TYPED_TEST(Attention, OfTheBatchsOwnRowsIsThatOfPages) {
  for (const bool causal : {true, false}) {
    auto c = config(6, 2, 20);
    c.causal = causal;
    const typename TestFixture::Uncached packed(c, prompts);
    this->judge(packed, {.paged = false});
    EXPECT_EQ(packed.run({.paged = false}), packed.run());
  }
}

// A head of one channel is padded to four, and so many columns has the batch.
TYPED_TEST(Attention, OfRowsAsWideAsAPaddedHeadIsItsFormula) {
  this->judge(typename TestFixture::Uncached(config(2, 1, 1), prompts), {.paged = false});
}

TYPED_TEST(Attention, RoundsToItsStorageType) {
  const typename TestFixture::Cached packed(config(4, 2, 16), mixed);
  expect_rounded_to<typename TestFixture::X>(packed.run(), packed.expected());
}

TYPED_TEST(Attention, TheReferenceTellsEveryMechanismFromItsNeighbour) {
  auto c = config(2, 1, 16, 7);
  c.softcap = 5;
  const typename TestFixture::Cached packed(c, mixed, slopes(2));
  const auto expected = packed.expected();
  const auto differs = [&](auto&& change) {
    auto other = packed;
    change(other);
    return worst_error(other.run(), expected) > 1;
  };
  EXPECT_FALSE(differs([](auto&) {}));
  EXPECT_TRUE(differs([](auto& o) { o.config.window = 8; }));
  EXPECT_TRUE(differs([](auto& o) { o.config.softcap = 6; }));
  EXPECT_TRUE(differs([](auto& o) { o.config.scale *= 1.05F; }));
  EXPECT_TRUE(differs([](auto& o) { std::swap(o.alibi[0], o.alibi[1]); }));
  EXPECT_TRUE(differs([](auto& o) {
    o.config.window = 0;
    o.config.causal = false;
  }));
}

/// A batch, its sequences alone, and tiles that are split over their keys or not.
TYPED_TEST(Attention, ATokensBitsDependOnItsOwnSequenceAlone) {
  for (const int window : {0, 600}) {
    for (const bool plain : {false, true}) {
      auto sequences = mixed;
      sequences.insert(sequences.end(), long_pasts.begin(), long_pasts.end());
      const How how{.plain = plain}, whole{.plain = plain, .split = false};
      const typename TestFixture::Cached batch(config(6, 2, 12, window), sequences, slopes(6));
      const auto all = batch.run(how);
      EXPECT_EQ(all, batch.run(whole));
      const auto sums = batch.lse;
      std::size_t first = 0;
      Index merged = 0, token = 0;
      for (std::size_t s = 0; s < sequences.size(); ++s) {
        const typename TestFixture::Cached single(config(6, 2, 12, window), {sequences[s]}, slopes(6),
                                                  static_cast<Index>(s));
        for (const auto& run : {how, whole}) {
          const auto alone = single.run(run);
          EXPECT_TRUE(std::ranges::equal(alone, std::span(all).subspan(first, alone.size()))) << "sequence " << s;
          for (Index h = 0; h < 6; ++h)
            EXPECT_EQ(single.lse[static_cast<std::size_t>(h * single.tokens)],
                      sums[static_cast<std::size_t>(h * batch.tokens + token)]);
          merged += single.merged;
        }
        first += static_cast<std::size_t>(single.tokens * 6 * 12);
        token += single.tokens;
      }
      if (Exec().concurrency() > 1) {
        EXPECT_GT(merged, 0) << "no tile was split";
      }
    }
  }
}

/// The last token of a sequence, computed with the others or after them.
TYPED_TEST(Attention, ATokensBitsDependNotOnHowItsSequenceCame) {
  for (const int window : {0, 90}) {
    for (const int dim : {6, 12}) {
      for (const int length : {1, 66, 575, 697}) {
        const typename TestFixture::Cached together(config(6, 2, dim, window), {{0, length}});
        auto last = together;
        last.sequences = {{length - 1, 1}};
        last.tokens = 1;
        last.q.erase(last.q.begin(), last.q.end() - 6 * dim);
        for (const bool plain : {false, true}) {
          const How how{.plain = plain};
          const auto all = together.run(how), one = last.run(how);
          EXPECT_TRUE(std::ranges::equal(one, std::span(all).last(static_cast<std::size_t>(6 * dim))))
              << (plain ? "plain, " : "") << "window " << window << ", head_dim " << dim << ", length " << length;
        }
      }
    }
  }
}

/// Few rows may be computed by another kernel than a prompt's; heads as wide as vectors, with tails of keys.
TYPED_TEST(Attention, OfFewRowsIsItsFormulaAndHasTheBitsOfMany) {
  using Cached = typename TestFixture::Cached;
  for (const int group : {1, 3, 8}) {
    for (const int dim : {16, 64, 80, 96}) {
      for (const bool all_mechanisms : {false, true}) {
        auto c = config(2 * group, 2, dim, all_mechanisms ? 555 : 0);
        if (all_mechanisms) c.softcap = 3;
        const Cached together(c, {{0, 701}},  // whose last tile has more than 8 rows, whose last page an odd key
                              all_mechanisms ? slopes(c.heads) : std::vector<float>{});
        auto last = together;
        last.sequences = {{700, 1}};
        last.tokens = 1;
        last.q.erase(last.q.begin(), last.q.end() - c.heads * dim);
        SCOPED_TRACE(testing::Message() << "group " << group << ", head_dim " << dim << ", all " << all_mechanisms);
        this->judge(last);
        const auto all = together.run({}), one = last.run({});
        EXPECT_TRUE(std::ranges::equal(one, std::span(all).last(one.size())));
      }
    }
  }
}

TYPED_TEST(Attention, TheSameInputGivesTheSameBits) {
  const typename TestFixture::Cached packed(config(6, 2, 16), long_pasts);
  for (const bool plain : {false, true}) EXPECT_EQ(packed.run({.plain = plain}), packed.run({.plain = plain}));
}

TYPED_TEST(Attention, ExtremeScoresPickTheirKeyAndEqualOnesShare) {
  using X = typename TestFixture::X;
  for (const bool plain : {false, true}) {
    const How how{.plain = plain};
    typename TestFixture::Cached packed(config(1, 1, 4), {{99, 1}});
    std::ranges::fill(packed.q, 1e9F);
    for (Index key = 0; key < 100; ++key)
      for (std::size_t c = 0; c < 4; ++c) packed.k[0][packed.at(0, key) + c] = key == 70 ? 1e9F : -1e9F;
    const auto picked = packed.run(how);
    for (std::size_t c = 0; c < 4; ++c) EXPECT_EQ(picked[c], static_cast<float>(X(packed.v[0][packed.at(0, 70) + c])));

    std::ranges::fill(packed.k[0], -1e9F);
    const auto shared = packed.run(how);
    for (std::size_t c = 0; c < 4; ++c) {
      double mean = 0, magnitude = 0;
      for (Index key = 0; key < 100; ++key) {
        const double value = packed.v[0][packed.at(0, key) + c] / 100;
        mean += value;
        magnitude += std::abs(value);
      }
      EXPECT_NEAR(shared[c], mean, magnitude * 200 * float_rounding + 1.001 * rounding<X> * std::abs(mean));
    }
  }
}

TYPED_TEST(Attention, ABrokenKeyBreaksTheTokensThatSeeItAndNoOthers) {
  for (const int dim : {4, 32}) {
    for (const bool plain : {false, true}) {
      const How how{.plain = plain};
      const typename TestFixture::Cached sound(config(1, 1, dim), {{10, 1500}, {0, 5}, {63, 1}});
      auto broken = sound;
      broken.k[0][broken.at(0, 50)] = std::nanf("");
      broken.k[2][broken.at(2, 50)] = std::nanf("");
      const auto before = sound.run(how), after = broken.run(how);
      for (std::size_t i = 0; i < before.size(); ++i) {
        const std::size_t token = i / static_cast<std::size_t>(dim);
        if ((token >= 40 && token < 1500) || token == 1505) {
          EXPECT_TRUE(std::isnan(after[i])) << "token " << token << " hides a NaN";
        } else {
          EXPECT_EQ(after[i], before[i]) << "token " << token;
        }
      }
    }
  }
}

TYPED_TEST(Attention, OfNoSequencesIsNothing) {
  EXPECT_TRUE(typename TestFixture::Cached(config(2, 1, 4), {}).run().empty());
}

/// All chunks of every tile are worked on once, by whichever items.
TEST(AttentionPlans, CoverEveryChunkOnceMostExpensiveFirst) {
  const auto c = config(6, 2, 12);
  const std::vector<int> begin{0, 1, 2, 300}, length{5000, 100, 298};
  const AttentionLimits limits{300, 3, 5398};
  std::vector<AttentionItem> items(static_cast<std::size_t>(max_attention_items(c, limits))), merges(items.size());
  const auto plan = plan_attention(c, limits, begin, length, items.data(), merges.data());
  EXPECT_LE(plan.partials, attention_partials(limits));
  std::vector<int> seen(static_cast<std::size_t>(4999 / attention_chunk + 1));
  for (Index i = 0; i < plan.items; ++i) {
    const auto& item = items[static_cast<std::size_t>(i)];
    if (item.sequence == 0)
      for (int chunk = item.chunk; chunk < item.chunk + item.chunks; ++chunk) ++seen[static_cast<std::size_t>(chunk)];
  }
  EXPECT_EQ(seen, std::vector<int>(seen.size(), 1));
  // The long one is cut into as many items as there are workers, and a device has hundreds.
  EXPECT_EQ(items[0].sequence, host_reaches_memory ? 0 : 2);
}

TEST(AttentionProviders, EndWithThePortableOne) {
  const auto providers = attention_providers();
  EXPECT_EQ(providers.back().name, "portable");
  EXPECT_TRUE(providers.back().batch_invariant);
}

TEST(AttentionShapes, ThatDisagreeAreNamed) {
  const Buffer<float> q("q", 16), out("out", 16), more("more", 16);
  const auto message = [&](const AttentionConfig& c, View2<float> lse = {}, Index scratch = 16) -> std::string {
    try {
      layers::attention(Exec(), c, as_const(q.view(2, 8)), {.row_stride = 100}, {}, View1<float>(more.data(), scratch),
                        out.view(2, 8), lse);
      return "no error";
    } catch (const ShapeError& error) {
      return error.what();
    }
  };
  const std::string rest = " do not go with q [2, 8], out [2, 8]";
  EXPECT_EQ(message(config(4, 2, 4)), "attention: 4 heads of 4 and 2 KV heads" + rest);
  EXPECT_EQ(message(config(3, 2, 4)), "attention: 3 heads of 4 and 2 KV heads" + rest);
  EXPECT_EQ(message(config(1, 2, 8)), "attention: 1 heads of 8 and 2 KV heads" + rest);
  EXPECT_EQ(message(config(2, 0, 4)), "attention: 2 heads of 4 and 0 KV heads" + rest);
  EXPECT_EQ(message(config(2, 2, 4), more.view(2, 3)), "attention: lse [2, 3], expected [2, 2]");
  auto c = config(2, 2, 4, 3);
  c.causal = false;
  EXPECT_EQ(message(c), "attention: a window of 3 keys, expected 0 (all), or 1 or more where attention is causal");
  c = config(2, 2, 4);
  c.alibi_slopes = as_const(View1<float>(more.data(), 3));
  EXPECT_EQ(message(c), "attention: alibi_slopes [3], expected [2]");
}

}  // namespace
