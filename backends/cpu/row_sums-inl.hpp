// Sums of products of tokens and rows in registers, and where they go. Included once for each kind of processor, after
// hwy/foreach_target.h.
#include <grist/backends/cpu/row_products.hpp>

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>

#include <hwy/highway.h>

#include <grist/backends/cpu/block_vectors-inl.hpp>

#ifndef GRIST_PRODUCT_ROWS  // once for all processors
#define GRIST_PRODUCT_ROWS
namespace grist::cpu {
namespace {
/// TokenRows to float or to bf16, told apart where a product is written, so that the rest is compiled once.
struct ProductRows {
  const bf16* x;
  float* in_float;  // null where products are rounded
  bf16* rounded;
  Index at;  // of the first product
  Index tokens, x_stride, y_stride;

  explicit ProductRows(const TokenRows<bf16, float>& to) : ProductRows(to, to.y, nullptr) {}
  explicit ProductRows(const TokenRows<bf16, bf16>& to) : ProductRows(to, nullptr, to.y) {}

  void write(Index token, Index row, float product) const {
    const Index i = at + token * y_stride + row;
    if (in_float)
      in_float[i] = product;
    else
      rounded[i] = bf16(product);
  }
  [[nodiscard]] ProductRows from(Index token, Index row) const {
    ProductRows there = *this;
    there.x += token * x_stride;
    there.at += token * y_stride + row;
    there.tokens -= token;
    return there;
  }

private:
  template <class Y>
  ProductRows(const TokenRows<bf16, Y>& to, float* y, bf16* rounded_y)
      : x(to.x), in_float(y), rounded(rounded_y), at(0), tokens(to.tokens), x_stride(to.x_stride),
        y_stride(to.y_stride) {}
};
}  // namespace
}  // namespace grist::cpu
#endif

#if defined(GRIST_ROW_SUMS) == defined(HWY_TARGET_TOGGLE)
#ifdef GRIST_ROW_SUMS
#undef GRIST_ROW_SUMS
#else
#define GRIST_ROW_SUMS
#endif

HWY_BEFORE_NAMESPACE();
namespace grist::cpu::HWY_NAMESPACE {
namespace {

/// R rows of numbers on lines of the cache; bf16 would set them to zero.
template <int R, Index columns>
struct UnsetRows {
  bf16* row(int r) { return reinterpret_cast<bf16*>(bits[r]); }
  alignas(64) std::uint16_t bits[R][columns];
};

/// Calls f(integral constant n), 1 <= n <= most.
template <int most, class F>
HWY_INLINE void with_constant(Index n, F&& f) {
  [&]<int... i>(std::integer_sequence<int, i...>) HWY_ATTR {
    static_cast<void>(((n == i + 1 && (f(std::integral_constant<int, i + 1>()), true)) || ...));
  }(std::make_integer_sequence<int, most>());
}

/// Calls f(integral constant T, t) for tiles of T tokens, the first of which is t.
template <class F>
HWY_INLINE void for_tiles(Index tokens, F&& f) {
  Index t = 0;
  for (; t + token_tile <= tokens; t += token_tile) f(std::integral_constant<int, token_tile>(), t);
  if (t < tokens)
    with_constant<token_tile - 1>(tokens - t, [&]<int T>(std::integral_constant<int, T> left) HWY_ATTR { f(left, t); });
}

/// sums += token(t, k) times row(r, k), vectors of numbers from number k on, for each k below `columns`; ahead(k) is
/// called before each.
template <int T, int R, class Token, class Row, class Ahead>
HWY_INLINE void add_tile(Index columns, Token&& token, Row&& row, Ahead&& ahead, Floats (&sums)[T][R]) {
  for (Index k = 0; k < columns; k += lanes) {
    ahead(k);
    Bf16s rows[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) rows[r] = row(r, k);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const Bf16s numbers = token(t, k);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) sums[t][r] = add_products(numbers, rows[r], sums[t][r]);
    }
  }
}

#if HWY_TARGET <= HWY_AVX3
// Sums of lanes in the order of hn::ReduceSum: quarters 0 and 1, 2 and 3, both; of what is left lanes 0 and 3, 1 and
// 2, both.

/// The first two steps for four vectors, each in its quarter of the result.
HWY_INLINE Floats in_quarters(Floats a, Floats b, Floats c, Floats d) {
  const auto folded = [](Floats x, Floats y) HWY_ATTR {
    return Floats{_mm512_shuffle_f32x4(x.raw, y.raw, 0x88)} + Floats{_mm512_shuffle_f32x4(x.raw, y.raw, 0xdd)};
  };
  return folded(folded(a, b), folded(c, d));
}
/// The last two: each quarter of the result has the sums of the quarters of a, b, c, d.
HWY_INLINE Floats sums_of_quarters(Floats a, Floats b, Floats c, Floats d) {
  const auto folded = [](Floats x, Floats y) HWY_ATTR {
    return Floats{_mm512_shuffle_ps(x.raw, y.raw, 0x44)} + Floats{_mm512_shuffle_ps(x.raw, y.raw, 0xbb)};
  };
  const Floats ab = folded(a, b), cd = folded(c, d);
  return Floats{_mm512_shuffle_ps(ab.raw, cd.raw, 0x88)} + Floats{_mm512_shuffle_ps(ab.raw, cd.raw, 0xdd)};
}

