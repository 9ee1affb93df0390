// The paged cache: who has which page, what is given back, what going back leaves; and the batch that reads and writes
// it.
#include <grist/core/errors.hpp>
#include <grist/layers/attention.hpp>
#include <grist/model/batch.hpp>

#include <support/kv_rows.hpp>
#include <support/refuses.hpp>
#include <support/views.hpp>

#include <numeric>
#include <set>

namespace {

using namespace grist;
using namespace grist::test;

constexpr int window = 100;
/// Layers of two windows; what they hold differs.
const std::vector<KvLayer> layers_of_a_model{{2, 6, window}, {2, 6, 0}, {1, 4, window}};

PagedKv cache(const KvLimits& limits, KvType type = KvType::f32) { return {type, layers_of_a_model, {0, 3}, limits}; }

int pages_of(const KvSequence& sequence, int pool) { return static_cast<int>(sequence.pages(pool).size()); }

TEST(PagedKv, LayersOfOneWindowShareAPool) {
  const auto kv = cache({.tokens = 640});
  EXPECT_EQ(kv_pool_windows(layers_of_a_model), (std::vector<int>{window, 0}));
  EXPECT_EQ(kv.pools(), 2);
  EXPECT_EQ(kv.pool_of(0), kv.pool_of(2));
  EXPECT_NE(kv.pool_of(0), kv.pool_of(1));
}

TEST(PagedKv, ASequenceTakesThePagesOfItsLengthAndGivesThemBack) {
  auto kv = cache({.tokens = 640});
  KvSequence sequence;
  ASSERT_TRUE(kv.reserve(sequence, 65));
  EXPECT_EQ(pages_of(sequence, 1), 2);
  EXPECT_EQ(kv.free_pages(1), kv.pages(1) - 2);
  ASSERT_TRUE(kv.reserve(sequence, 128));
  EXPECT_EQ(pages_of(sequence, 1), 2);
  EXPECT_EQ(sequence.length(), 128);
  kv.release(sequence);
  EXPECT_EQ(kv.free_pages(1), kv.pages(1));
  EXPECT_EQ(sequence.length(), 0);
}

TEST(PagedKv, NoPageHasTwoOwners) {
  auto kv = cache({.tokens = 1000, .sequences = 3});
  std::vector<KvSequence> sequences(3);
  for (const int length : {100, 200, 300})
    for (auto& sequence : sequences) ASSERT_TRUE(kv.reserve(sequence, length));
  for (int pool = 0; pool < kv.pools(); ++pool) {
    std::set<int> pages;
    std::size_t count = 0;
    for (const auto& sequence : sequences) {
      pages.insert(sequence.pages(pool).begin(), sequence.pages(pool).end());
      count += sequence.pages(pool).size();
    }
    EXPECT_EQ(pages.size(), count);
    EXPECT_EQ(kv.free_pages(pool), kv.pages(pool) - static_cast<int>(count));
  }
}

TEST(PagedKv, WhatDoesNotFitChangesNothing) {
  auto kv = cache({.tokens = 256});
  KvSequence first, second;
  ASSERT_TRUE(kv.reserve(first, 192));
  const int free = kv.free_pages(0);
  EXPECT_FALSE(kv.reserve(second, 65));
  EXPECT_EQ(second.length(), 0);
  EXPECT_EQ(kv.free_pages(0), free);
  EXPECT_TRUE(kv.reserve(second, 1));
  EXPECT_TRUE(kv.fits(256));
  EXPECT_FALSE(kv.fits(257));
}

TEST(PagedKv, AWindowsPagesAreGivenBackWhenNoLaterQuerySeesThem) {
  auto kv = cache({.tokens = 6400, .sequences = 1, .batch_tokens = 64});
  EXPECT_LT(kv.pages(0), 10) << "a window's pool does not grow with the context";
  KvSequence sequence;
  for (int length = 1; length <= 6400; length += length < 6300 ? 37 : 1) {
    const int query = sequence.length();
    ASSERT_TRUE(kv.reserve(sequence, length)) << length;
    EXPECT_EQ(sequence.first_page(0), std::max(0, query - window + 1) / kv_page_rows);
    EXPECT_EQ(sequence.first_page(1), 0);
  }
  kv.release(sequence);
  EXPECT_EQ(kv.free_pages(0), kv.pages(0));
}

TEST(PagedKv, GoingBackKeepsWhatIsStillThere) {
  auto kv = cache({.tokens = 640});
  KvSequence sequence;
  ASSERT_TRUE(kv.reserve(sequence, 90));
  EXPECT_EQ(kv.truncate(sequence, 100), 90);
  EXPECT_EQ(kv.truncate(sequence, 70), 70);
  EXPECT_EQ(pages_of(sequence, 0), 2);
  EXPECT_EQ(kv.truncate(sequence, 64), 64);
  EXPECT_EQ(pages_of(sequence, 0), 1);
  EXPECT_EQ(kv.truncate(sequence, 0), 0);
  EXPECT_EQ(kv.free_pages(0), kv.pages(0));
}

TEST(PagedKv, GoingBackBehindAWindowsLostKeysForgetsAll) {
  auto kv = cache({.tokens = 640});
  KvSequence sequence;
  for (const int length : {200, 300, 301}) ASSERT_TRUE(kv.reserve(sequence, length));
  ASSERT_EQ(sequence.first_page(0), 3);        // keys from 192 on
  EXPECT_EQ(kv.truncate(sequence, 295), 295);  // its query sees 196 ... 294
  EXPECT_EQ(kv.truncate(sequence, 290), 0);    // its query would see 191
  EXPECT_EQ(sequence.length(), 0);
  EXPECT_EQ(kv.free_pages(0), kv.pages(0));
  EXPECT_EQ(kv.free_pages(1), kv.pages(1));
}

TEST(PagedKv, StagesCountPagesAlikeAndHoldTheirOwnLayers) {
  const KvLimits limits{.tokens = 1000, .sequences = 2};
  const std::vector<KvLayer>& layers = layers_of_a_model;
  PagedKv first(KvType::bf16, layers, {0, 1}, limits), second(KvType::bf16, layers, {1, 3}, limits);
  for (int pool = 0; pool < 2; ++pool) EXPECT_EQ(first.pages(pool), second.pages(pool));
  const auto bytes = [&](Range held) { return PagedKv::bytes(KvType::bf16, layers, held, limits); };
  EXPECT_EQ(bytes({0, 1}) + bytes({1, 3}), bytes({0, 3}));
  EXPECT_EQ(bytes({0, 1}), 2ULL * 2 * 2 * 6 * 64 * static_cast<unsigned>(first.pages(0)));
}

/// What a batch needs for these layers.
std::vector<AttentionConfig> pools() {
  return {{.heads = 4, .kv_heads = 2, .head_dim = 6, .scale = 0.4F, .window = window},
          {.heads = 4, .kv_heads = 2, .head_dim = 6, .scale = 0.4F}};
}

/// Attention of one sequence's tokens, whose heads are all in rows [tokens, width].
class OneSequence {
public:
  static constexpr Index width = (4 + 2 * 2) * 6, out_width = 4 * 6;

