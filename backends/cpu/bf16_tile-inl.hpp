// The small products inside attention as products of pairs of bf16, summed in float. Same contracts as cpu::Tile, of
// other layouts. For those kinds of processors that have them (GRIST_HAS_BF16_TILE); included once for each kind, after
// hwy/foreach_target.h.
#include <algorithm>
#include <cstring>
#include <type_traits>

#include <hwy/highway.h>

#include <grist/backends/cpu/bf16_as_floats.hpp>
#include <grist/backends/cpu/row_tile-inl.hpp>

#if defined(GRIST_BF16_TILE) == defined(HWY_TARGET_TOGGLE)
#ifdef GRIST_BF16_TILE
#undef GRIST_BF16_TILE
#else
#define GRIST_BF16_TILE
#endif

#define GRIST_HAS_BF16_TILE (HWY_NATIVE_DOT_BF16 && HWY_TARGET <= HWY_AVX3 && !GRIST_BF16_AS_FLOATS)
#if GRIST_HAS_BF16_TILE

HWY_BEFORE_NAMESPACE();
namespace grist::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

constexpr hn::FixedTag<float, 16> floats;
constexpr hn::Repartition<hwy::bfloat16_t, decltype(floats)> bf16s;
constexpr hn::Repartition<std::uint32_t, decltype(floats)> pairs;
using Floats = hn::Vec<decltype(floats)>;
using Bf16s = hn::Vec<decltype(bf16s)>;
using Pairs = hn::Vec<decltype(pairs)>;

HWY_INLINE Floats floats_at(const float* from) { return hn::LoadU(floats, from); }
HWY_INLINE Pairs pairs_at(const std::uint32_t* from) { return hn::LoadU(pairs, from); }
HWY_INLINE Floats floats_at(const std::int8_t* from) {
  constexpr hn::Rebind<std::int8_t, decltype(floats)> bytes;
  constexpr hn::Rebind<std::int32_t, decltype(floats)> words;
  return hn::ConvertTo(floats, hn::PromoteTo(words, hn::LoadU(bytes, from)));
}
HWY_INLINE Bf16s bf16s_at(const bf16* from) {
  return hn::LoadU(bf16s, reinterpret_cast<const hwy::bfloat16_t*>(from));
}
HWY_INLINE Bf16s bf16s_at(const std::int8_t* from) {
  return hn::OrderedDemote2To(bf16s, floats_at(from), floats_at(from + 16));
}
HWY_INLINE void put(Floats from, float* to) { hn::StoreU(from, floats, to); }

template <class T>
constexpr bool exact_in_bf16 = std::is_same_v<T, bf16> || std::is_same_v<T, std::int8_t>;

/// sums + a b, the two products of a pair in its lane.
HWY_INLINE Floats add_products(Pairs a, Pairs b, Floats sums) {
  Floats unused = hn::Zero(floats);
  return hn::ReorderWidenMulAccumulate(floats, hn::BitCast(bf16s, a), hn::BitCast(bf16s, b), sums, unused);
}

/// Pairs of bf16 of the lanes of two vectors.
HWY_INLINE Pairs rounded_pairs(Floats low, Floats high) {
  const auto both = hn::BitCast(hn::RebindToUnsigned<decltype(bf16s)>(), hn::OrderedDemote2To(bf16s, low, high));
  constexpr hn::RebindToUnsigned<decltype(bf16s)> words;
  alignas(64) static constexpr std::uint16_t order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                          8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return hn::BitCast(pairs, hn::TableLookupLanes(both, hn::SetTableIndices(words, order)));
}

/// e^x for x <= 0, as cpu::exp_negative.
HWY_INLINE Floats exp_negative(Floats x) {
  const auto set = [](float value) HWY_ATTR { return hn::Set(floats, value); };
  const auto low = hn::Lt(x, set(-87.0F));  // NaN is not
  const Floats clamped = hn::IfThenElse(low, set(-87.0F), x);
  const Floats shifted = hn::MulAdd(clamped, set(1.44269504F), set(12582912.0F));  // rounds to an integer
  const Floats n = hn::Sub(shifted, set(12582912.0F));
  const Floats r = hn::MulAdd(n, set(2.12194440e-4F), hn::MulAdd(n, set(-0.693359375F), clamped));
  Floats p = set(1.9875691500e-4F);
  for (const float c : {1.3981999507e-3F, 8.3334519073e-3F, 4.1665795894e-2F, 1.6666665459e-1F, 5.0000001201e-1F})
    p = hn::MulAdd(p, r, set(c));
  p = hn::Add(hn::MulAdd(hn::Mul(p, r), r, r), set(1.0F));
  const Pairs exponent = hn::ShiftLeft<23>(hn::Add(hn::BitCast(pairs, shifted), hn::Set(pairs, 127U - 0x4B400000U)));
  const Floats result = hn::Mul(p, hn::BitCast(floats, exponent));
  return hn::IfThenZeroElse(low, result);
}

