// The paged cache: who has which page, what is given back, what going back leaves; and the batch that reads and writes
// it.
#include <grist/core/errors.hpp>
#include <grist/layers/attention.hpp>
#include <grist/model/batch.hpp>

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

PagedKv cache(const KvLimits& limits, DType type = DType::f32) { return {type, layers_of_a_model, {0, 3}, limits}; }

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
  PagedKv first(DType::bf16, layers_of_a_model, {0, 1}, limits), second(DType::bf16, layers_of_a_model, {1, 3}, limits);
  for (int pool = 0; pool < 2; ++pool) EXPECT_EQ(first.pages(pool), second.pages(pool));
  const auto bytes = [&](Range held) { return PagedKv::bytes(DType::bf16, layers_of_a_model, held, limits); };
  EXPECT_EQ(bytes({0, 1}) + bytes({1, 3}), bytes({0, 3}));
  EXPECT_EQ(bytes({0, 1}), 2ULL * 2 * 2 * 6 * 64 * static_cast<unsigned>(first.pages(0)));
}

/// What a batch needs for these layers.
std::vector<AttentionConfig> pools() {
  return {{.heads = 4, .kv_heads = 2, .head_dim = 6, .scale = 0.4F, .window = window},
          {.heads = 4, .kv_heads = 2, .head_dim = 6, .scale = 0.4F}};
}

/// A sequence that comes in pieces, through the cache, is what it is at once without one.
template <class K>
void expect_pieces_equal_whole(int layer, const std::vector<int>& pieces) {
  const auto config = pools()[static_cast<std::size_t>(layer)];
  const int length = std::accumulate(pieces.begin(), pieces.end(), 0);
  const Index width = (4 + 2 * 2) * 6, out_width = 4 * 6;
  const AttentionLimits limits{.tokens = length, .sequences = 2, .kv_tokens = 2 * length};
  auto kv = cache({.tokens = 2 * length, .sequences = 2, .batch_tokens = 700}, dtype_of<K>);
  Batch batch(limits, 1000, pools());
  const auto qkv = stored<K>(normals("qkv", length * width));
  const std::vector<int> ids(static_cast<std::size_t>(length), 7);
  const Buffer<float> scratch("scratch", attention_scratch(config, limits));
  const auto run = [&](const std::vector<float>& rows, std::span<const BatchItem> items) {
    batch.assign(Exec(), items);
    const Index tokens = batch.tokens();
    const auto device = on_device<float>(rows);
    const auto view = as_const(device.view(tokens, width));
    const Buffer<float> out("out", tokens * out_width);
    if (batch.cached()) kv.append(Exec(), layer, view, batch);
    const auto keys = batch.cached() ? kv.view(layer, batch) : layers::packed_kv(config, view, batch.query_begin());
    layers::attention(Exec(), config, view, keys, batch.packed(layer), scratch.view(), out.view(tokens, out_width));
    return on_host(out);
  };
  const BatchItem all{ids};
  const auto whole = run(qkv, {&all, 1});
  KvSequence sequence, other;
  ASSERT_TRUE(kv.reserve(other, 70));  // takes the first pages
  int at = 0;
  for (const int piece : pieces) {
    ASSERT_TRUE(kv.reserve(sequence, at + piece));
    const BatchItem item{std::span(ids).first(static_cast<std::size_t>(piece)), at, &sequence};
    const auto out = run({qkv.begin() + at * width, qkv.begin() + (at + piece) * width}, {&item, 1});
    EXPECT_TRUE(std::ranges::equal(out, std::span(whole).subspan(static_cast<std::size_t>(at * out_width), out.size())))
        << "from position " << at;
    at += piece;
  }
}

TEST(PagedKv, HoldsWhatAttentionReadsInEachType) {
  for (const int layer : {0, 1}) {
    const std::vector<int> pieces{1, 63, 65, 200, 1, 1, 300, 5, 1, 600};
    expect_pieces_equal_whole<float>(layer, pieces);
    expect_pieces_equal_whole<bf16>(layer, pieces);
    expect_pieces_equal_whole<f16>(layer, pieces);
  }
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
  PagedKv kv(DType::f32, {{1, 6, 0}}, {0, 1}, {.tokens = 2000});
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