  OneSequence(int layer, std::vector<float> rows)
      : layer_(layer),
        rows_(std::move(rows)),
        length_(static_cast<int>(std::ssize(rows_) / width)),
        ids_(static_cast<std::size_t>(length_), 7),
        config_(pools()[static_cast<std::size_t>(layer)]),
        limits_{.tokens = length_, .sequences = 2, .kv_tokens = 2 * length_},
        batch_(limits_, 1000, pools()),
        scratch_("scratch", attention_scratch(config_, limits_)) {}

  std::vector<float> whole() { return part({ids_}, nullptr); }
  /// In pieces, through a cache, some of whose pages another sequence has.
  std::vector<float> in_pieces(KvType type, const std::vector<int>& pieces) {
    auto kv = cache({.tokens = 2 * length_, .sequences = 2, .batch_tokens = 700}, type);
    KvSequence sequence, other;
    EXPECT_TRUE(kv.reserve(other, 70));  // takes the first pages
    std::vector<float> all;
    for (int at = 0; const int piece : pieces) {
      EXPECT_TRUE(kv.reserve(sequence, at + piece));
      const auto ids = std::span(ids_).first(static_cast<std::size_t>(piece));
      const auto out = part({ids, at, &sequence}, &kv);
      all.insert(all.end(), out.begin(), out.end());
      at += piece;
    }
    EXPECT_EQ(all.size(), static_cast<std::size_t>(length_ * out_width)) << "these are not all tokens";
    return all;
  }

private:
  std::vector<float> part(const BatchItem& item, const PagedKv* kv) {
    batch_.assign(Exec(), {&item, 1});
    const Index tokens = batch_.tokens();
    const auto first = rows_.begin() + item.position * width;
    const auto device = on_device<float>(std::vector<float>(first, first + tokens * width));
    const auto view = as_const(device.view(tokens, width));
    const Buffer<float> out("out", tokens * out_width);
    if (kv != nullptr) kv->append(Exec(), layer_, view, batch_);
    const auto keys =
        kv != nullptr ? kv->view(layer_, batch_) : layers::packed_kv(config_, view, batch_.query_begin());
    layers::attention(Exec(), config_, view, keys, batch_.packed(layer_), scratch_.view(), out.view(tokens, out_width));
    return on_host(out);
  }