HWY_INLINE std::uint32_t pair(bf16 low, bf16 high) { return low.bits | std::uint32_t{high.bits} << 16; }
HWY_INLINE const std::uint32_t* words(const float* from) { return reinterpret_cast<const std::uint32_t*>(from); }

/// Rows of a product whose sums fit the registers.
template <int L>
constexpr int pair_rows = L == 64 ? 4 : 16;

/// out [Rows, L] = scale a [Rows, inner] b [inner, L], or added to it, of pairs: a's (r, i) is at a[r * row_stride +
/// i * stride].
template <int L, bool Add, int Rows = pair_rows<L>>
void pair_product(const std::uint32_t* a, int row_stride, int stride, const std::uint32_t* b, int inner,
                  float scale, float* out, int b_stride = L, int out_stride = L) {
  constexpr int vectors = L / 16;
  Floats sums[Rows][vectors];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) sums[r][v] = Add ? floats_at(out + r * out_stride + v * 16) : hn::Zero(floats);
  for (int i = 0; i < inner; ++i) {
    Pairs column[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) column[v] = pairs_at(b + i * b_stride + v * 16);
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) {
      const Pairs factor = hn::Set(pairs, a[r * row_stride + i * stride]);
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sums[r][v] = add_products(factor, column[v], sums[r][v]);
    }
  }
  const Floats factor = hn::Set(floats, scale);
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v)
      put(Add ? sums[r][v] : hn::Mul(sums[r][v], factor), out + r * out_stride + v * 16);
}

/// cpu::Tile, with queries, keys and values as pairs of bf16 in the place of floats: queries [dim / 2, L] and keys
/// [keys, channels / 2] of neighbouring channels, weights [keys / 2, L] and values [keys / 2, channels] of neighbouring
/// keys. head_dim is even.
struct Bf16Tile : Tile {
  template <int L, class Team, class From>
  static void load_queries(const Team&, int dim, float, const From& from, float* q) {
    auto* const to = reinterpret_cast<std::uint32_t*>(q);
    for (int l = 0; l < L; ++l) {
      const auto* const elements = from(l);
      for (int c = 0; c < dim; c += 2) to[c / 2 * L + l] = pair(bf16(elements[c]), bf16(elements[c + 1]));
    }
  }

  template <class Team, class T>
  static void load_keys(const Team&, const T* from, Index stride, int rows, int width, int channels, float* to) {
    const int row_pairs = channels / 2, all = (rows + 15) / 16 * 16;
    auto* const keys = reinterpret_cast<std::uint32_t*>(to);
    for (int r = 0; r < rows; ++r) {
      const T* const row = from + r * stride;
      int c = 0;
      if constexpr (exact_in_bf16<T>)
        for (; c + 32 <= width; c += 32)
          hn::StoreU(bf16s_at(row + c), bf16s, reinterpret_cast<hwy::bfloat16_t*>(keys + r * row_pairs + c / 2));
      for (; c < width; c += 2) keys[r * row_pairs + c / 2] = pair(bf16(row[c]), bf16(row[c + 1]));
      for (; c < channels; c += 2) keys[r * row_pairs + c / 2] = 0;
    }
    std::fill(keys + rows * row_pairs, keys + all * row_pairs, 0U);
  }

  template <class Team, class T>
  static void load_values(const Team&, const T* from, Index stride, int rows, int width, int channels, float* to) {
    auto* const values = reinterpret_cast<std::uint32_t*>(to);
    const bf16 none(0.0F);
    for (int r = 0; r < rows; r += 2) {
      const T* const first = from + r * stride;
      const T* const second = r + 1 < rows ? first + stride : nullptr;
      std::uint32_t* const row = values + r / 2 * channels;
      int c = 0;
      if constexpr (std::is_same_v<T, std::int8_t>)
        for (; c + 16 <= width; c += 16)
          hn::StoreU(rounded_pairs(floats_at(first + c), second != nullptr ? floats_at(second + c) : hn::Zero(floats)),
                     pairs, row + c);
      for (; c < width; ++c) row[c] = pair(bf16(first[c]), second != nullptr ? bf16(second[c]) : none);
      std::fill(row + width, row + channels, 0U);
    }
  }

  template <int L, class Team>
  static void query_scores(const Team&, const float* k, int channels, int count, const float* q, int dim, float scale,
                           float* s) {
    constexpr int rows = pair_rows<L>;
    for (int j = 0; j < count; j += rows)
      pair_product<L, false>(words(k) + j * (channels / 2), channels / 2, 1, words(q), dim / 2, scale, s + j * L);
  }

