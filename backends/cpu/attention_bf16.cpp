// Attention of queries in bf16 and of keys and values in bf16 or int8 on processors that multiply bf16: as
// cpu/attention.cpp, with products of pairs of bf16, summed in float. The integers of int8 are exact in bf16. Scores
// stay in float; the weights e^(s - m) of values, times the scales of int8, are rounded to bf16.
#include <grist/backends/cpu/attention_items.hpp>
#include <grist/backends/cpu/bf16_as_floats.hpp>

#include <algorithm>
#include <cstring>
#include <type_traits>

// Vector code for AVX-512 with products of bf16; on others, and on those that multiply bf16 as floats, this
// provider declines.
#define HWY_WANT_AVX3_ZEN4 1
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX2 | HWY_AVX3 | HWY_AVX3_DL | HWY_AVX10_2 | HWY_ALL_SVE | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE <grist/backends/cpu/attention_bf16.cpp>  // this file, once for each of them
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include <grist/backends/cpu/tile-inl.hpp>

HWY_BEFORE_NAMESPACE();
namespace grist::cpu::HWY_NAMESPACE {
namespace {

#if HWY_NATIVE_DOT_BF16 && HWY_TARGET <= HWY_AVX3 && !GRIST_BF16_AS_FLOATS
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
    constexpr int rows = rows_of<L>;
    for (int j = 0; j < count; j += rows)
      product<L, false>(words(k) + j * (channels / 2), channels / 2, 1, words(q), dim / 2, scale, s + j * L);
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
    constexpr int rows = rows_of<L>;
    const int inner = (count + 1) / 2;
    int c = 0;
    for (; c + rows <= channels; c += rows)
      product<L, true>(words(v) + c, 1, channels, words(p), inner, 1, o + c * L);
    for (; c < channels; c += 4)
      product<L, true, 4>(words(v) + c, 1, channels, words(p), inner, 1, o + c * L);
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

private:
  /// Rows of a product whose sums fit the registers.
  template <int L>
  static constexpr int rows_of = L == 64 ? 4 : 16;

  static std::uint32_t pair(bf16 low, bf16 high) { return low.bits | std::uint32_t{high.bits} << 16; }
  static const std::uint32_t* words(const float* from) { return reinterpret_cast<const std::uint32_t*>(from); }

  /// out [Rows, L] = scale a [Rows, inner] b [inner, L], or added to it, of pairs: a's (r, i) is at a[r * row_stride +
  /// i * stride].
  template <int L, bool Add, int Rows = rows_of<L>>
  static void product(const std::uint32_t* a, int row_stride, int stride, const std::uint32_t* b, int inner,
                      float scale, float* out) {
    constexpr int vectors = L / 16;
    Floats sums[Rows][vectors];
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sums[r][v] = Add ? floats_at(out + r * L + v * 16) : hn::Zero(floats);
    for (int i = 0; i < inner; ++i) {
      Pairs column[vectors];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) column[v] = pairs_at(b + i * L + v * 16);
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
      for (int v = 0; v < vectors; ++v) put(Add ? sums[r][v] : hn::Mul(sums[r][v], factor), out + r * L + v * 16);
  }
};

bool run(const Exec& exec, const AttentionCall& call) {
  const bool pairs_of_bf16 = call.kv.type == KvType::bf16 || call.kv.type == KvType::int8;
  if (call.type != DType::bf16 || !pairs_of_bf16 || call.config.head_dim % 2 != 0) return false;
  run_items<Bf16Tile>(exec, call);
  return true;
}
#else
bool run(const Exec&, const AttentionCall&) { return false; }
#endif

}  // namespace

bool run_attention_bf16(const Exec& exec, const AttentionCall& call) { return run(exec, call); }

}  // namespace grist::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace grist {
namespace cpu {
namespace {

HWY_EXPORT(run_attention_bf16);

bool run_by_best(const Exec& exec, const AttentionCall& call) {
  return HWY_DYNAMIC_DISPATCH(run_attention_bf16)(exec, call);
}

}  // namespace
}  // namespace cpu

AttentionProvider cpu_bf16_attention() { return {"cpu_bf16", true, cpu::run_by_best, cpu::items_scratch}; }

}  // namespace grist
#endif