  int layer_;
  std::vector<float> rows_;
  int length_;
  std::vector<int> ids_;
  AttentionConfig config_;
  AttentionLimits limits_;
  Batch batch_;
  Buffer<float> scratch_;
};

const std::vector<int> pieces{1, 63, 65, 200, 1, 1, 300, 5, 1, 600}, two_pieces{637, 600};
constexpr Index tokens_of_pieces = 1237;

template <class K>
std::vector<float> rows_as_stored() {
  return stored_rows<K>(normals("qkv", tokens_of_pieces * OneSequence::width), 6);
}

TEST(PagedKv, HoldsWhatAttentionReadsInEachType) {
  for (const int layer : {0, 1}) {
    const auto expect_equal = [&]<class K>(K) {
      OneSequence sequence(layer, rows_as_stored<K>());
      EXPECT_EQ(sequence.in_pieces(kv_type<K>, pieces), sequence.whole()) << name_of(kv_type<K>);
    };
    expect_equal(float());
    expect_equal(bf16());
    expect_equal(f16());
  }
}

/// Scales are multiplied with scores and weights instead of keys and values, so that sums are rounded otherwise.
TEST(PagedKv, HoldsInInt8WhatAttentionReadsWhateverItsPieces) {
  for (const int layer : {0, 1}) {
    OneSequence sequence(layer, rows_as_stored<std::int8_t>());
    const auto expected = sequence.whole(), cached = sequence.in_pieces(KvType::int8, pieces);
    EXPECT_EQ(cached, sequence.in_pieces(KvType::int8, two_pieces));
    for (std::size_t i = 0; i < cached.size(); ++i) EXPECT_NEAR(cached[i], expected[i], 1e-5);
  }
}

/// A key's numbers are off by s / 2 at most, s = max |k| / 127, and a score by d = scale |q|_1 s / 2. Then weights are
/// off by a factor e^(2 d) at most, and the result by (e^(2 d) - 1) max |v| and half a scale of values.
TEST(PagedKv, InInt8IsAsNearToFloatAsItsScalesSay) {
  const auto rows = normals("qkv", tokens_of_pieces * OneSequence::width);
  double sum_q = 0, key = 0, value = 0;  // the largest ones
  for (std::size_t at = 0; at < rows.size(); at += 6) {
    const auto head = std::span(rows).subspan(at, 6);
    const std::size_t number = at / 6 % 8;  // four of queries, two of keys, two of values
    double sum = 0;
    for (const float x : head) sum += std::abs(double{x});
    if (number < 4) sum_q = std::max(sum_q, sum);
    else (number < 6 ? key : value) = std::max<double>(number < 6 ? key : value, largest_of(head));
  }
  for (const int layer : {0, 1}) {
    const double d = double{pools()[static_cast<std::size_t>(layer)].scale} * sum_q * key / 127 / 2;
    const double bound = std::expm1(2 * d) * value + value / 127 / 2;
    OneSequence sequence(layer, rows);
    const auto expected = sequence.whole(), cached = sequence.in_pieces(KvType::int8, pieces);
    double worst = 0;
    for (std::size_t i = 0; i < cached.size(); ++i)
      worst = std::max(worst, std::abs(double{cached[i]} - double{expected[i]}));
    EXPECT_LE(worst, bound);
    EXPECT_GT(worst, value / 127 / 8) << "this was not stored as int8";
  }
}

/// What a cache of one head of 5 makes of a row: its integers and the scale.
std::pair<std::vector<int>, float> int8_of(const std::vector<float>& row) {
  PagedKv kv(KvType::int8, {{1, 5, 0}}, {0, 1}, {.tokens = 64});
  Batch batch({.tokens = 2, .sequences = 1, .kv_tokens = 64}, 1000, {{.head_dim = 5}});
  KvSequence sequence;
  EXPECT_TRUE(kv.reserve(sequence, 2));
  const std::vector<int> ids{1, 2};
  const BatchItem item{ids, 0, &sequence};
  batch.assign(Exec(), {&item, 1});
  std::vector<float> qkv(3 * 5, 7.0F);  // another token's
  qkv.insert(qkv.end(), 5, 0.0F);
  qkv.insert(qkv.end(), row.begin(), row.end());
  qkv.insert(qkv.end(), 5, 0.0F);
  const auto device = on_device<float>(qkv);
  kv.append(Exec(), 0, as_const(device.view(2, 15)), batch);
  Kokkos::fence("grist::test: rows for the host");
  const KvPages pages = kv.view(0, batch);
  const int page = sequence.pages(0)[0];
  std::vector<std::int8_t> bytes(64 * (5 + sizeof(float)));
  Kokkos::deep_copy(HostView<std::int8_t>(bytes.data(), bytes.size()),
                    View1<const std::int8_t>(static_cast<const std::int8_t*>(pages.keys) + page * pages.page_stride,
                                             bytes.size()));
  float scale = 0;
  std::memcpy(&scale, &bytes[64 * 5 + sizeof(float)], sizeof scale);
  return {std::vector<int>(bytes.begin() + 5, bytes.begin() + 10), scale};
}

TEST(PagedKv, RoundsARowOfInt8ByItsLargestNumber) {
  using Row = std::pair<std::vector<int>, float>;
  EXPECT_EQ(int8_of({127, -3, 0.4F, 0.6F, -127}), (Row{{127, -3, 0, 1, -127}, 1.0F}));
  EXPECT_EQ(int8_of({0, 0, 0, 0, 0}), (Row{{0, 0, 0, 0, 0}, 0.0F}));
  EXPECT_EQ(int8_of({-0x1.fcp107F, 0x1p100F, 0x1.8p101F, 0x1.fcp106F, 0x1p101F}),
            (Row{{-127, 0, 2, 64, 1}, 0x1p101F}))
      << "ties to even";
  for (const float size : {1.0F, 1e-35F, 1e37F}) {
    const std::vector<float> row{-0.7F * size, 0.31F * size, 0.002F * size, size, -0.5F * size};
    const auto [n, scale] = int8_of(row);
    for (std::size_t i = 0; i < 5; ++i)
      EXPECT_LE(std::abs(static_cast<double>(n[i]) * scale - row[i]), 0.5001 * scale) << row[i];
  }
  const auto [n, scale] = int8_of({1.8e-43F, -1.8e-43F, 0, 0, 0});  // its scale is one subnormal number, or none
  EXPECT_LE(std::abs(n[0] * scale), 1.8e-43F);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    for (std::size_t i = 0; i < 5; ++i) {
      std::vector<float> row{1, 2, 3, 4, 5};
      row[i] = -bad;
      EXPECT_TRUE(std::isnan(int8_of(row).second)) << "nothing hides " << bad;
    }
}

TEST(PagedKv, TakesInInt8AByteForANumberAndFourForARow) {
  const KvLimits limits{.tokens = 640};
  const std::vector<KvLayer> layers{{2, 128, 0}};
  const auto bytes = [&](KvType type) { return PagedKv::bytes(type, layers, {0, 1}, limits); };
  EXPECT_EQ(bytes(KvType::bf16), 2ULL * 640 * 2 * 128 * 2);
  EXPECT_EQ(bytes(KvType::int8), 2ULL * 640 * 2 * (128 + 4));
}

TEST(Batch, PacksItemsInTheirOrder) {
  auto kv = cache({.tokens = 640, .sequences = 2});
  Batch batch({.tokens = 10, .sequences = 2, .kv_tokens = 640}, 100, pools());
  KvSequence one, two;
  ASSERT_TRUE(kv.reserve(one, 66));
  ASSERT_TRUE(kv.reserve(two, 3));
  const std::vector<int> ids{5, 6, 7};
  const std::vector<BatchItem> items{{std::span(ids).first(1), 65, &one, true}, {ids, 0, &two}};
  batch.assign(Exec(), items);
  EXPECT_EQ(batch.tokens(), 4);
  EXPECT_EQ(batch.few(), 1);
  const auto host = [](View1<const int> view) {
    std::vector<int> values(view.size());
    Kokkos::deep_copy(HostView<int>(values.data(), values.size()), view);
    return values;
  };
  EXPECT_EQ(host(batch.ids()), (std::vector<int>{5, 5, 6, 7}));
  EXPECT_EQ(host(batch.positions()), (std::vector<int>{65, 0, 1, 2}));
  EXPECT_EQ(host(batch.last_rows()), (std::vector<int>{0, 3}));
  EXPECT_EQ(host(batch.query_begin()), (std::vector<int>{0, 1, 4}));
  EXPECT_EQ(host(batch.pages(1)), (std::vector<int>{one.pages(1)[0], one.pages(1)[1], two.pages(1)[0]}));
}

/// A graph that was recorded for one serves the other: what lies behind the partial results must not move.
TEST(Batch, PutsMemoryBehindPartialResultsWhereNoBatchMovesIt) {
  PagedKv kv(KvType::f32, {{1, 6, 0}}, {0, 1}, {.tokens = 2000});
  Batch batch({.tokens = 10, .sequences = 1, .kv_tokens = 2000}, 100, {{.heads = 1, .kv_heads = 1, .head_dim = 6}});
  KvSequence sequence;
  const std::vector<int> ids{5};
  const auto assigned = [&](int position) {
    EXPECT_TRUE(kv.reserve(sequence, position + 1));
    const BatchItem item{ids, position, &sequence, true};
    batch.assign(Exec(), {&item, 1});
    return batch.packed(0).partials;
  };
  const Index with_two = assigned(2 * attention_chunk - 1);
  EXPECT_EQ(assigned(2 * attention_chunk), with_two);
}

TEST(PagedKv, HasANumberThatNoOtherEverHas) {
  std::set<Index> numbers;
  for (int i = 0; i < 5; ++i) numbers.insert(cache({.tokens = 640}).number());
  EXPECT_EQ(numbers.size(), 5U);
  EXPECT_FALSE(numbers.contains(0)) << "that is no cache";
}

TEST(Batch, RefusesWhatDoesNotFitAndSaysWhich) {
  auto kv = cache({.tokens = 640, .sequences = 2});
  Batch batch({.tokens = 10, .sequences = 2, .kv_tokens = 640}, 100, pools());
  KvSequence sequence;
  ASSERT_TRUE(kv.reserve(sequence, 5));
  const std::vector<int> ids(11, 7), wrong{1, 100};
  const auto assign = [&](const std::vector<BatchItem>& items) {
    return [&batch, items] { batch.assign(Exec(), items); };
  };
  const auto some = std::span(ids).first(2);
  EXPECT_THAT(assign({}), Refuses<ShapeError>({"0 sequences, 1 to 2 fit"}));
  EXPECT_THAT(assign({{ids}}), Refuses<ShapeError>({"sequence 0 brings 11 tokens, 10 fit"}));
  EXPECT_THAT(assign({{some, 4, &sequence}}), Refuses<ShapeError>({"positions 4 to 5, 5 are reserved"}));
  EXPECT_THAT(assign({{some}, {some, 0, &sequence}}),
              Refuses<ShapeError>({"sequence 1 at position 0 has a cache, the first one has none"}));
  EXPECT_THAT(assign({{some}, {some, 0, nullptr, true}}), Refuses<ShapeError>({"sequence 1 is few"}));
  EXPECT_THAT(assign({{wrong}}),
              Refuses<InputError>({"sequence 0", "token id 100 is out of range, the vocabulary has 100"}));
  EXPECT_EQ(batch.tokens(), 0);
}

TEST(Batch, RefusesAPositionWhoseWindowWasGivenBack) {
  auto kv = cache({.tokens = 640});
  Batch batch({.tokens = 10, .sequences = 2, .kv_tokens = 640}, 100, pools());
  KvSequence sequence;
  for (const int length : {300, 301}) ASSERT_TRUE(kv.reserve(sequence, length));
  const std::vector<int> ids{7};
  const BatchItem item{ids, 200, &sequence};
  EXPECT_THAT(
      [&] {
        batch.assign(Exec(), {&item, 1});
      },
      Refuses<ShapeError>({"position 200 sees keys that were given back"}));
}

TEST(PagedKv, APageOfTwoSequencesIsFreeWhenBothHaveGivenItBack) {
  auto kv = cache({.tokens = 1000, .sequences = 3});
  KvSequence one, other;
  ASSERT_TRUE(kv.reserve(one, 200));
  ASSERT_TRUE(kv.share(other, one, 128));
  EXPECT_EQ(other.length(), 128);
  EXPECT_TRUE(std::ranges::equal(other.pages(1), one.pages(1).first(2)));
  kv.release(one);
  EXPECT_EQ(kv.free_pages(1), kv.pages(1) - 2);
  ASSERT_TRUE(kv.reserve(other, 300));
  kv.release(other);
  for (int pool = 0; pool < kv.pools(); ++pool) EXPECT_EQ(kv.free_pages(pool), kv.pages(pool));
}

TEST(PagedKv, APageOfTwoSequencesIsNotWrittenByOne) {
  auto kv = cache({.tokens = 1000, .sequences = 3});
  KvSequence one, other;
  ASSERT_TRUE(kv.reserve(one, 200));
  ASSERT_TRUE(kv.share(other, one, 128));
  EXPECT_EQ(kv.truncate(other, 100), 64) << "positions 100 ... 127 are one's too";
  EXPECT_EQ(kv.truncate(one, 190), 190);
  EXPECT_THROW(kv.share(other, one, 64), ShapeError) << "it has tokens";
}

}  // namespace