  template <int L, class Team>
  static void softmax(const Team&, float* s, int count, const float* factors, float* m, float* sum,
                      float* correction) {
    auto* const weights = reinterpret_cast<std::uint32_t*>(s);
    for (int l = 0; l < L; l += 16) {
      const Floats before = floats_at(m + l);
      Floats highest = before;
      for (int j = 0; j < count; ++j) highest = hn::Max(highest, floats_at(s + j * L + l));
      const Floats corrected = exp_negative(hn::Sub(before, highest));
      Floats added = hn::Zero(floats);
      for (int j = 0; j < count; j += 2) {
        Floats first = exp_negative(hn::Sub(floats_at(s + j * L + l), highest)), second = hn::Zero(floats);
        if (j + 1 < count) second = exp_negative(hn::Sub(floats_at(s + (j + 1) * L + l), highest));
        added = hn::Add(added, hn::Add(first, second));
        if (factors != nullptr) {
          first = hn::Mul(first, hn::Set(floats, factors[j]));
          if (j + 1 < count) second = hn::Mul(second, hn::Set(floats, factors[j + 1]));
        }
        hn::StoreU(rounded_pairs(first, second), pairs, weights + j / 2 * L + l);
      }
      put(highest, m + l);
      put(corrected, correction + l);
      put(hn::MulAdd(floats_at(sum + l), corrected, added), sum + l);
    }
  }

  template <int L, class Team>
  static void accumulate(const Team&, const float* v, int channels, int count, const float* p, const float* correction,
                         float* o) {
    for (int l = 0; l < L; l += 16) {
      const Floats factor = floats_at(correction + l);
      for (int c = 0; c < channels; ++c) put(hn::Mul(floats_at(o + c * L + l), factor), o + c * L + l);
    }
    constexpr int rows = pair_rows<L>;
    const int inner = (count + 1) / 2;
    int c = 0;
    for (; c + rows <= channels; c += rows)
      pair_product<L, true>(words(v) + c, 1, channels, words(p), inner, 1, o + c * L);
    for (; c < channels; c += 4)
      pair_product<L, true, 4>(words(v) + c, 1, channels, words(p), inner, 1, o + c * L);
  }

  template <int L, class Team, class To>
  static void store_rows(const Team& team, int count, int dim, const attention_kernel::Result& total, const To& to) {
    using X = std::remove_reference_t<decltype(*to(0))>;
    if constexpr (!std::is_same_v<X, bf16>) {
      Tile::store_rows<L>(team, count, dim, total, to);
    } else {
      auto* const rounded = reinterpret_cast<std::uint32_t*>(total.o);  // [dim / 2, L], over the floats
      for (int l = 0; l < L; l += 16) {
        const Floats sum = floats_at(total.sum + l);
        const auto weighted = [&](int c) HWY_ATTR { return hn::Div(floats_at(total.o + c * L + l), sum); };
        for (int c = 0; c < dim; c += 2)
          hn::StoreU(rounded_pairs(weighted(c), weighted(c + 1)), pairs, rounded + c / 2 * L + l);
      }
      for (int l = 0; l < count; ++l)
        for (int c = 0; c < dim; c += 2)
          std::memcpy(static_cast<void*>(to(l) + c), rounded + c / 2 * L + l, sizeof(std::uint32_t));
    }
  }
};

/// cpu::RowTile of pairs, with the bits of Bf16Tile: queries [R, dim / 2] and keys [channels / 2, keys] of neighbouring
/// channels, weights [R, keys / 2] and values [keys / 2, channels] of neighbouring keys. dim is a multiple of 32.
template <int R>
struct Bf16RowTile : RowTile<R> {
  using Rows = RowTile<R>;
  using Rows::row_keys;

  template <int L, class Team, class From>
  static void load_queries(const Team&, int dim, float, const From& from, float* q) {
    auto* const to = reinterpret_cast<std::uint32_t*>(q);
    for (int r = 0; r < R; ++r) {
      const auto* const elements = from(r);
      for (int c = 0; c < dim; c += 2) to[(r * dim + c) / 2] = pair(bf16(elements[c]), bf16(elements[c + 1]));
    }
  }