/// Writes the products of four tokens and `count` rows: quarter t has those of token t.
template <int count>
HWY_INLINE void write_quarters(Floats products, const ProductRows& to) {
  if (to.in_float != nullptr) {
    alignas(64) float of[4][4];
    hn::Store(products, floats, of[0]);
    for (int t = 0; t < 4; ++t) std::memcpy(to.in_float + to.at + t * to.y_stride, of[t], count * sizeof(float));
  } else {
    // As the constructor of bf16 rounds; instructions that round to bf16 take small numbers for zeros.
    constexpr hn::RebindToUnsigned<decltype(floats)> u32;
    constexpr hn::Rebind<std::uint16_t, decltype(u32)> u16;
    const auto u = hn::BitCast(u32, products), high = hn::ShiftRight<16>(u);
    const auto half = hn::Add(hn::Set(u32, 0x7fff), hn::And(high, hn::Set(u32, 1)));
    const auto rounded = hn::ShiftRight<16>(hn::Add(u, half)), quiet_nan = hn::Or(high, hn::Set(u32, 0x40));
    const auto is_nan = hn::Gt(hn::And(u, hn::Set(u32, 0x7fffffff)), hn::Set(u32, 0x7f800000));
    alignas(32) std::uint16_t of[4][4];
    hn::Store(hn::TruncateTo(u16, hn::IfThenElse(is_nan, quiet_nan, rounded)), u16, of[0]);
    for (int t = 0; t < 4; ++t) std::memcpy(to.rounded + to.at + t * to.y_stride, of[t], count * sizeof(bf16));
  }
}
#endif

/// Writes the products of T tokens and R rows.
template <int T, int R>
HWY_INLINE void write_sums(const Floats (&sums)[T][R], const ProductRows& to) {
  constexpr int by_fours = HWY_TARGET <= HWY_AVX3 ? T / 4 * 4 : 0;
#if HWY_TARGET <= HWY_AVX3
#pragma GCC unroll 2
  for (int t = 0; t < by_fours; t += 4) {  // sums by sums: half the shuffles, and rounded together
    Floats rows[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) rows[r] = in_quarters(sums[t][r], sums[t + 1][r], sums[t + 2][r], sums[t + 3][r]);
    constexpr int whole = R / 4 * 4, left = R - whole;
#pragma GCC unroll 2
    for (int r = 0; r < whole; r += 4)
      write_quarters<4>(sums_of_quarters(rows[r], rows[r + 1], rows[r + 2], rows[r + 3]), to.from(t, r));
    if constexpr (left > 0) {
      const Floats* const last = rows + whole;
      write_quarters<left>(sums_of_quarters(last[0], last[1 % left], last[2 % left], last[3 % left]),
                           to.from(t, whole));
    }
  }
#endif
#pragma GCC unroll 8
  for (int t = by_fours; t < T; ++t)
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) to.write(t, r, hn::ReduceSum(floats, sums[t][r]));
}
template <int T, int R>
HWY_INLINE void clear(Floats (&sums)[T][R]) {
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sums[t][r] = hn::Zero(floats);
}

constexpr int sum_lanes = lanes / 2;  // a vector of floats
constexpr Index most_tokens = 32;     // whose sums are kept while rows go by in stretches
static_assert(most_tokens % token_tile == 0 && lanes <= packed_columns(1), "packed tiles are read as written");

/// Sums of some tokens and R rows, a vector each.
template <int R>
class KeptSums {
public:
  /// For T tokens from `token` on: add(sums) of the stretch [k, k + count) of rows of `columns` numbers; at their end
  /// the products are written.
  template <int T, class Add>
  HWY_INLINE void take_stretch(Index k, Index count, Index columns, Index token, const ProductRows& to, Add&& add) {
    Floats sums[T][R];
    if (k == 0)
      clear(sums);
    else
      load(token, sums);
    add(sums);
    if (k + count == columns)
      write_sums(sums, to.from(token, 0));
    else
      store(sums, token);
  }

private:
  template <int T>
  HWY_INLINE void load(Index token, Floats (&sums)[T][R]) const {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) sums[t][r] = hn::Load(floats, of[token + t][r]);
  }
  template <int T>
  HWY_INLINE void store(const Floats (&sums)[T][R], Index token) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) hn::Store(sums[t][r], floats, of[token + t][r]);
  }

  alignas(64) float of[most_tokens][R][sum_lanes];
};

/// Calls f(pass) for most_tokens tokens at a time.
template <class F>
HWY_INLINE void for_passes(const ProductRows& to, F&& f) {
  for (Index first = 0; first < to.tokens; first += most_tokens) {
    ProductRows pass = to.from(first, 0);
    pass.tokens = std::min(most_tokens, pass.tokens);
    f(pass);
  }
}

}  // namespace
}  // namespace grist::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