  template <class Team, class T>
  static void load_keys(const Team&, const T* from, Index stride, int rows, int, int channels, float* to) {
    for (int j = 0; j < rows; j += 16)
      for (int c = 0; c < channels; c += 32) {
        Lanes block[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i)
          block[i] = j + i < rows ? __builtin_bit_cast(Lanes, pairs_of(from + (j + i) * stride + c)) : Lanes{};
        transpose_block(block);
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) store(to + (c / 2 + i) * row_keys + j, block[i]);
      }
  }

  template <class Team, class T>
  static void load_values(const Team& team, const T* from, Index stride, int rows, int width, int channels, float* to) {
    Bf16Tile::load_values(team, from, stride, rows, width, channels, to);
  }

  template <int L, class Team>
  static void query_scores(const Team&, const float* k, int, int count, const float* q, int dim, float scale,
                           float* s) {
    int j = 0;
    for (; j + width <= count; j += width) scores_from<width>(k + j, q, dim, scale, s + j);
    for (; j < count; j += 16) scores_from<16>(k + j, q, dim, scale, s + j);
  }

  template <int L, class Team>
  static void softmax(const Team& team, float* s, int count, const float* factors, float* m, float* sum,
                      float* correction) {
    alignas(64) float highest[16] = {};
    float added[R] = {};
    const auto end_pairs = [=] {  // the second of the last pair, where there is none
      for (int r = 0; r < R && count % 2 != 0; ++r) s[r * row_keys + count] = 0;
    };
    for (int r = 0; r < R; ++r) {
      float* const row = s + r * row_keys;
      std::fill(row + count, row + (count + 15) / 16 * 16, attention_kernel::masked);
      Floats most = hn::Set(floats, m[r]);
      for (int j = 0; j < count; j += 16) most = hn::Max(most, floats_at(row + j));
      highest[r] = hn::ReduceMax(floats, most);
      for (int j = 0; j < count; j += 16)
        put(exp_negative(hn::Sub(floats_at(row + j), hn::Set(floats, highest[r]))), row + j);
    }
    end_pairs();
    for (int j = 0; j < count; j += 2)
      for (int r = 0; r < R; ++r) added[r] += s[r * row_keys + j] + s[r * row_keys + j + 1];
    if (factors != nullptr) {
      Rows::template scale_rows<L>(team, s, count, factors);
      end_pairs();  // what was behind the factors
    }
    for (int r = 0; r < R; ++r) {
      auto* const weights = reinterpret_cast<hwy::bfloat16_t*>(s + r * row_keys);
      for (int j = 0; j < count; j += 32) {
        const float* const row = s + r * row_keys + j;
        hn::StoreU(hn::OrderedDemote2To(bf16s, floats_at(row), floats_at(row + 16)), bf16s, weights + j);
      }
    }
    put(exp_negative(hn::Sub(floats_at(m), floats_at(highest))), correction);
    for (int r = 0; r < R; ++r) {
      m[r] = highest[r];
      const auto all = [](float value) HWY_ATTR { return hn::Set(floats, value); };
      sum[r] = hn::GetLane(hn::MulAdd(all(sum[r]), all(correction[r]), all(added[r])));
    }
  }

  template <int L, class Team>
  static void accumulate(const Team&, const float* v, int channels, int count, const float* p, const float* correction,
                         float* o) {
    for (int r = 0; r < R; ++r)
      for (int c = r * channels; c < (r + 1) * channels; c += 16)
        put(hn::Mul(floats_at(o + c), hn::Set(floats, correction[r])), o + c);
    const int inner = (count + 1) / 2;
    int c = 0;
    for (; c + width <= channels; c += width)
      pair_product<width, true, R>(words(p), row_keys, 1, words(v) + c, inner, 1, o + c, channels, channels);
    for (; c < channels; c += 16)
      pair_product<16, true, R>(words(p), row_keys, 1, words(v) + c, inner, 1, o + c, channels, channels);
  }

  template <int L, class Team, class To>
  static void store_rows(const Team& team, int count, int dim, const attention_kernel::Result& total, const To& to) {
    using X = std::remove_reference_t<decltype(*to(0))>;
    if constexpr (!std::is_same_v<X, bf16>) {
      Rows::template store_rows<L>(team, count, dim, total, to);
    } else {
      for (int r = 0; r < count; ++r) {
        const Floats sum = hn::Set(floats, total.sum[r]);
        const auto weighted = [&](int c) HWY_ATTR { return hn::Div(floats_at(total.o + r * dim + c), sum); };
        auto* const elements = reinterpret_cast<hwy::bfloat16_t*>(to(r));
        for (int c = 0; c < dim; c += 32)
          hn::StoreU(hn::OrderedDemote2To(bf16s, weighted(c), weighted(c + 16)), bf16s, elements + c);
      }
    }
  }

private:
  static constexpr int width = R > 4 ? 32 : 64;  // of rows whose sums fit the registers

  template <int Width>
  static void scores_from(const float* k, const float* q, int dim, float scale, float* s) {
    pair_product<Width, false, R>(words(q), dim / 2, 1, words(k), dim / 2, scale, s, row_keys, row_keys);
  }

  template <class T>
  static Pairs pairs_of(const T* from) {
    if constexpr (exact_in_bf16<T>) {
      return hn::BitCast(pairs, bf16s_at(from));
    } else {
      std::uint32_t of[16];
      for (int i = 0; i < 16; ++i) of[i] = pair(bf16(from[2 * i]), bf16(from[2 * i + 1]));
      return pairs_at(of);
    }
  }
};

}  // namespace
}  // namespace grist::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
#endif
